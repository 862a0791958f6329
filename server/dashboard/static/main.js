// The studies page: which study is shown, its data, and when to reload.
import { ApiError, call, follow } from "./api.js";
import { h } from "./format.js";
import { noDevices, startAStudy } from "./guide.js";
import { deviceCards } from "./devices.js";
import { askForToken, startTheme } from "./page.js";
import { candidate, frontTable, jobsTable, summary } from "./panels.js";
import { loadRegistry } from "./registry.js";
import { drawScatter, scatterLegend } from "./scatter.js";
import { mixerLegend, widestOf } from "./strip.js";
import { knownKeys } from "./values.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 4000, POLL_LIVE_MS = 10000, DEBOUNCE_MS = 250;
const query = new URLSearchParams(location.search);
const state = {
  studies: [], study: null, trials: new Map(), since: null, front: null, jobs: [], devices: [], trainings: [], selected: query.get("trial"), live: false,
  view: { x: query.get("x"), y: query.get("y"), logX: query.has("logx"), logY: query.has("logy"), device: "", target: query.get("target") || "" }, order: { key: "", down: false },
};
let following = null, timer = null, busy = false, again = false;

const idInPath = () => location.pathname.match(/^\/studies\/([^/]+)/)?.[1] || null;
const trialsList = () => [...state.trials.values()].sort((a, b) => a.number - b.number);

async function refresh() {
  if (busy) return void (again = true);
  busy = true;
  clearTimeout(timer);
  try {
    await load();
    problem("");
    render();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) { await askForToken(); again = true; }
    else problem(error.message);
  } finally {
    busy = false;
    timer = setTimeout(refresh, again ? DEBOUNCE_MS : state.live ? POLL_LIVE_MS : POLL_MS);
    again = false;
  }
}

async function load() {
  await loadRegistry();
  [state.studies, state.devices] = await Promise.all([call("studies"), call("devices")]);
  const id = idInPath() || state.studies[0]?.id;
  if (!id) return void (state.study = null);
  if (state.study?.id !== id) await open(id);
  const since = state.since ? `?since=${encodeURIComponent(state.since)}` : "";
  const [study, trials, front, jobs, trainings] = await Promise.all([
    call(`studies/${id}`), call(`studies/${id}/trials${since}`), loadFront(id), call(`jobs?study_id=${id}&limit=40`), call(`trainings?study_id=${id}`),
  ]);
  Object.assign(state, { study, front, jobs, trainings });
  for (const trial of trials) {
    state.trials.set(trial.id, trial);
    if (!state.since || trial.updated_at > state.since) state.since = trial.updated_at;
  }
}

/** Drops a target in the address that this study does not have. */
async function loadFront(id) {
  const { target } = state.view;
  try {
    return await call(`studies/${id}/front${target ? `?target=${encodeURIComponent(target)}` : ""}`);
  } catch (error) {
    if (!target || error.status !== 400) throw error;
    state.view.target = "";
    return call(`studies/${id}/front`);
  }
}

async function open(id) {
  following?.abort();
  following = new AbortController();
  state.trials.clear();
  state.since = null;
  const study = await call(`studies/${id}`);
  const soon = () => { clearTimeout(timer); timer = setTimeout(refresh, DEBOUNCE_MS); };
  follow(`studies/${id}`, study.last_event_id, following.signal, soon, (live) => { state.live = live; connection(); });
  if (study.id !== idInPath()) history.replaceState(null, "", `/studies/${id}${location.search}`);
}

function problem(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text;
}

function connection() {
  $("connection").replaceChildren(h(`span.dot.${state.live ? "online" : "waiting"}`), state.live ? "live" : "updating every few seconds");
}

function render() {
  const { study } = state;
  $("study").hidden = !study;
  $("empty").hidden = Boolean(study);
  picker();
  connection();
  if (!study) return void $("empty").replaceChildren(startAStudy(location.origin, state.devices.length > 0));
  document.title = `${study.name} · hilnas`;
  const trials = trialsList(), widest = widestOf(trials), keys = knownKeys(study, trials);
  const axes = state.front.objectives, own = state.view.target && axes.find((key) => key.endsWith(`:${state.view.target}`));
  state.view.x ||= own || axes[1] || keys.costs[0] || axes[0];
  state.view.y ||= axes[0];
  const act = (verb) => attempt(() => call(`studies/${study.id}/${verb}`, { method: "POST" }));
  $("summary").replaceChildren(...summary(study, state.front, { stop: () => act("stop"), resume: () => act("resume") }));
  controls(keys);
  scatter(trials, widest);
  card(trials, widest);
  frontPanel(widest);
  $("mixers").replaceChildren(...mixerLegend(trials));
  $("jobs").replaceChildren(...jobsTable(state.jobs));
  $("jobs-count").textContent = state.jobs.length === 40 ? "the last 40" : "";
  devicesPanel(study);
}

function picker() {
  const options = state.studies.map((one) => h("option", { value: one.id, selected: one.id === state.study?.id }, `${one.name} (${one.state})`));
  $("study-picker").replaceChildren(...(options.length ? options : [h("option", {}, "no study yet")]));
}

function frontPanel(widest) {
  const sort = (key) => { state.order = { key, down: state.order.key === key && !state.order.down }; render(); };
  $("front").replaceChildren(...frontTable(state.front, state.trials, widest, state.selected, { pick, sort, order: state.order }));
}

function devicesPanel(study) {
  const drain = (device, draining) => attempt(() => call(`devices/${device.id}/drain`, { method: "POST", body: { draining } }));
  const resume = (device) => attempt(() => call(`devices/${device.id}/resume`, { method: "POST" }));
  const online = state.devices.filter((device) => device.state === "online").length;
  $("devices-count").textContent = state.devices.length ? `${online} of ${state.devices.length} online` : "";
  $("devices").replaceChildren(...(state.devices.length ? deviceCards(state.devices, study.id, { drain, resume }) : [noDevices(location.origin)]));
}

function controls(keys) {
  const signature = JSON.stringify([keys, state.view, state.study.id, state.devices.map((device) => device.id)]);
  if (signature === state.controls) return;
  state.controls = signature;
  const axis = (name, log) => h("span.axis-choice", {},
    h("label", {}, name.toUpperCase(), h("select", { "aria-label": `${name} axis`, onchange: (event) => look({ [name]: event.target.value }) }, groups(keys, state.view[name]))),
    h("label", {}, h("input", { type: "checkbox", checked: state.view[log], onchange: (event) => look({ [log]: event.target.checked }) }), "log"));
  const several = new Set(trialsList().flatMap((trial) => Object.values(trial.measurements).map((row) => row.device_id)));
  const choice = state.study.targets.length ? [targetChoice(state.study.targets)] : several.size > 1 ? [deviceChoice(several)] : [];
  $("scatter-controls").replaceChildren(axis("x", "logX"), axis("y", "logY"), ...choice);
}

function groups(keys, chosen) {
  const group = (label, list) => list.length ? [h("optgroup", { label }, list.map((key) => h("option", { value: key, selected: key === chosen }, key)))] : [];
  return [...group("objectives", keys.objectives), ...group("measured", keys.measured), ...group("known without measuring", keys.costs)];
}

/** Selects whose front is shown; this also sets the axes to its objectives. */
function targetChoice(targets) {
  const option = (value, text) => h("option", { value, selected: value === state.view.target }, text);
  const turn = (target) => { Object.assign(state.view, { target, x: null, y: null }); refresh().then(remember); };
  return h("label", {}, "front of", h("select", { "aria-label": "target", onchange: (event) => turn(event.target.value) },
    option("", "all targets jointly"), targets.map((target) => option(target.name, target.name))));
}

function deviceChoice(ids) {
  const named = state.devices.filter((device) => ids.has(device.id));
  const options = [h("option", { value: "" }, "worst device"), ...named.map((device) => h("option", { value: device.id, selected: device.id === state.view.device }, device.name))];
  return h("label", {}, "on", h("select", { "aria-label": "device", onchange: (event) => look({ device: event.target.value }) }, options));
}

function look(change) {
  Object.assign(state.view, change);
  remember();
  render();
}

function remember() {
  const { x, y, logX, logY, target } = state.view;
  const kept = new URLSearchParams({ ...(x && { x }), ...(y && { y }), ...(logX && { logx: 1 }), ...(logY && { logy: 1 }), ...(target && { target }), ...(state.selected && { trial: state.selected }) });
  history.replaceState(null, "", `${location.pathname}?${kept}`);
}

const kneeId = () => state.front.members.find((member) => member.knee)?.trial_id;

function scatter(trials, widest) {
  const box = $("scatter"), frontIds = new Set(state.front.members.map((member) => member.trial_id));
  const data = { study: state.study, trials, frontIds, kneeId: kneeId(), selectedId: state.selected, view: state.view };
  drawScatter(box, data, { pick, hover: (trial, x, y) => hoverCard(box, trial, x, y, widest) });
  $("scatter-legend").replaceChildren(...scatterLegend(Boolean(kneeId())));
}

function hoverCard(box, trial, x, y, widest) {
  box.querySelector(".hover")?.remove();
  if (!trial) return;
  const shown = h("div.hover", {}, candidate(trial, state.study, widest, trial.id === kneeId(), { short: true }));
  box.append(shown);
  const left = x + 24 + shown.offsetWidth > box.clientWidth ? x - shown.offsetWidth - 8 : x + 24;
  shown.style.left = `${Math.max(4, left)}px`;
  shown.style.top = `${Math.max(4, Math.min(y - 20, box.clientHeight - shown.offsetHeight - 4))}px`;
}

function card(trials, widest) {
  const chosen = state.trials.get(state.selected) || state.trials.get(kneeId());
  const train = (trial, recipe) => attempt(() => call(`trials/${trial.id}/train`, { method: "POST", body: { ...(recipe && { recipe }), quantization: state.study.spec.quantization } }));
  const trainings = state.trainings.filter((one) => one.trial_id === chosen?.id);
  $("candidate").replaceChildren(...candidate(chosen, state.study, widest, chosen?.id === kneeId(), { train, trainings }));
}

function pick(trialId) {
  state.selected = trialId;
  remember();
  render();
}

async function attempt(action) {
  try {
    await action();
    await refresh();
  } catch (error) {
    problem(error.message);
  }
}

startTheme();
$("study-picker").addEventListener("change", (event) => {
  history.pushState(null, "", `/studies/${event.target.value}`);
  Object.assign(state, { study: null, selected: null, view: { x: null, y: null, logX: false, logY: false, device: "", target: "" } });
  refresh();
});
window.addEventListener("popstate", () => { state.study = null; refresh(); });
let width = innerWidth;
window.addEventListener("resize", () => { if (innerWidth !== width && state.study) { width = innerWidth; render(); } });
refresh();
