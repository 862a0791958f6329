// A small chart of one stage's loss over its steps, or of its success for a rewarded stage, with the value under the pointer.
import { h, plain, s } from "./format.js";
import { ticksOf } from "./ticks.js";

const WIDTH = 300, HEIGHT = 150, MARGIN = { top: 8, right: 8, bottom: 18, left: 36 };

const followed = (curve) => (curve.columns.loss ? "loss" : curve.columns.success ? "success" : "loss");

/** `curve` is {stage, steps, columns}; the line appears once two steps have a value. */
export function lossChart(curve) {
  const values = curve.columns[followed(curve)];
  const points = curve.steps.map((step, index) => ({ step, value: values?.[index], index })).filter((point) => point.value != null);
  const caption = h("span.muted.small", {}, summaryOf(curve, points));
  const figure = h("figure.curve", {}, h("figcaption", {}, h("strong", {}, curve.stage), caption));
  if (points.length > 1) figure.append(draw(curve, points, caption));
  return figure;
}

function summaryOf(curve, points) {
  if (!points.length) return `no ${followed(curve)} yet`;
  const last = points[points.length - 1], speed = middle(curve.columns.tokens_per_s || []);
  return `${followed(curve)} ${plain(points[0].value)} → ${plain(last.value)}${speed ? ` · ${plain(speed)} tok/s` : ""}`;
}

function middle(values) {
  const sorted = values.filter((value) => value != null).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function scale(low, high, from, to) {
  const span = high - low || 1;
  return Object.assign((value) => from + ((value - low) / span) * (to - from), { low, high });
}

function draw(curve, points, caption) {
  const values = points.map((point) => point.value), low = Math.min(...values), high = Math.max(...values), room = (high - low || 1) * 0.06;
  const x = scale(points[0].step, points[points.length - 1].step, MARGIN.left, WIDTH - MARGIN.right);
  const y = scale(low - room, high + room, HEIGHT - MARGIN.bottom, MARGIN.top);
  const path = points.map((point, index) => `${index ? "L" : "M"}${x(point.step).toFixed(1)},${y(point.value).toFixed(1)}`).join("");
  const cursor = s("g", {}), usual = caption.textContent;
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${curve.stage}: ${summaryOf(curve, points)}` },
    axes(x, y), s("path.line", { d: path }), cursor);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), point = nearest(points, x, ((event.clientX - box.left) / box.width) * WIDTH);
    cursor.replaceChildren(s("line.cursor", { x1: x(point.step), x2: x(point.step), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      s("circle.at", { cx: x(point.step), cy: y(point.value), r: 2.6 }));
    caption.textContent = `step ${point.step}: ${point.value.toFixed(3)}`;
  });
  svg.addEventListener("pointerleave", () => { cursor.replaceChildren(); caption.textContent = usual; });
  return svg;
}

const nearest = (points, x, at) => points.reduce((best, point) => (Math.abs(x(point.step) - at) < Math.abs(x(best.step) - at) ? point : best));

function axes(x, y) {
  const grid = s("g.grid"), axis = s("g.axis");
  for (const value of ticksOf(y.low, y.high, false, 3)) {
    grid.append(s("line", { x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y(value), y2: y(value) }));
    axis.append(s("text", { x: MARGIN.left - 5, y: y(value) + 4, "text-anchor": "end" }, plain(value)));
  }
  for (const value of ticksOf(x.low, x.high, false, 4).filter(Number.isInteger)) {
    axis.append(s("text", { x: x(value), y: HEIGHT - 4, "text-anchor": "middle" }, plain(value)));
  }
  return s("g", {}, grid, axis);
}
