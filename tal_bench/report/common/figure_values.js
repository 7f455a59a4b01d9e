/* Values under the pointer, and rows to switch on and off, in the figures of a page. Plain JavaScript, no network;
 * without it, browsers show the titles of an SVG by themselves and all rows are shown.
 *
 * Values: an element within an <svg> that has a <title> as its child, or the attribute data-values, shows this text
 * near the pointer, or after a tap. An <svg> with such elements takes the focus: the arrow keys go from one to the
 * next, and Escape hides the text.
 *
 * Rows: a checkbox of the class "row-switch" shows and hides the elements whose data-row is its value; buttons of
 * the class "all-rows" and "no-rows" set all of them; an element of the class "row-count" says how many are on.
 */
"use strict";
(() => {
  const REACH = 6; // pixels around the pointer at which a thin line still answers
  const tip = document.createElement("div");
  tip.className = "values";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  let current = null;

  const show = (element, x, y) => {
    if (current !== element) current?.classList.remove("current");
    current = element;
    element.classList.add("current");
    tip.textContent = element.dataset.values;
    tip.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight, view = document.documentElement;
    const left = Math.max(4, Math.min(x + 12, view.clientWidth - width - 4));
    const above = y - height - 12;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above > 4 ? above : y + 18) + scrollY}px`;
  };

  const hide = () => {
    current?.classList.remove("current");
    current = null;
    tip.hidden = true;
  };

  /** The element with values at a point or next to it; null if there is none. */
  const at = (x, y) => {
    for (const [dx, dy] of [[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]]) {
      const found = document.elementFromPoint(x + REACH * dx, y + REACH * dy)?.closest("[data-values]");
      if (found) return found;
    }
    return null;
  };

  const point = (event) => {
    const found = event.target.closest?.("svg.with-values") ? at(event.clientX, event.clientY) : null;
    if (found) show(found, event.clientX, event.clientY);
    else hide();
  };

  /** Elements of a figure that the arrow keys visit: those that are shown, and each text once. */
  const stops = (svg) => {
    const texts = new Set();
    return [...svg.querySelectorAll("[data-values]")].filter((element) => {
      const first = !texts.has(element.dataset.values) && element.getClientRects().length > 0;
      if (first) texts.add(element.dataset.values);
      return first;
    });
  };

  const step = (svg, by) => {
    const all = stops(svg);
    if (!all.length) return;
    const before = all.findIndex((element) => element.dataset.values === current?.dataset.values);
    const next = all[before < 0 ? (by > 0 ? 0 : all.length - 1) : (before + by + all.length) % all.length];
    const box = next.getBoundingClientRect();
    show(next, box.left + box.width / 2, box.top + Math.min(box.height / 2, 20));
  };

  const keys = (event) => {
    if (event.key === "Escape") hide();
    const svg = event.target.closest?.("svg.with-values");
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!svg || !by) return;
    event.preventDefault();
    step(svg, by);
  };

  /** Take the titles of the figures for the text near the pointer, so that it is not shown twice. */
  const prepare = () => {
    for (const title of document.querySelectorAll("svg g > title")) {
      title.parentElement.dataset.values = title.textContent;
      title.remove();
    }
    for (const svg of document.querySelectorAll("figure svg")) {
      if (!svg.querySelector("[data-values]")) continue;
      svg.classList.add("with-values");
      svg.setAttribute("tabindex", "0");
    }
  };

  const switchRows = () => {
    const boxes = [...document.querySelectorAll("input.row-switch")];
    const off = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
    for (const part of document.querySelectorAll("figure svg [data-row]")) {
      part.classList.toggle("off", off.has(part.dataset.row));
    }
    for (const count of document.querySelectorAll(".row-count")) {
      count.textContent = `${boxes.length - off.size} of ${boxes.length}`;
    }
    hide();
  };

  const start = () => {
    document.body.append(tip);
    prepare();
    for (const hidden of document.querySelectorAll(".needs-script")) hidden.hidden = false;
    for (const box of document.querySelectorAll("input.row-switch")) box.addEventListener("change", switchRows);
    for (const [selector, on] of [["button.all-rows", true], ["button.no-rows", false]]) {
      document.querySelector(selector)?.addEventListener("click", () => {
        for (const box of document.querySelectorAll("input.row-switch")) box.checked = on;
        switchRows();
      });
    }
    switchRows();
    document.addEventListener("pointermove", point);
    document.addEventListener("pointerdown", point);
    document.addEventListener("keydown", keys);
    document.addEventListener("focusout", hide);
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
