// One comparison: header, models, times with intervals, and the probability that one model is faster.
import { ago, h, pill, plain, quantity } from "./format.js";

const TITLES = { prefill_ms: (length) => `Prompt of ${length} tokens`, decode_ms: (length) => `Decoding at ${length} tokens of context` };
const cell = (name, text, more = {}) => h(name, more, text);
const header = (...names) => h("tr", {}, names.map((name, at) => h(at ? "th.number" : "th", {}, name)));
const table = (names, rows) => h("table", {}, h("thead", {}, header(...names)), h("tbody", {}, rows));

export function comparisonsTable(found) {
  if (!found.length) return [h("p.hint", {}, "Nothing published yet. `hilnas compare MODEL MODEL --publish` posts a comparison here.")];
  const rows = found.map((one) => h("tr", {}, [h("td", {}, h("a", { href: `/comparisons/${one.id}` }, one.title)), cell("td.number", one.fingerprint), cell("td.number", ago(one.created_at))]));
  return [table(["Comparison", "Device", "Published"], rows)];
}

export function head(one) {
  const { device, settings } = one, cores = settings.affinity ? `cores ${settings.affinity.join(" ")}` : `${device.cores} cores`;
  const tile = (name, value, more = "") => h("div.tile", {}, h("dt", {}, name), h("dd.clip", { title: `${value} ${more}` }, value, more ? h("small", {}, " " + more) : null));
  return [
    h("div.study-head", {}, h("h1", {}, one.title)),
    h("p.study-sub", {}, `measured ${new Date(one.measured_at).toLocaleString()} · runner ${device.runner_version || "unknown"}`),
    h("dl.tiles", {}, h("div.tile.wide", {}, h("dt", {}, "Device"), h("dd.clip", { title: device.model }, device.details?.soc ? `${device.model} · ${device.details.soc}` : device.model, h("small", {}, ` ${device.os}`))),
      tile("Fingerprint", one.fingerprint), tile("Threads", String(settings.threads), cores),
      tile("Rounds", String(settings.rounds), `${plain(one.minutes)} min`), tile("Form", settings.quantization, `${settings.cache_dtype} cache`)),
  ];
}

export function modelsTable(one) {
  const rows = one.rows.map((row) => h(`tr${row.verdict === "valid" ? "" : ".out"}`, {}, [
    h("td", {}, row.name, h("br"), h("small", {}, row.engine === "hilnas" ? row.model : `${row.model} · another engine: ${row.engine}`)),
    cell("td", row.weights), cell("td.number", quantity(row.params, "count")), cell("td.number", quantity(row.weight_bytes, "bytes")),
    cell("td.number", quantity(row.cache_bytes, "bytes")), cell("td.number", row.quantization), cell("td.number", `${row.rounds.length} of ${row.cold_runs}`),
    h("td.number", { title: row.reason }, pill(row.verdict), row.reason ? h("small", {}, " " + row.reason) : null),
  ]));
  return [table(["Model", "Weights", "Parameters", "Size", "Cache", "Quantization", "Cold runs", "Verdict"], rows)];
}

export function metricCard(one, metric) {
  const [name, length] = metric.split("@");
  return h("section.card", { "aria-label": TITLES[name](length) }, h("div.card-head", {}, h("h2", {}, TITLES[name](length)), h("span.muted.small", {}, "milliseconds, 95 % intervals")),
    h("div.metric", {}, h("div.table-wrap", {}, times(one, metric)), h("div.table-wrap", {}, pairs(one, metric))));
}

function times(one, metric) {
  const valid = (row) => row.verdict === "valid", median = (row) => row.metrics[metric]?.median ?? Infinity;
  const rows = [...one.rows].sort((a, b) => valid(b) - valid(a) || median(a) - median(b));
  const most = Math.max(...rows.map((row) => row.metrics[metric]?.high ?? 0));
  return table(["Model", "ms", "from", "to", ""], rows.map((row) => time(row, row.metrics[metric], most)));
}

function time(row, estimate, most) {
  const cells = [cell("td", row.name), ...["median", "low", "high"].map((part) => cell("td.number", estimate ? plain(estimate[part]) : "–"))];
  const bar = estimate && most ? h("div.interval", {}, h("i", { style: `left:${100 * estimate.low / most}%;width:${100 * (estimate.high - estimate.low) / most}%` })) : pill(row.verdict);
  return h(`tr${row.verdict === "valid" ? "" : ".out"}`, {}, [...cells, h("td.bar-cell", {}, bar)]);
}

function pairs(one, metric) {
  const found = one.pairs.filter((pair) => pair.metric === metric).map(fasterFirst).sort((a, b) => b.probability - a.probability);
  if (!found.length) return h("p.hint", {}, "No two valid rows of one session.");
  const rows = found.map((pair) => h("tr", {}, [cell("td", `${pair.first} before ${pair.second}`), cell("td.number", probability(pair.probability)),
    cell("td.number", (1 / pair.ratio).toFixed(2)), cell("td.number", `${(1 / pair.high).toFixed(2)} to ${(1 / pair.low).toFixed(2)}`)]));
  return table(["Which is faster", "Probability", "Times", "95 %"], rows);
}

const fasterFirst = (pair) => (pair.probability >= 0.5 ? pair : { ...pair, first: pair.second, second: pair.first, probability: 1 - pair.probability, ratio: 1 / pair.ratio, low: 1 / pair.high, high: 1 / pair.low });
const probability = (value) => (value > 0.999 ? "> 0.999" : value.toFixed(value > 0.99 ? 3 : 2));

export function sustainedTable(one) {
  const rows = one.sustained.map((row) => h("tr", {}, [cell("td", row.name), cell("td.number", plain(row.seconds / 60)), cell("td.number", plain(row.first_ms)), cell("td.number", plain(row.last_ms)),
    cell("td.number", (row.last_ms / row.first_ms).toFixed(2)), cell("td.number", row.note)]));
  return [table(["Model", "Minutes", "First ms", "Last ms", "Last over first", "Note"], rows)];
}
