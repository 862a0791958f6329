// The live Pareto scatter: any two metrics, intervals as bars, the front of these two axes as a line, the knee named.
import { h, humanize, knownName, plain, quantity, s } from "./format.js";
import { metricOf } from "./registry.js";
import { ticksOf } from "./ticks.js";
import { budgetOf, directionOf, estimateOf, frontIn } from "./values.js";

const MARGIN = { top: 16, right: 18, bottom: 44, left: 62 };

export const CLASSES = {
  front: { label: "on the front", css: "front", shape: "circle", size: 6 },
  rest: { label: "dominated", css: "rest", shape: "circle", size: 4.5 },
  open: { label: "quality unknown yet", css: "open.hollow", shape: "triangle", size: 5.5 },
  out: { label: "over budget or failed", css: "out.cross", shape: "cross", size: 4 },
};

export function classOf(trial, frontIds) {
  if (frontIds.has(trial.id)) return "front";
  if (trial.state === "complete") return "rest";
  return ["infeasible", "failed", "gated"].includes(trial.state) ? "out" : trial.state === "dominated" ? "rest" : "open";
}

/** Draws into `box`. `view` = {x, y, logX, logY, device}; `pick` gets clicks, `hover` gets (trial, x, y) or nothing. */
export function drawScatter(box, { study, trials, frontIds, kneeId, selectedId, view }, { pick, hover }) {
  const points = trials.map((trial) => pointOf(trial, view, frontIds)).filter(Boolean);
  if (!points.length) return empty(box, study, view);
  const width = Math.max(320, box.clientWidth - 16), height = width < 560 ? 320 : Math.min(470, Math.round(width * 0.56));
  const frame = frameOf(points, study, view, width, height);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group",
    "aria-label": `${points.length} candidates, ${view.y} over ${view.x}` });
  svg.append(axes(frame, study, view), budgets(frame, study, view), ...frontLine(frame, points, study, view));
  const order = { out: 0, rest: 1, open: 2, front: 3 };
  points.sort((a, b) => order[a.kind] - order[b.kind]);
  for (const point of points) svg.append(mark(frame, point, point.trial.id === kneeId, point.trial.id === selectedId, { pick, hover }));
  const focused = document.activeElement?.dataset?.trial;
  box.querySelector("svg, .no-data")?.remove();
  box.prepend(svg);
  if (focused) svg.querySelector(`[data-trial="${focused}"]`)?.focus();
}

function pointOf(trial, view, frontIds) {
  const x = estimateOf(trial, view.x, view.device), y = estimateOf(trial, view.y, view.device);
  if (!x || !y || (view.logX && x.median <= 0) || (view.logY && y.median <= 0)) return null;
  return { trial, x, y, kind: classOf(trial, frontIds) };
}

function empty(box, study, view) {
  const text = study.state === "running"
    ? `No candidate has both ${view.x} and ${view.y} yet. Points appear as devices report results.`
    : `No candidate has both ${view.x} and ${view.y}. Choose other axes.`;
  box.querySelector("svg, .no-data")?.remove();
  box.prepend(h("div.no-data", {}, text));
}

function frameOf(points, study, view, width, height) {
  const inner = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  return { ...inner, width, height,
    x: scale(points.map((point) => point.x), view.logX, inner.left, inner.right),
    y: scale(points.map((point) => point.y), view.logY, inner.bottom, inner.top) };
}

function scale(estimates, log, from, to) {
  const forward = log ? Math.log10 : (value) => value;
  const lows = estimates.map((one) => forward(log ? Math.max(one.low, one.median / 10) : one.low));
  const highs = estimates.map((one) => forward(one.high));
  let low = Math.min(...lows), high = Math.max(...highs);
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  low -= room; high += room;
  const map = (value) => from + ((forward(value) - low) / (high - low)) * (to - from);
  const count = Math.max(3, Math.round(Math.abs(to - from) / 90));
  return Object.assign(map, { ticks: ticksOf(low, high, log, count), inside: (value) => (map(value) - from) * (map(value) - to) <= 0 });
}

function axes(frame, study, view) {
  const grid = s("g.grid"), axis = s("g.axis");
  for (const value of frame.x.ticks) {
    grid.append(s("line", { x1: frame.x(value), x2: frame.x(value), y1: frame.top, y2: frame.bottom }));
    axis.append(s("text", { x: frame.x(value), y: frame.bottom + 16, "text-anchor": "middle" }, tick(value, view.x)));
  }
  for (const value of frame.y.ticks) {
    grid.append(s("line", { x1: frame.left, x2: frame.right, y1: frame.y(value), y2: frame.y(value) }));
    axis.append(s("text", { x: frame.left - 8, y: frame.y(value) + 4, "text-anchor": "end" }, tick(value, view.y)));
  }
  const middle = (frame.top + frame.bottom) / 2;
  axis.append(
    s("text.title", { x: (frame.left + frame.right) / 2, y: frame.height - 8, "text-anchor": "middle" }, titleOf(study, view.x)),
    s("text.title", { transform: `translate(14 ${middle}) rotate(-90)`, "text-anchor": "middle" }, titleOf(study, view.y)));
  return s("g", {}, grid, axis);
}

const tick = (value, key) => (metricOf(key).unit === "bytes" || metricOf(key).unit === "count" ? quantity(value, metricOf(key).unit) : plain(value));

function titleOf(study, key) {
  const { unit } = metricOf(key), down = directionOf(study, key) === "min";
  const shown = ["bytes", "count", ""].includes(unit) ? key : `${key} (${unit})`;
  return down ? `← less is better · ${shown}` : `${shown} · more is better →`;
}

function budgets(frame, study, view) {
  const x = budgetOf(study, view.x), y = budgetOf(study, view.y), group = s("g");
  if (x != null && frame.x.inside(x)) group.append(s("line.budget", { x1: frame.x(x), x2: frame.x(x), y1: frame.top, y2: frame.bottom }, s("title", {}, "budget")));
  if (y != null && frame.y.inside(y)) group.append(s("line.budget", { x1: frame.left, x2: frame.right, y1: frame.y(y), y2: frame.y(y) }, s("title", {}, "budget")));
  return group;
}

/** Staircase through the complete trials that are not dominated on these two axes, and the dominated area. */
function frontLine(frame, points, study, view) {
  const sign = (key) => (directionOf(study, key) === "min" ? 1 : -1);
  const signX = sign(view.x), signY = sign(view.y);
  const front = frontIn(points.filter((point) => point.trial.state === "complete"), signX, signY);
  if (!front.length || view.x === view.y) return [];
  const worstX = signX > 0 ? frame.right : frame.left, worstY = signY > 0 ? frame.top : frame.bottom;
  const corners = front.map((point) => [frame.x(point.x.median), frame.y(point.y.median)]);
  let path = `M${corners[0][0]},${worstY}`, previous = worstY;
  for (const [x, y] of corners) {
    path += `L${x},${previous}L${x},${y}`;
    previous = y;
  }
  path += `L${worstX},${previous}`;
  return [s("path.front-area", { d: `${path}L${worstX},${worstY}Z` }), s("path.front-line", { d: path })];
}

function mark(frame, point, isKnee, isSelected, { pick, hover }) {
  const { css, shape, size } = CLASSES[point.kind];
  const x = frame.x(point.x.median), y = frame.y(point.y.median), grown = isKnee ? size + 2 : size;
  const name = knownName(point.trial);
  const label = `candidate ${point.trial.number}${name ? ` (${name})` : ""}, ${humanize(point.trial.state)}${isKnee ? ", the knee" : ""}`;
  const group = s(`g.point.${css}${isSelected ? ".selected" : ""}`, {
    tabindex: 0, role: "button", "aria-label": label, "data-trial": point.trial.id,
    onclick: () => pick(point.trial.id), onkeydown: (event) => event.key === "Enter" && pick(point.trial.id),
    onpointerenter: () => hover(point.trial, x, y), onpointerleave: () => hover(null),
    onfocus: () => hover(point.trial, x, y), onblur: () => hover(null),
  }, s("circle.halo", { cx: x, cy: y, r: 11 }));
  group.append(...intervals(frame, point, x, y), symbol(isKnee ? "diamond" : shape, x, y, grown));
  const caption = [name, isKnee ? "knee" : ""].filter(Boolean).join(", ");
  if (caption) group.append(s("text.knee-label", { x: x + 11, y: y - 9 }, caption));
  return group;
}

function intervals(frame, point, x, y) {
  const across = point.x.high > point.x.low && s("line.interval", { x1: frame.x(point.x.low), x2: frame.x(point.x.high), y1: y, y2: y });
  const upright = point.y.high > point.y.low && s("line.interval", { x1: x, x2: x, y1: frame.y(point.y.low), y2: frame.y(point.y.high) });
  return [across, upright].filter(Boolean);
}

export function symbol(shape, x, y, r) {
  const paths = {
    triangle: `M${x},${y - r}L${x + r},${y + r * 0.8}L${x - r},${y + r * 0.8}Z`,
    diamond: `M${x},${y - r}L${x + r},${y}L${x},${y + r}L${x - r},${y}Z`,
    cross: `M${x - r},${y - r}L${x + r},${y + r}M${x - r},${y + r}L${x + r},${y - r}`,
  };
  return shape === "circle" ? s("circle.mark", { cx: x, cy: y, r }) : s("path.mark", { d: paths[shape] });
}

export function scatterLegend(hasKnee) {
  const entry = (css, shape, label) => h("span", {}, s("svg", { width: 14, height: 14, "aria-hidden": "true" }, s(`g.point.${css}`, {}, symbol(shape, 7, 7, 4.5))), label);
  const line = h("span", {}, s("svg", { width: 18, height: 10, "aria-hidden": "true" }, s("path.front-line", { d: "M1,2H9V8H17" })), "front on these two axes");
  const knee = hasKnee ? [entry("front", "diamond", "knee")] : [];
  return [...Object.values(CLASSES).map((one) => entry(one.css, one.shape, one.label)), ...knee, line, h("span", {}, "bars: 95 % interval")];
}
