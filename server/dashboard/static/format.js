// Formatting of numbers and times, and tiny DOM helpers. Text is always inserted as text, never as HTML.
const UNIT_STEPS = { bytes: [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]], count: [[1e9, "B"], [1e6, "M"], [1e3, "k"]], ms: [[1e3, "s"]] };

const FINE = new Set(["score", "ratio", "bits/byte"]); // units in which neighbours differ in the third decimal

/** A value in its metric's unit, at three significant digits (401 MB, 8.31 M, 590 ms), or at three decimals. */
export function quantity(value, unit) {
  if (value == null || Number.isNaN(value)) return "–";
  const step = (UNIT_STEPS[unit] || []).find(([size]) => Math.abs(value) >= size && !(unit === "ms" && value < 1e4));
  const suffix = step ? step[1] : unit === "count" || unit === "score" || unit === "ratio" ? "" : unit;
  const number = FINE.has(unit) ? value.toFixed(3) : plain(step ? value / step[0] : value);
  return `${number}${suffix ? " " + suffix : ""}`;
}

export function plain(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

/** Half the interval, in the value's own unit; empty when there is none. */
export function spread(estimate) {
  if (!estimate || estimate.low == null || estimate.high === estimate.low) return "";
  return `± ${plain((estimate.high - estimate.low) / 2)}`;
}

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
}

export function ago(moment) {
  if (!moment) return "–";
  const seconds = Math.max(0, (Date.now() - new Date(moment)) / 1000);
  return seconds < 5 ? "now" : `${duration(seconds)} ago`;
}

/** 6.87 × 10¹⁰, for numbers without a unit. */
export function scientific(value) {
  if (Math.abs(value) < 1e6) return plain(value);
  const [mantissa, exponent] = value.toExponential(2).split("e+");
  return `${mantissa} × 10${[...exponent].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;
}

/** The name of a known architecture that a study tried, else "". */
export const knownName = (trial) => (typeof trial.sampler_attrs?.name === "string" ? trial.sampler_attrs.name : "");

/** A space is named, or came as data with the study. */
export const spaceName = (space) => (typeof space === "string" ? space : space?.name || "a space of its own");

export const humanize = (name) => name.replaceAll("_", " ");

/** h("td.number", {title}, "text", child…) */
export function h(spec, attributes = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  return fill(document.createElement(tag), classes, attributes, children);
}

export function s(spec, attributes = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), classes, attributes, children);
}

function fill(element, classes, attributes, children) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== ""));
  return element;
}

export const pill = (state) => h(`span.pill.${state}`, {}, humanize(state));
