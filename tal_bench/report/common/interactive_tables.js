/* Tables that are sorted, filtered and opened row by row. Plain JavaScript, no network; a page is complete and
 * readable without it.
 *
 * Sorting: every <table class="sortable"> gets a button in each header of its first <thead> row. The first click
 * sorts numbers from the largest, texts from A; the next one reverses. A cell's value is its `data-value`, or else
 * its text: a leading number such as 54.5 of "54.5 ± 2.0" or "≈ +1.9 [−0.6, +4.3]". Cells without a value stay at
 * the bottom. Rows are sorted between two <tr class="group">, and a <tr class="details"> stays below its row.
 *
 * Filter: an <input>, <select> or checkbox with data-filter="ID of the table" and data-key="name" keeps the rows
 * whose `data-name` agrees: a search field the rows that contain all words; a <select> the rows that have the
 * value, of several separated by "|"; a number field the rows with at most this number. An empty field keeps all
 * rows. Headings of groups without rows are hidden. An <output data-count="ID"> says how many rows are shown.
 *
 * Details: a <tr class="details"> is hidden until its row is clicked, or the button in its row's first cell is
 * pressed; a row that is named by the address (#id) is open from the start.
 *
 * Elements of the class "needs-script" are hidden in the page and shown here.
 */
"use strict";
(() => {
  const MISSING = new Set(["", "–", "—", "-"]);
  const NUMBER = /^[≈~\s]*([+\-]?\d+(?:\.\d+)?(?:e[+\-]?\d+)?)/i;

  /** Value of a cell: a number, a text, or null if there is none. */
  const value = (cell) => {
    if (!cell) return null;
    const text = (cell.dataset.value ?? cell.textContent).trim().replaceAll("−", "-");
    if (MISSING.has(text)) return null;
    const number = NUMBER.exec(text);
    return number ? Number(number[1]) : text.toLowerCase();
  };

  /** Order of two values; numbers before texts, missing values last whatever the direction. */
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  };

  /** Runs of sortable rows of a table body, each row with the details below it. */
  const runs = (body) => {
    const found = [[]];
    for (const row of body.rows) {
      const last = found[found.length - 1];
      if (row.classList.contains("group")) found.push([]);
      else if (row.classList.contains("details") && last.length) last[last.length - 1].push(row);
      else last.push([row]);
    }
    return found.filter((run) => run.length);
  };

  const sort = (table, column, sign) => {
    for (const body of table.tBodies) {
      for (const run of runs(body)) {
        const end = run[run.length - 1].at(-1).nextSibling;
        const keyed = run.map((rows) => [value(rows[0].cells[column]), rows]);
        keyed.sort(([a], [b]) => compare(a, b, sign));
        for (const [, rows] of keyed) for (const row of rows) body.insertBefore(row, end);
      }
    }
  };

  const makeSortable = (table) => {
    const headers = [...(table.tHead?.rows[0]?.cells ?? [])];
    headers.forEach((header, column) => {
      if (!header.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      header.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const before = header.getAttribute("aria-sort");
        const values = [...table.tBodies].flatMap(runs).flat().map((rows) => value(rows[0].cells[column]));
        const ascendsFirst = values.some((v) => typeof v === "string");
        const ascending = before === "none" ? ascendsFirst : before === "descending";
        for (const other of headers) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sort(table, column, ascending ? 1 : -1);
      });
    });
  };

  /** Whether a row agrees with a filter. */
  const agrees = (row, field) => {
    const wanted = field.value.trim().toLowerCase();
    if (field.type === "checkbox" ? !field.checked : !wanted) return true;
    const own = (row.dataset[field.dataset.key] ?? "").toLowerCase();
    if (field.type === "number") return own !== "" && Number(own) <= Number(wanted);
    if (field.type === "search" || field.type === "text") return wanted.split(/\s+/).every((w) => own.includes(w));
    return own.split("|").includes(wanted);
  };

  const filterTable = (table, fields) => {
    const all = [...table.tBodies].flatMap(runs).flat();
    let shown = 0;
    for (const [row, ...details] of all) {
      row.hidden = !fields.every((field) => agrees(row, field));
      shown += !row.hidden;
      for (const below of details) below.hidden = row.hidden || !isOpen(row);
    }
    for (const body of table.tBodies) {
      let heading = null;
      for (const row of body.rows) {
        if (row.classList.contains("group")) (heading = row).hidden = true;
        else if (heading && !row.hidden) heading.hidden = false;
      }
    }
    for (const count of document.querySelectorAll(`output[data-count="${table.id}"]`)) {
      count.textContent = shown === all.length ? `${shown} rows` : `${shown} of ${all.length} rows`;
    }
  };

  const opener = (row) => row.querySelector("button.open");
  const isOpen = (row) => opener(row)?.getAttribute("aria-expanded") === "true";

  const open = (row, details, yes) => {
    opener(row).setAttribute("aria-expanded", String(yes));
    for (const below of details) below.hidden = !yes;
  };

  const makeOpenable = (row, details) => {
    const cell = row.cells[0];
    const button = document.createElement("button");
    button.type = "button";
    button.className = "open";
    button.append(...cell.childNodes);
    cell.append(button);
    row.classList.add("openable");
    open(row, details, row.id !== "" && `#${row.id}` === decodeURIComponent(location.hash));
    row.addEventListener("click", (event) => {
      if (event.target.closest("a") || String(getSelection())) return;
      open(row, details, !isOpen(row));
    });
  };

  const start = () => {
    for (const hidden of document.querySelectorAll(".needs-script")) hidden.hidden = false;
    for (const table of document.querySelectorAll("table.sortable")) {
      makeSortable(table);
      for (const [row, ...details] of [...table.tBodies].flatMap(runs).flat()) {
        if (details.length) makeOpenable(row, details);
      }
      const fields = table.id ? [...document.querySelectorAll(`[data-filter="${table.id}"]`)] : [];
      const update = () => filterTable(table, fields);
      for (const field of fields) field.addEventListener("input", update);
      update();
    }
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
