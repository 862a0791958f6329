// One training: its header, the strip and table of stages, the evaluation table.
import { ago, duration, h, pill, plain, quantity, humanize } from "./format.js";

const LEGEND = { done: "done", running: "running", failed: "failed", open: "not started" };

export function head(run, actions) {
  const ends = ["queued", "running", "silent"].includes(run.state), goes = run.job_id && ["stopped", "failed"].includes(run.state);
  const button = ends ? h("button.button", { onclick: actions.stop }, "Stop") : goes ? h("button.button.primary", { onclick: actions.resume }, "Resume") : null;
  const trial = run.trial_id ? [" · ", h("a", { href: `/studies/${run.study_id}?trial=${run.trial_id}` }, `candidate #${run.trial_number}`)] : " · on its user's machine";
  const text = [`recipe ${run.recipe}`, trial, run.where ? ` · ${run.where}` : "", ` · begun ${ago(run.created_at)}`, run.attempts ? ` · attempt ${run.attempts + 1}` : ""];
  const current = run.stages.find((stage) => stage.state === "running") || run.stages.find((stage) => stage.state === "failed");
  return [
    h("div.study-head", {}, h("h1", {}, run.name), pill(run.state), h("div.actions", {}, button)),
    h("p.study-sub", {}, text),
    run.error ? h("p.note.bad", {}, run.error) : null,
    h("dl.tiles", {}, progressTile(run), tile("Now", current && run.state !== "finished" ? current.name : humanize(run.state), current?.message || ""),
      tile("Stage ends in", current?.eta_s != null && run.state === "running" ? duration(current.eta_s) : "–"),
      tile("Time so far", duration(run.stages.reduce((sum, stage) => sum + (stage.seconds || 0), 0))),
      tile("Program", run.result ? quantity(run.result.program_bytes, "bytes") : "–", run.result ? run.result.program.slice(0, 12) : "")),
  ].filter(Boolean);
}

const tile = (name, value, more = "") => h("div.tile", {}, h("dt", {}, name), h("dd.clip", { title: `${value} ${more}` }, value, more ? h("small", {}, " " + more) : null));

function progressTile(run) {
  const share = run.share ?? 0, text = `${Math.round(100 * share)} %`;
  return h("div.tile.wide", {}, h("dt", {}, "Stages done"), h("dd", {}, String(run.num_done), h("small", {}, ` of ${run.num_stages || "?"}, ${text}`)),
    h("div.stack", { role: "img", "aria-label": text }, h("span", { style: `width:${100 * share}%;background:var(--accent)` })));
}

/** Widths are square roots of seconds, so that minutes and hours are both visible; unfinished stages have a small width. */
export function stageStrip(stages) {
  const width = (stage) => (stage.state === "done" ? Math.max(1, Math.sqrt(stage.seconds || 0)) : 4);
  const cell = (stage) => h(`span.${stage.state}`, { style: `flex:${width(stage)} 1 0`, title: `${stage.name}: ${humanize(stage.state)}${stage.seconds == null ? "" : `, ${duration(stage.seconds)}`}` },
    stage.state === "running" && stage.share ? h("i", { style: `width:${100 * stage.share}%` }) : null);
  const done = stages.filter((stage) => stage.state === "done").length;
  return h("div.stage-strip", { role: "img", "aria-label": `${done} of ${stages.length} stages done` }, stages.map(cell));
}

export function stageLegend(stages) {
  const states = Object.keys(LEGEND).filter((state) => stages.some((stage) => stage.state === state));
  return states.map((state) => h("span", {}, h(`span.swatch.${state}`), LEGEND[state]));
}

export function stageTable(stages) {
  if (!stages.length) return [h("p.hint", {}, "No stages yet. They appear once a trainer has started.")];
  const header = h("tr", {}, [h("th", {}, "Stage"), h("th", {}, "State"), h("th.number", {}, "Took"), h("th", {}, "Brought")]);
  return [h("table", {}, h("thead", {}, header), h("tbody", {}, stages.map(stageRow)))];
}

function stageRow(stage) {
  const running = stage.state === "running", left = stage.eta_s == null ? "" : `, ${duration(stage.eta_s)} left`;
  return h("tr", {}, h("td.nowrap", {}, h("strong", {}, humanize(stage.name)), stage.kind && stage.kind !== stage.name ? h("small", {}, ` ${stage.kind}`) : null),
    h("td.nowrap", {}, pill(stage.state)), h("td.number", {}, stage.seconds == null ? "–" : duration(stage.seconds)),
    h("td.outcome", {}, running || stage.state === "failed" ? stage.message + (running ? left : "") : outcome(stage)));
}

/** The first few numbers of a stage; those of an evaluation have a separate table. */
function outcome({ kind, metrics }) {
  if (kind === "evaluate") return Object.keys(metrics).length ? `${Object.keys(metrics).length} numbers, below` : "";
  const flat = Object.entries(metrics).flatMap(([key, value]) => (typeof value === "object" && value ? Object.entries(value).map(([inner, one]) => [`${key} ${inner}`, one]) : [[key, value]]));
  return flat.filter(([, value]) => typeof value === "number" || (typeof value === "string" && value.length < 40)).slice(0, 6)
    .map(([key, value]) => `${humanize(key)} ${typeof value === "number" ? plain(value) : value}`).join(" · ");
}

/** A column per evaluated stage, a row per metric. */
export function evaluationTable(stages) {
  const evaluated = stages.filter((stage) => stage.kind === "evaluate" && stage.state === "done");
  if (!evaluated.length) return [h("p.hint", {}, "No stage is evaluated yet.")];
  const names = [...new Set(evaluated.flatMap((stage) => Object.keys(stage.metrics)))];
  const column = (stage) => h("th.number", {}, humanize(stage.start || stage.name));
  const row = (name) => h("tr", {}, h("td.nowrap", {}, name), evaluated.map((stage) => cell(name, stage, before(name, stage, stages, evaluated))));
  return [h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Metric"), evaluated.map(column))), h("tbody", {}, names.map(row)))];
}

/** The last evaluation with this metric among the stages that the evaluated one came from. */
function before(metric, stage, stages, evaluated) {
  const startOf = (name) => stages.find((one) => one.name === name)?.start;
  for (let name = startOf(stage.start); name; name = startOf(name)) {
    const found = evaluated.find((one) => one.start === name && one.metrics[metric]);
    if (found) return found;
  }
  return null;
}

const rounded = (value) => (value === 0 ? "0" : Math.abs(value) < 0.001 ? value.toExponential(1) : value.toPrecision(3));

function cell(name, stage, past) {
  const metric = stage.metrics[name];
  if (!metric) return h("td.number", {}, h("span.muted", {}, "–"));
  const against = past ? `; change against ${humanize(past.start)}` : "", note = metric.note ? `; ${metric.note}` : "";
  const title = `95 % between ${rounded(metric.low)} and ${rounded(metric.high)}, n = ${metric.n}${note}${against}`;
  return h("td.number", { title }, rounded(metric.value), " ", past ? change(metric, past.metrics[name]) : h("small", {}));
}

function change(metric, past) {
  const difference = metric.value - past.value, apart = metric.low > past.high || metric.high < past.low;
  const judged = !apart ? "" : (difference < 0) === (metric.better === "low") ? ".better" : ".worse";
  return h(`small${judged}`, {}, difference === 0 ? "same" : `${difference > 0 ? "+" : "−"}${Number(Math.abs(difference).toPrecision(2))}`);
}

export function runsTable(runs) {
  if (!runs.length) return [h("div.hint", {}, h("p", {}, "No trainings yet. Train a candidate of a study, or show a run of your own here:"),
    h("pre.command", {}, `hilnas train start TRIAL --url ${location.origin}\nhilnas train run --recipe tiny --url ${location.origin}`))];
  const header = h("tr", {}, ["Training", "Recipe", "State", "Stages", "", "Trainer", "Begun"].map((name) => h("th", {}, name)));
  const meter = (run) => h("div.meter", { role: "progressbar", "aria-valuenow": Math.round(100 * run.share), "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": "progress" }, h("div.fill", { style: `width:${100 * run.share}%` }));
  const row = (run) => h("tr.pick", { onclick: () => { location.href = `/trainings/${run.id}`; } },
    h("td.nowrap", {}, h("a", { href: `/trainings/${run.id}` }, run.name)), h("td", {}, run.recipe), h("td", {}, pill(run.state)),
    h("td.nowrap", {}, run.share == null ? "" : meter(run), run.num_stages ? h("small", {}, `${run.num_done} of ${run.num_stages}`) : ""),
    h("td.clip", { title: run.error || run.message }, h("small", {}, run.error || run.message)), h("td", {}, run.where || (run.job_id ? "" : "user's machine")), h("td.nowrap", {}, h("small", {}, ago(run.created_at))));
  return [h("table", {}, h("thead", {}, header), h("tbody", {}, runs.map(row)))];
}
