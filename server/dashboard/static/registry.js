// Everything that may be named, as the coordinator knows it, fetched once: pages keep no list of mixers, metrics or recipes.
import { call } from "./api.js";
import { words } from "./format.js";

let known = null, mixers = {}, metrics = {};

export async function loadRegistry() {
  if (known) return;
  const found = await call("registry");
  mixers = Object.fromEntries(found.mixers.map((one) => [one.name, one]));
  metrics = Object.fromEntries(found.metrics.map((one) => [one.key, one]));
  known = found;
}

/** A mixer whose plugin the coordinator has not loaded is drawn grey, under its own initial. */
export function mixerOf(kind) {
  return mixers[kind] || { name: kind, title: words(kind), letter: kind[0].toUpperCase(), colour: "var(--grey)", settings: "", identity: false };
}

export function metricOf(key) {
  return metrics[key.split(/[@:]/)[0]] || { key, unit: "", direction: "min", source: "device", title: "" };
}

/** What is known of every candidate without measuring, but for shares and what depends on the context. */
export function sizes() {
  return known.metrics.filter((one) => one.source === "closed_form" && !one.takes_context && one.unit !== "ratio").map((one) => one.key);
}

/** What a judgement says: scores. */
export const scores = () => known.metrics.filter((one) => one.source === "quality").map((one) => one.key);

export const recipes = () => known.recipes;
