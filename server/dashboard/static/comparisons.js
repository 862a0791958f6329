// The comparisons page: the list, or one comparison. Nothing in it changes, so it is loaded once.
import { ApiError, call } from "./api.js";
import { comparisonsTable, head, metricCard, modelsTable, sustainedTable } from "./comparison.js";
import { askForToken, startTheme } from "./page.js";

const $ = (id) => document.getElementById(id);
const id = location.pathname.match(/^\/comparisons\/([^/]+)/)?.[1] || null;

async function load() {
  try {
    await (id ? one() : all());
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) { await askForToken(); return load(); }
    $("problem").hidden = false;
    $("problem").textContent = error.message;
  }
}

async function all() {
  $("comparisons").replaceChildren(...comparisonsTable(await call("comparisons")));
  $("list").hidden = false;
}

async function one() {
  const found = await call(`comparisons/${encodeURIComponent(id)}`), shown = { ...found.comparison, fingerprint: found.fingerprint };
  const metrics = [...shown.settings.prompts.map((length) => `prefill_ms@${length}`), ...shown.settings.contexts.map((length) => `decode_ms@${length}`)];
  document.title = `${shown.title} · hilnas`;
  $("summary").replaceChildren(...head(shown));
  $("models").replaceChildren(...modelsTable(shown));
  $("metrics").replaceChildren(...metrics.map((metric) => metricCard(shown, metric)));
  $("sustained-card").hidden = !shown.sustained.length;
  $("sustained").replaceChildren(...sustainedTable(shown));
  $("command").textContent = shown.command;
  $("raw").href = URL.createObjectURL(new Blob([JSON.stringify(found.comparison)], { type: "application/json" }));
  $("raw").download = `${found.id}.json`;
  $("comparison").hidden = false;
}

startTheme();
load();
