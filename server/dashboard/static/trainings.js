// The trainings page: the list, or one training followed live.
import { ApiError, call, follow } from "./api.js";
import { lossChart } from "./curve.js";
import { h } from "./format.js";
import { askForToken, startTheme } from "./page.js";
import { evaluationTable, head, runsTable, stageLegend, stageStrip, stageTable } from "./training.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 4000, POLL_LIVE_MS = 15000, DEBOUNCE_MS = 300;
const id = location.pathname.match(/^\/trainings\/([^/]+)/)?.[1] || null;
const curves = new Map(), drawn = new Map(); // stage -> its curve; section -> what it was drawn from
let live = false, timer = null, busy = false, again = false, following = false;

async function refresh() {
  if (busy) return void (again = true);
  busy = true;
  clearTimeout(timer);
  try {
    await (id ? one() : all());
    problem("");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) { await askForToken(); again = true; } else problem(error.message);
  } finally {
    busy = false;
    timer = setTimeout(refresh, again ? DEBOUNCE_MS : live ? POLL_LIVE_MS : POLL_MS);
    again = false;
  }
}

async function all() {
  $("list").hidden = false;
  connection();
  $("runs").replaceChildren(...runsTable(await call("trainings")));
}

async function one() {
  const run = await call(`trainings/${id}`);
  await Promise.all(run.stages.map(loadCurve));
  $("training").hidden = false;
  document.title = `${run.name} · hilnas`;
  const act = (verb) => async () => { try { await call(`trainings/${id}/${verb}`, { method: "POST" }); await refresh(); } catch (error) { problem(error.message); } };
  section("summary", run, () => head(run, { stop: act("stop"), resume: act("resume") }));
  section("strip", run.stages, () => [stageStrip(run.stages)]);
  section("stages-legend", run.stages, () => stageLegend(run.stages));
  section("stages", run.stages, () => stageTable(run.stages));
  section("evaluation", run.stages.filter((stage) => stage.kind === "evaluate"), () => evaluationTable(run.stages));
  charts(run.stages);
  connection();
  if (!following) watch(run.revision);
}

/** Redraws a section only when its content changed, so that scroll position and pointer stay. */
function section(name, content, draw) {
  const text = JSON.stringify(content);
  if (drawn.get(name) === text) return;
  drawn.set(name, text);
  $(name).replaceChildren(...draw());
}

/** A curve is reloaded while its stage is running, and once more when it is done. */
async function loadCurve(stage) {
  const mark = `${stage.state} ${stage.share}`, known = curves.get(stage.name);
  if (known?.mark === mark || stage.state === "open" || stage.kind === "evaluate") return;
  const [found] = await call(`trainings/${id}/curve?stage=${encodeURIComponent(stage.name)}`);
  curves.set(stage.name, { mark: stage.state === "running" ? "" : mark, curve: found });
}

function charts(stages) {
  const found = stages.map((stage) => curves.get(stage.name)?.curve).filter(Boolean);
  const marks = found.map((curve) => [curve.stage, curve.steps.length, curve.steps.at(-1)]);
  section("curves", marks, () => (found.length ? found.map(lossChart) : [h("p.muted.small", {}, "No training steps yet.")]));
}

function watch(revision) {
  following = true;
  const soon = () => { clearTimeout(timer); timer = setTimeout(refresh, DEBOUNCE_MS); };
  follow(`trainings/${id}`, revision, new AbortController().signal, soon, (state) => { live = state; connection(); });
}

function problem(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text;
}

function connection() {
  $("connection").replaceChildren(h(`span.dot.${live ? "online" : "waiting"}`), live ? "live" : "updating every few seconds");
}

startTheme();
refresh();
