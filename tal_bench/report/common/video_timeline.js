/* Timeline of a test video: ground truth and the detections of two rows. Plain JavaScript, no network.
 *
 * The element #video-timeline is filled from the JSON in #video-timeline-data:
 *
 *   classes  names of the classes
 *   rows     of each row: name, seed, map (average mAP of this seed)
 *   videos   of each video: name, duration, truth, detections (one list per row)
 *   tiou     threshold above which a detection is correct
 *
 * Times are hundredths of a second. A list of segments is flat: start, length and class of a ground truth; start,
 * length, class, score in thousandths, and 1 if it is correct of a detection, in the order of falling scores.
 */
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LINE = 11, GAP = 3, NAME = 17, AXIS = 22, SIDE = 6; // pixels
  const TICKS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600];
  const root = document.getElementById("video-timeline");
  const source = document.getElementById("video-timeline-data");
  if (!root || !source) return;
  const data = JSON.parse(source.textContent);

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const draw = (tag, attributes, text = "") => {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return element;
  };

  const choice = (id, label, names, chosen) => {
    const select = make("select", { id });
    names.forEach((name, k) => select.append(make("option", { value: k }, name)));
    select.value = String(chosen);
    return [make("label", { for: id }, label, select), select];
  };

  const names = data.rows.map((row) => row.name);
  const wanted = (name, otherwise) => (names.includes(name) ? names.indexOf(name) : otherwise);
  const best = data.rows.reduce((a, row, k) => (k !== wanted("none", -1) && row.student &&
    (a < 0 || row.map > data.rows[a].map) ? k : a), -1);
  const [videoLabel, video] = choice("timeline-video", "Video ", data.videos.map((v) => v.name), 0);
  const [firstLabel, first] = choice("timeline-first", "Row ", names, wanted("none", 0));
  const [secondLabel, second] = choice("timeline-second", "and ", names, best < 0 ? names.length - 1 : best);
  const back = make("button", { type: "button", "aria-label": "previous video" }, "◂");
  const on = make("button", { type: "button", "aria-label": "next video" }, "▸");
  const count = make("input", { id: "timeline-count", type: "range", min: 1, step: 1 });
  const counted = make("output", { for: "timeline-count" });
  const countLabel = make("label", { for: "timeline-count" }, "Detections of each row ", count, counted);
  const picture = draw("svg", { class: "with-values", tabindex: "0", role: "img" });
  const legend = make("p", { class: "soft", id: "timeline-legend" });
  const body = make("tbody");
  const head = ["", "Class", "Start (s)", "End (s)", "Score", "Correct"];
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head.map((h) => make("th", {}, h)))), body);
  root.append(
    make("div", { class: "controls" }, videoLabel, back, on, firstLabel, secondLabel, countLabel),
    legend,
    make("figure", { class: "timeline" }, picture),
    make("details", {}, make("summary", {}, "The same as a table"), make("div", { class: "scroll" }, table)),
  );

  const truths = (flat) => {
    const found = [];
    for (let k = 0; k < flat.length; k += 3) {
      found.push({ start: flat[k] / 100, end: (flat[k] + flat[k + 1]) / 100, label: flat[k + 2] });
    }
    return found;
  };
  const detections = (flat, most) => {
    const found = [];
    for (let k = 0; k < flat.length && found.length < most; k += 5) {
      const end = (flat[k] + flat[k + 1]) / 100;
      found.push({ start: flat[k] / 100, end, label: flat[k + 2], score: flat[k + 3] / 1000, hit: flat[k + 4] });
    }
    return found;
  };

  const seconds = (value) => value.toFixed(2);
  const described = (lane, s) => {
    const score = s.score === undefined ? "" : `, score ${s.score.toFixed(3)}, ${s.hit ? "correct" : "false"}`;
    return `${lane}: ${data.classes[s.label]}, ${seconds(s.start)} to ${seconds(s.end)} s${score}`;
  };

  const lanes = () => {
    const shown = data.videos[video.value], most = Number(count.value);
    return [
      { name: "ground truth", kind: "truth", segments: truths(shown.truth) },
      ...[[first, "first"], [second, "second"]].map(([select, kind]) => (
        { name: names[select.value], kind, segments: detections(shown.detections[select.value], most) })),
    ];
  };

  const axis = (width, height, duration, scale) => {
    const step = TICKS.find((t) => t * scale >= 55) ?? 7200;
    for (let t = 0; t <= duration; t += step) {
      const x = SIDE + t * scale;
      picture.append(draw("line", { class: "tick", x1: x, x2: x, y1: 0, y2: height - AXIS + 4 }));
      const anchor = t === 0 ? "start" : x > width - 25 ? "end" : "middle";
      picture.append(draw("text", { class: "tick", x, y: height - 6, "text-anchor": anchor }, `${t} s`));
    }
  };

  const render = () => {
    const shown = data.videos[video.value], drawn = lanes();
    const labels = [...new Set(drawn.flatMap((lane) => lane.segments.map((s) => s.label)))];
    const width = Math.max(root.clientWidth, 260), block = NAME + 3 * (LINE + GAP) + 6;
    const height = labels.length * block + AXIS, scale = (width - 2 * SIDE) / (shown.duration / 100);
    picture.replaceChildren();
    for (const [key, value] of [["width", width], ["height", height], ["viewBox", `0 0 ${width} ${height}`]]) {
      picture.setAttribute(key, value);
    }
    picture.setAttribute("aria-label", `Timeline of ${shown.name}; the table below has the same segments`);
    axis(width, height, shown.duration / 100, scale);
    labels.forEach((label, k) => {
      picture.append(draw("text", { class: "name", x: SIDE, y: k * block + NAME - 5 }, data.classes[label]));
      drawn.forEach((lane, l) => {
        for (const s of lane.segments.filter((segment) => segment.label === label)) {
          const bar = draw("rect", {
            class: `bar ${lane.kind}${s.hit === 0 ? " false" : ""}`,
            x: SIDE + s.start * scale, width: Math.max((s.end - s.start) * scale, 2),
            y: k * block + NAME + l * (LINE + GAP), height: LINE,
          });
          bar.dataset.values = described(lane.name, s);
          picture.append(bar);
        }
      });
    });
    const key = (kind, text) => make("span", { class: `key ${kind}` }, text);
    const rows = [first, second].map((select) => data.rows[select.value]);
    legend.replaceChildren(
      key("truth", "ground truth"),
      ...rows.map((row, k) => key(["first", "second"][k], `${row.name} (seed ${row.seed}, mAP ${row.map.toFixed(1)})`)),
      `Filled: correct at tIoU ${data.tiou}; outlined: false.`,
    );
    body.replaceChildren(...drawn.flatMap((lane) => lane.segments.map((s) => make("tr", {},
      ...[lane.name, data.classes[s.label], seconds(s.start), seconds(s.end), s.score?.toFixed(3) ?? "–",
        s.hit === undefined ? "–" : s.hit ? "yes" : "no"].map((text) => make("td", {}, text))))));
    counted.textContent = count.value;
  };

  /** Show another video with one and a half detections per ground truth. */
  const change = () => {
    const shown = data.videos[video.value];
    const most = Math.max(1, ...shown.detections.map((flat) => flat.length / 5));
    count.max = most;
    count.value = Math.min(most, Math.max(1, Math.ceil((1.5 * shown.truth.length) / 3)));
    render();
  };
  const move = (by) => {
    video.value = (Number(video.value) + by + data.videos.length) % data.videos.length;
    change();
  };

  video.addEventListener("change", change);
  back.addEventListener("click", () => move(-1));
  on.addEventListener("click", () => move(1));
  for (const control of [first, second]) control.addEventListener("change", render);
  count.addEventListener("input", render);
  root.hidden = false;
  change();
  addEventListener("resize", render);
})();
