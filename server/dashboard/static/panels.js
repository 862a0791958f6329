// Study header, candidate card, front table, jobs: each builds its elements from data.
import { ago, duration, h, humanize, knownName, pill, plain, quantity, scientific, spaceName, spread } from "./format.js";
import { metricOf, recipes, sizes } from "./registry.js";
import { layerText, strip } from "./strip.js";
import { budgetOf, estimateOf } from "./values.js";

const STATE_COLOURS = {
  complete: "var(--accent)", judging: "var(--green)", measured: "var(--green)", measuring: "var(--blue)", preparing: "var(--blue)",
  proposed: "var(--blue)", dominated: "var(--grey)", gated: "var(--grey)", infeasible: "var(--orange)", failed: "var(--bad)",
};
const FINISHED = ["complete", "dominated", "infeasible", "failed", "gated"];

/** `front` is the one shown: of all targets or of one. */
export function summary(study, front, actions) {
  const counts = study.trials, total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const ended = study.state === "finished" ? [...FINISHED, "measured"] : FINISHED; // measured is final once the study has ended
  const done = ended.reduce((sum, state) => sum + (counts[state] || 0), 0) - (counts.gated || 0);
  const button = study.state === "running" ? h("button.button", { onclick: actions.stop }, "Stop")
    : study.state === "finished" ? null : h("button.button.primary", { onclick: actions.resume }, "Resume");
  const text = `${spaceName(study.spec.space)} · ${study.spec.quantization} · ${study.spec.sampler} · ${study.spec.protocol} protocol · started ${ago(study.created_at)}`;
  return [
    h("div.study-head", {}, h("h1", {}, study.name), pill(study.state), h("div.actions", {}, button)),
    h("p.study-sub", {}, text, study.reason && study.state !== "failed" ? ` · ${study.reason}` : ""),
    ...(study.state === "failed" ? [h("p.note.bad", {}, study.reason)] : []),
    ...study.notes.map((note) => h("p.note", {}, note)),
    h("dl.tiles", {}, progressTile(counts, total, done, study.max_trials),
      tile("On the front", String(front.members.length), front.target ? `of ${front.target}` : ""),
      tile("Hypervolume", front.hypervolume == null ? "–" : scientific(front.hypervolume), front.hypervolume == null ? "needs complete trials" : ""),
      tile("Time left", study.state === "running" ? duration(study.eta_s) : "–"),
      tile("Jobs", String(study.jobs.leased || 0), `running, ${study.jobs.queued || 0} queued`)),
    ...study.targets.map(targetLine),
  ];
}

function targetLine(target) {
  const jobs = ["running", "queued", "failed"].filter((what) => target[`num_${what}`]).map((what) => `, ${target[`num_${what}`]} ${what}`);
  const where = target.devices.length ? target.devices.join(", ") : `waits for ${target.wanted}`;
  return h("p.small.target", {}, h("strong", {}, target.name), ` ${target.num_measured} measured${jobs.join("")}`, h("span.muted", {}, ` · ${where}`));
}

const tile = (name, value, more = "") => h("div.tile", {}, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, " " + more) : null));

function progressTile(counts, total, done, maxTrials) {
  const order = Object.keys(STATE_COLOURS).filter((state) => counts[state]);
  const parts = order.map((state) => h("span", { title: `${counts[state]} ${state}`,
    style: `width:${(100 * counts[state]) / Math.max(total, maxTrials)}%;background:${STATE_COLOURS[state]}` }));
  const text = order.map((state) => `${counts[state]} ${humanize(state)}`).join(", ");
  return h("div.tile.wide", {}, h("dt", {}, "Trials finished"), h("dd", {}, String(done), h("small", {}, ` of ${maxTrials}`)),
    h("div.stack", { role: "img", "aria-label": text, title: text }, parts));
}

/** `short` is the hover card: objectives only. */
export function candidate(trial, study, widest, isKnee, { short = false, train, trainings = [] } = {}) {
  if (!trial) return [h("p.muted", {}, "Click a point or a row to see its layers and all its numbers.")];
  const keys = short ? study.objectives.map((one) => one.metric) : allKeys(trial, study);
  const kinds = h("ol.layers", { start: 0 }, (trial.arch.layers || []).map((layer) => h("li", {}, layerText(layer))));
  const cell = (trial.arch.layers || []).length > 18 ? 11 : 14;
  return [
    h("div.cand-head", {}, `#${trial.number} ${knownName(trial)}`.trim(), pill(trial.state), isKnee ? h("span.pill.finished", {}, "knee") : null),
    strip(trial.arch, widest, { cell, letters: true }),
    trial.reason ? h("p.small.muted", {}, trial.reason) : null,
    h("dl.facts", {}, keys.flatMap((key) => fact(trial, study, key)), laterQualities(trial)),
    ...(short ? [] : [byTarget(trial, study), verdicts(trial), artifacts(trial), kinds, trainer(trial, train, trainings)]),
  ].filter(Boolean);
}

let recipe = ""; // kept when the card is redrawn; empty: the coordinator's default

function trainer(trial, train, trainings) {
  const option = ({ name, title }) => h("option", { value: name, title, selected: name === recipe }, name);
  const keep = (event) => { recipe = event.target.value; };
  const choice = recipes().length
    ? h("select", { "aria-label": "recipe", onchange: keep }, h("option", { value: "" }, "default recipe"), recipes().map(option))
    : h("input", { "aria-label": "recipe", placeholder: "default recipe", title: "no enrolled trainer reports its recipes", value: recipe, oninput: keep });
  const link = (one) => h("p.small", {}, h("a", { href: `/trainings/${one.id}` }, one.name), " ", pill(one.state), one.state === "running" && one.share != null ? ` ${Math.round(100 * one.share)} %` : "");
  return h("div.trainer", {}, trainings.map(link), h("div.controls", {}, choice, h("button.button.small", { onclick: () => train(trial, recipe) }, "Train this candidate")));
}

function allKeys(trial, study) {
  const measured = study.targets.length ? [] : measuredKeys(trial); // with targets, they are in a separate table
  return [...new Set([...study.objectives.map((one) => one.metric), ...measured, ...Object.keys(trial.costs).sort()])];
}

const measuredKeys = (trial) => [...new Set(Object.values(trial.measurements).flatMap((row) => Object.keys(row.metrics)))].sort();

/** Every measured number, a column per target. */
function byTarget(trial, study) {
  const measured = new Set(Object.values(trial.measurements).map((row) => row.target)), keys = measuredKeys(trial);
  const names = study.targets.map((target) => target.name).filter((name) => measured.has(name));
  if (!names.length || !keys.length) return null;
  const cell = (key, name) => {
    const estimate = estimateOf(trial, `${key}:${name}`);
    return h("td.number", { title: spread(estimate) }, quantity(estimate?.median, metricOf(key).unit));
  };
  const head = h("tr", {}, h("th", {}, ""), names.map((name) => h("th.number", {}, name)));
  const rows = keys.map((key) => h("tr", {}, h("td", { title: metricOf(key).title }, key), names.map((name) => cell(key, name))));
  return h("div.table-wrap", {}, h("table.small.by-target", {}, h("thead", {}, head), h("tbody", {}, rows)));
}

function fact(trial, study, key) {
  const estimate = estimateOf(trial, key), { unit, title: definition } = metricOf(key), budget = budgetOf(study, key);
  const title = definition + (budget == null ? "" : ` (budget ${quantity(budget, unit)})`);
  const scale = ["bytes", "count"].includes(unit);
  return [h("dt", { title }, key), h("dd", {}, quantity(estimate?.median, unit), " ", h("small", {}, scale ? "" : spread(estimate)))];
}

/** Of a finalist and of the exported program, where there are any. */
function laterQualities(trial) {
  const rows = [[trial.final_quality, "as finalist"], [trial.program_quality, "as program"]];
  return rows.filter(([quality]) => quality).flatMap(([quality, what]) => [h("dt", {}, `${quality.metric} ${what}`), h("dd", {}, further(quality, what))]);
}

function verdicts(trial) {
  const rows = Object.values(trial.measurements);
  if (!rows.length) return null;
  return h("p.small.muted", {}, "Measured: ", rows.map((row) => [row.target ? `${row.target} ` : "", pill(row.verdict), ` ${row.reason} `]), ` cold repeats: ${rows[0].cold_repeats}, ${plain(rows[0].wall_s)} s`);
}

function artifacts(trial) {
  const rows = Object.entries(trial.artifacts);
  if (!rows.length) return null;
  return h("p.small.muted", {}, rows.map(([role, sha256]) => h("span", { title: sha256 }, `${humanize(role)} `, h("code", {}, sha256.slice(0, 12)), " ")));
}

export function frontTable(front, trials, widest, selectedId, { pick, sort, order }) {
  if (!front.members.length && front.nearest_misses.length) return missesTable(front.nearest_misses, widest, selectedId, pick);
  if (!front.members.length) return [h("p.hint", {}, "No candidate is complete yet: it needs a valid measurement on every target device and, if quality is an objective, a quality estimate.")];
  const extra = sizes().filter((key) => !front.objectives.includes(key) && front.members.some((member) => member.costs[key] != null));
  const head = h("tr", {}, h("th", {}, "Candidate"), h("th", {}, "Layers"), front.objectives.map((key) => header(key, order, sort)), h("th.number", {}, "One piece"), extra.map((key) => header(key, order, sort)));
  const rows = sorted(front, order).map((member) => frontRow(member, extra, front, widest, selectedId, pick));
  return [h("table", {}, h("thead", {}, head), h("tbody", {}, rows))];
}

/** Where no candidate meets the budgets: those that miss them least. */
function missesTable(misses, widest, selectedId, pick) {
  const head = h("tr", {}, ["Candidate", "Layers", "Budgets that it breaks"].map((name) => h("th", {}, name)));
  const rows = misses.map((miss) => h(`tr.pick${miss.trial_id === selectedId ? ".selected" : ""}`, { onclick: () => pick(miss.trial_id) },
    h("td.nowrap", {}, h("strong", {}, `#${miss.number}`), " ", miss.name),
    h("td", { title: miss.layout }, strip(miss.arch, widest)), h("td", {}, miss.broken.map((one) => h("div", {}, brokenText(one))))));
  return [h("p.hint", {}, "No candidate meets the budgets. These miss them least:"), h("table", {}, h("thead", {}, head), h("tbody", {}, rows))];
}

function brokenText({ key, value, bound, percent }) {
  const { unit } = metricOf(key);
  return `${key} ${quantity(value, unit)}, ${plain(percent)} % ${value > bound ? "over" : "under"} ${quantity(bound, unit)}`;
}

function header(key, order, sort) {
  const arrow = order.key === key ? (order.down ? " ↓" : " ↑") : "";
  return h("th.number", { title: metricOf(key).title, "aria-sort": arrow ? (order.down ? "descending" : "ascending") : null },
    h("button", { type: "button", onclick: () => sort(key) }, key + arrow));
}

function sorted(front, { key, down }) {
  if (!key) return front.members;
  const value = (member) => member.values[key] ?? member.costs[key] ?? 0;
  return [...front.members].sort((a, b) => (down ? -1 : 1) * (value(a) - value(b)));
}

function frontRow(member, extra, front, widest, selectedId, pick) {
  const cell = (key) => {
    const { unit } = metricOf(key), value = member.values[key] ?? member.costs[key];
    const again = member.final_quality?.metric === key ? [h("br"), further(member.final_quality, "finalist")] : null;
    return h("td.number", {}, quantity(value, unit), " ", h("small", {}, ["bytes", "count"].includes(unit) ? "" : spread(member.estimates[key])), again);
  };
  return h(`tr.pick${member.trial_id === selectedId ? ".selected" : ""}`, { onclick: () => pick(member.trial_id) },
    h("td.nowrap", {}, h("strong", {}, `#${member.number}`), " ", member.name ? `${member.name} ` : "", member.knee ? h("span.pill.finished", {}, "knee") : null),
    h("td", {}, strip(member.arch, widest)), front.objectives.map(cell), h("td.number", {}, onePiece(member, front)), extra.map(cell));
}

/** The difference between the one-piece program and the chain of blocks in the same session, on the first measured objective. */
function onePiece(member, front) {
  const composed = { ...member.estimates, ...member.beside };
  const key = front.objectives.find((one) => member.confirmed[one] && composed[one]);
  if (!key) return h("span.muted", {}, "–");
  const change = 100 * (member.confirmed[key].median / composed[key].median - 1);
  const doubtful = [...new Set(Object.values(member.confirmed_verdicts))].filter((verdict) => verdict !== "valid");
  return h("span", { title: `${key} of the one-piece program against the composed chain` }, `${change >= 0 ? "+" : ""}${change.toFixed(1)} %`,
    further(member.program_quality, "quantized program"),
    doubtful.map((verdict) => [" ", pill(verdict)]));
}

/** A quality beside the search's own: of a finalist, or of the exported program with the weights that were judged. */
function further(quality, what) {
  if (!quality) return null;
  const { unit, title } = metricOf(quality.metric);
  return h("small", { title: `${quality.metric} of the ${what}: ${title}` }, ` ${quantity(quality.score, unit)} `, spread({ median: quality.score, low: quality.low, high: quality.high }));
}

export function jobsTable(jobs) {
  if (!jobs.length) return [h("p.hint", {}, "No jobs yet. They appear once the first candidate's blocks are compiled.")];
  const head = h("tr", {}, ["Candidate", "Kind", "Device", "State", "Verdict", "", "Since"].map((name) => h("th", {}, name)));
  return [h("table", {}, h("thead", {}, head), h("tbody", {}, jobs.map(jobRow)))];
}

function jobRow(job) {
  const kind = job.kind === "measure" ? (job.form === "one_piece" ? "one piece" : "measure") : humanize(job.kind);
  const text = job.error || job.message, attempts = job.attempts ? ` (attempt ${job.attempts + (job.state === "failed" ? 0 : 1)})` : "";
  return h("tr", {}, h("td.nowrap", {}, `#${job.trial_number}`), h("td.nowrap", {}, kind), h("td.nowrap", { title: job.device_name || "" }, job.target ? `${job.target}: ` : "", job.device_name || "any"),
    h("td.nowrap", {}, pill(job.state), attempts ? h("small", {}, attempts) : null), h("td", {}, job.verdict ? pill(job.verdict) : ""),
    h("td.clip", { title: text }, job.state === "leased" && job.progress != null ? meter(job.progress) : h("small", {}, text)),
    h("td.nowrap", {}, h("small", {}, ago(job.finished_at || job.leased_at || job.created_at))));
}

const meter = (share) => h("div.meter", { role: "progressbar", "aria-valuenow": Math.round(100 * share), "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": "progress" }, h("div.fill", { style: `width:${100 * share}%` }));
