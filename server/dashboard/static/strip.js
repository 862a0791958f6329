// The layer strip: one column per layer, its feed-forward width as a bar on its mixer, a coloured cell.
import { h, s, humanize } from "./format.js";
import { mixerOf } from "./registry.js";

const BAR = 15;

/** ``grouped-query attention (16/8 heads × 64)`` */
export function mixerText({ kind, ...options }) {
  const { title, settings } = mixerOf(kind);
  const byName = Object.entries(options).map(([name, value]) => `${humanize(name)} ${value}`).join(", ");
  const detail = settings ? settings.replace(/{(\w+)}/g, (_, name) => options[name] ?? "?") : byName;
  return title + (detail ? ` (${detail})` : "");
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
  const label = `${layers.length} layers: ` + layers.map((layer) => mixerOf(layer.mixer.kind).title).join(", ");
  return s("svg.strip", { width, height: cell + BAR + 3, viewBox: `0 0 ${width} ${cell + BAR + 3}`, role: "img", "aria-label": label }, columns);
}

function column(layer, x, cell, widest, letters) {
  const mixer = mixerOf(layer.mixer.kind);
  const height = layer.ffn ? Math.max(2, (BAR * layer.ffn.width) / (widest || layer.ffn.width)) : 0;
  const square = mixer.identity
    ? s("rect.skip-cell", { x: x + 0.5, y: BAR + 2.5, width: cell - 1, height: cell - 1, rx: 2 })
    : s("rect", { x, y: BAR + 2, width: cell, height: cell, rx: 2, fill: mixer.colour });
  const letter = letters && !mixer.identity ? s("text", { x: x + cell / 2, y: BAR + cell / 2 + 5.3 }, mixer.letter) : null;
  return s("g", {}, s("title", {}, layerText(layer)), square, letter,
    s("rect.ffn", { x, y: BAR - height, width: cell, height, rx: 1 }));
}

export function widestOf(trials) {
  return Math.max(1, ...trials.flatMap((trial) => (trial.arch.layers || []).map((layer) => layer.ffn?.width || 0)));
}

/** Legend of the mixers that occur. */
export function mixerLegend(trials) {
  const kinds = [...new Set(trials.flatMap((trial) => (trial.arch.layers || []).map((layer) => layer.mixer.kind)))];
  const cells = kinds.sort().map((kind) => h("span", {}, swatch(kind), mixerOf(kind).title));
  return kinds.length ? [...cells, h("span", {}, bar(), "feed-forward width")] : [];
}

function swatch(kind) {
  const rect = mixerOf(kind).identity ? s("rect.skip-cell", { x: 1, y: 1, width: 10, height: 10, rx: 2 })
    : s("rect", { width: 12, height: 12, rx: 2, fill: mixerOf(kind).colour });
  return s("svg.strip", { width: 12, height: 12, "aria-hidden": "true" }, rect);
}

function bar() {
  return s("svg.strip", { width: 12, height: 12, "aria-hidden": "true" }, s("rect.ffn", { y: 0, width: 9, height: 12, rx: 1 }));
}
