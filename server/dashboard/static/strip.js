// The layer strip: one column per layer, its feed-forward width as a bar on its operator, a coloured cell.
import { h, s, words } from "./format.js";

const OPERATORS = {
  gated_short_conv: { colour: "var(--conv)", letter: "C", name: "short conv" },
  gqa: { colour: "var(--attention)", letter: "A", name: "attention" },
  sliding_window: { colour: "var(--window)", letter: "W", name: "sliding window" },
  skip: { colour: "none", letter: "", name: "skip" },
};
const BAR = 15;

export function operator(kind) {
  return OPERATORS[kind] || { colour: "var(--other)", letter: kind[0].toUpperCase(), name: words(kind) };
}

export function mixerText(mixer) {
  const parts = { gated_short_conv: () => `kernel ${mixer.kernel ?? "?"}`,
    gqa: () => `${mixer.num_heads}/${mixer.num_kv_heads} heads × ${mixer.head_dim}`,
    sliding_window: () => `${mixer.num_heads}/${mixer.num_kv_heads} heads × ${mixer.head_dim}, window ${mixer.window}` };
  const detail = parts[mixer.kind]?.();
  return operator(mixer.kind).name + (detail ? ` (${detail})` : "");
}

export function layerText(layer) {
  return `${mixerText(layer.mixer)}, feed-forward ${layer.ffn ? layer.ffn.width : "none"}`;
}

/** `widest` is the largest feed-forward in the study, so that strips can be compared. */
export function strip(arch, widest, { cell = 11, letters = false } = {}) {
  const layers = arch.layers || [];
  const step = cell + 2;
  const width = layers.length * step;
  const columns = layers.map((layer, index) => column(layer, index * step, cell, widest, letters));
  const label = `${layers.length} layers: ` + layers.map((layer) => operator(layer.mixer.kind).name).join(", ");
  return s("svg.strip", { width, height: cell + BAR + 3, viewBox: `0 0 ${width} ${cell + BAR + 3}`, role: "img", "aria-label": label }, columns);
}

function column(layer, x, cell, widest, letters) {
  const kind = operator(layer.mixer.kind);
  const height = layer.ffn ? Math.max(2, (BAR * layer.ffn.width) / (widest || layer.ffn.width)) : 0;
  const square = layer.mixer.kind === "skip"
    ? s("rect.skip-cell", { x: x + 0.5, y: BAR + 2.5, width: cell - 1, height: cell - 1, rx: 2 })
    : s("rect", { x, y: BAR + 2, width: cell, height: cell, rx: 2, fill: kind.colour });
  const letter = letters && kind.letter ? s("text", { x: x + cell / 2, y: BAR + cell / 2 + 5.3 }, kind.letter) : null;
  return s("g", {}, s("title", {}, layerText(layer)), square, letter,
    s("rect.ffn", { x, y: BAR - height, width: cell, height, rx: 1 }));
}

export function widestOf(trials) {
  return Math.max(1, ...trials.flatMap((trial) => (trial.arch.layers || []).map((layer) => layer.ffn?.width || 0)));
}

/** Legend of the operators that occur. */
export function operatorLegend(trials) {
  const kinds = [...new Set(trials.flatMap((trial) => (trial.arch.layers || []).map((layer) => layer.mixer.kind)))];
  const cells = kinds.sort().map((kind) => h("span", {}, swatch(kind), operator(kind).name));
  return kinds.length ? [...cells, h("span", {}, bar(), "feed-forward width")] : [];
}

function swatch(kind) {
  const rect = kind === "skip" ? s("rect.skip-cell", { x: 1, y: 1, width: 10, height: 10, rx: 2 })
    : s("rect", { width: 12, height: 12, rx: 2, fill: operator(kind).colour });
  return s("svg.strip", { width: 12, height: 12, "aria-hidden": "true" }, rect);
}

function bar() {
  return s("svg.strip", { width: 12, height: 12, "aria-hidden": "true" }, s("rect.ffn", { y: 0, width: 9, height: 12, rx: 1 }));
}
