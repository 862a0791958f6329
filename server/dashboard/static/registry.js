// All known names, fetched once from the coordinator: pages keep no lists of mixers, metrics or recipes of their own.
import { call } from "./api.js";
import { humanize } from "./format.js";

let known = null, mixers = {}, metrics = {};

export async function loadRegistry() {
  if (known) return;
  const found = await call("registry");
  mixers = Object.fromEntries(found.mixers.map((one) => [one.name, one]));
  metrics = Object.fromEntries(found.metrics.map((one) => [one.key, one]));
  known = found;
}

/** A mixer whose plugin the coordinator has not loaded is drawn grey, with its initial. */
export function mixerOf(kind) {
  return mixers[kind] || { name: kind, title: humanize(kind), letter: kind[0].toUpperCase(), colour: "var(--grey)", settings: "", identity: false };
}

export function metricOf(key) {
  return metrics[key.split(/[@:]/)[0]] || { key, unit: "", direction: "min", source: "device", title: "" };
}

/** Closed-form metrics of every candidate, except ratios and metrics that depend on the context. */
export function sizes() {
  return known.metrics.filter((one) => one.source === "closed_form" && !one.takes_context && one.unit !== "ratio").map((one) => one.key);
}

export const recipes = () => known.recipes;
