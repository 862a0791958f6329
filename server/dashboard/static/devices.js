// One card per device: hardware, current job, its state at the last measurement, and whether its peers agree with it.
import { ago, duration, h, pill, plain, quantity } from "./format.js";

const folds = new Map(); // what the user opened or closed, kept when the cards are redrawn

function fold(key, open, title, content) {
  return h("details.small", { open: folds.get(key) ?? open, ontoggle: (event) => folds.set(key, event.target.open) }, h("summary", {}, title), content);
}

export function deviceCards(devices, studyId, actions) {
  return devices.map((device) => h("div.device", {},
    head(device, actions),
    h("div.small.muted", {}, hardware(device.facts)),
    device.quarantine ? h("p.note.small", {}, device.quarantine) : null,
    h("div.small", {}, currentJob(device, studyId)),
    details(device),
    environment(device),
    verdicts(device.verdicts),
    h("div.small.muted", {}, canary(device.canary), ` · ${device.num_queued} queued · seen ${ago(device.last_seen)}`,
      device.twins.length ? ` · shares work with ${device.twins.join(", ")}` : "")));
}

function head(device, { drain, resume }) {
  const state = device.draining ? "draining" : device.quarantine ? "quarantine" : device.state;
  const button = device.quarantine && !device.draining
    ? h("button.button.small", { title: "Its rows count again", onclick: () => resume(device) }, "Resume")
    : h("button.button.small", { title: device.draining ? "Give this device work again" : "Let it finish its job, then give it no more",
      onclick: () => drain(device, !device.draining) }, device.draining ? "Take back" : "Drain");
  return h("div.device-head", {}, h(`span.dot.${device.state}`, { title: device.state }), device.name, h(`span.pill.${state}`, {}, state), button);
}

const gib = (bytes) => `${Math.round(bytes / 2 ** 30)} GiB`;

function hardware(facts) {
  return [facts.model, `${facts.cores} cores`, gib(facts.memory_bytes), facts.os].filter(Boolean).join(" · ");
}

function currentJob(device, studyId) {
  const job = device.current_job;
  if (!job) return h("span.muted", {}, device.state === "online" ? "waiting for work" : "offline: start its agent again, or drain it");
  const where = job.study_id === studyId ? "" : " of another study";
  return `${job.kind === "measure" ? "measuring" : "training"} #${job.trial_number}${where}${job.message ? `: ${job.message}` : ""}`;
}

/** Facts that the agent reported when it enrolled. */
function details({ id, facts: { details: facts = {} } }) {
  const rows = [
    ["soc", facts.soc], ["Android", [facts.android, facts.one_ui && `One UI ${facts.one_ui}`].filter(Boolean).join(", ")],
    ["build", facts.build], ["kernel", facts.kernel], ["cores", clusters(facts.cores)], ["big cores", listed(facts.big_cores)],
    ["page size", facts.page_size && quantity(facts.page_size, "bytes")],
    ["thermal zones", Array.isArray(facts.thermal_zones) ? facts.thermal_zones.length : facts.thermal_zones],
    ["free", facts.free_bytes && quantity(facts.free_bytes, "bytes")], ["virtual", facts.virtual ? "yes, not a real phone" : null],
  ].filter(([, value]) => value != null && value !== "");
  return rows.length ? fold(`${id} facts`, false, "hardware and system", table(rows)) : null;
}

const listed = (values) => (Array.isArray(values) ? values.join(", ") : values);

/** ``4 × 1.96 GHz, 1 × 3.21 GHz`` */
function clusters(cores) {
  if (!Array.isArray(cores)) return null;
  const counts = new Map();
  for (const core of cores) counts.set(core.max_khz, (counts.get(core.max_khz) || 0) + 1);
  return [...counts].sort((a, b) => a[0] - b[0]).map(([khz, count]) => `${count} × ${(khz / 1e6).toFixed(2)} GHz`).join(", ");
}

const THERMAL = ["none", "light", "moderate", "severe", "critical", "emergency", "shutdown"];

/** At the last measurement: ``before → after`` where both are known. */
function environment({ id, environment: { before = {}, after = {} } }) {
  const pair = (key, show) => {
    const values = [before[key], after[key]].filter((value) => value != null).map(show);
    return values.length === 2 && values[0] !== values[1] ? values.join(" → ") : values[0];
  };
  const rows = [
    ["battery temperature", pair("battery_c", (value) => `${plain(value)} °C`)],
    ["thermal status", pair("thermal_status", (value) => THERMAL[value] ?? String(value))],
    ["battery", pair("battery_level", (value) => `${value} %`)], ["charging", pair("charging", (value) => (value ? "yes" : "no"))],
    ["clocks", pair("measuring_policy", ({ mode }) => (mode ? mode.replaceAll("_", " ") : ""))],
    ["frequency caps", pair("caps_khz", caps)], ["mean frequency", pair("residency", means)],
    ["temperature gate", pair("gate", gate)], ["governor", pair("governor", String)],
  ].filter(([, value]) => value);
  return rows.length ? fold(`${id} environment`, true, "at its last measurement", table(rows)) : null;
}

const ghz = (policy, khz) => `${/^\d+$/.test(policy) ? "policy" : ""}${policy} ${(khz / 1e6).toFixed(2)} GHz`;

const caps = (byPolicy) => Object.entries(byPolicy).map(([policy, khz]) => ghz(policy, khz)).join(", ");

/** From the share of time at each frequency. */
function means(byPolicy) {
  const mean = (shares) => Object.entries(shares).reduce((sum, [khz, share]) => sum + khz * share, 0);
  return Object.entries(byPolicy).map(([policy, shares]) => ghz(policy, mean(shares))).join(", ");
}

function gate({ waited_s: waited, timed_out: timedOut, threshold_c: threshold }) {
  const below = threshold == null ? "" : ` for ${plain(threshold)} °C`;
  return timedOut ? `gave up after ${duration(waited)}${below}` : waited ? `waited ${duration(waited)}${below}` : "cool at once";
}

const table = (rows) => h("dl.facts", {}, rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));

function verdicts(counts) {
  const rows = Object.entries(counts || {});
  const total = rows.reduce((sum, [, count]) => sum + count, 0);
  if (!total) return null;
  return h("div.small", { title: `verdicts of the last ${total} measurements` }, rows.map(([name, count]) => [pill(name), ` ${count} `]));
}

function canary(row) {
  if (!row || row.drift == null) return "no canary yet";
  const percent = 100 * row.drift, level = Math.abs(percent) < 3 ? "good" : Math.abs(percent) < 8 ? "warn" : "bad";
  return h(`span.drift.${level}`, { title: "time of the reference block in the last measurement against this device's own reference" },
    `canary ${percent >= 0 ? "+" : ""}${percent.toFixed(1)} %`);
}
