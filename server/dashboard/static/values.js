// The value of a trial for a metric key: one estimate {median, low, high}, from any source.
import { metricOf } from "./registry.js";

/** With several devices the worst one counts, as in the search itself, unless `deviceId` or a target (key:target) is given. */
export function estimateOf(trial, key, deviceId = "") {
  if (metricOf(key).source === "quality") return trial.quality?.metric === key ? { median: trial.quality.score, low: trial.quality.low, high: trial.quality.high } : null;
  const [base, target] = key.split(":");
  const rows = Object.values(trial.measurements || {}).filter((row) => (!deviceId || row.device_id === deviceId) && (!target || row.target === target));
  const valid = rows.filter((row) => row.verdict === "valid");
  const found = (valid.length ? valid : rows).map((row) => row.metrics[base]).filter(Boolean);
  if (found.length) {
    const sign = metricOf(key).direction === "min" ? 1 : -1;
    return found.reduce((worst, one) => (sign * (one.median - worst.median) > 0 ? one : worst));
  }
  const value = trial.values?.[key] ?? trial.costs?.[key];
  return value == null ? null : { median: value, low: value, high: value };
}

/** Every key with a value in some trial: objectives first, then measured, then closed-form. */
export function knownKeys(study, trials) {
  const objectives = study.objectives.map((objective) => objective.metric);
  const measured = new Set(), costs = new Set();
  for (const trial of trials) {
    for (const row of Object.values(trial.measurements || {})) {
      for (const key of Object.keys(row.metrics)) {
        measured.add(key);
        if (row.target) measured.add(`${key}:${row.target}`);
      }
    }
    if (trial.quality) measured.add(trial.quality.metric);
    Object.keys(trial.costs || {}).forEach((key) => costs.add(key));
  }
  const rest = (keys) => [...keys].filter((key) => !objectives.includes(key)).sort();
  return { objectives, measured: rest(measured), costs: rest(costs) };
}

export function budgetOf(study, key) {
  return study.budgets[key] ?? null;
}

export function directionOf(study, key) {
  return study.objectives.find((one) => one.metric === key)?.direction || metricOf(key).direction;
}

/** Complete trials that are not dominated on these two keys, in x order: the line in the chart. */
export function frontIn(points, signX, signY) {
  const sorted = [...points].sort((a, b) => signX * (a.x.median - b.x.median) || signY * (a.y.median - b.y.median));
  let best = Infinity;
  return sorted.filter((point) => {
    const loss = signY * point.y.median;
    const kept = loss < best;
    best = Math.min(best, loss);
    return kept;
  });
}
