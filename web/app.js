// The form, kept in the address, and the parts of the page that follow it.

import { forgetKey, savedKey } from "./api.js";
import { prepareBacktest } from "./backtest.js";
import { $ } from "./dom.js";
import { showAccuracy, showAnalysis, whenSeen } from "./evidence.js";
import { showForecast } from "./forecast.js";
import { showCard, showModels } from "./models.js";
import { prepareTraining } from "./training.js";

const DEFAULTS = { ticker: "^GSPC", model: "", days: "10", history: "63" };
const HEAD_START_MS = 2000;
const ask = $("ask");
const wanted = () => {
  const { ticker: typed, model, days, history } = Object.fromEntries(new FormData(ask));
  const ticker = typed.trim().toUpperCase();
  return { ticker, model: model || `ticker/${ticker}`, days: Number(days), history: Number(history) };
};

function choose(field, value) {
  if (field.type === "select-one" && ![...field.options].some((option) => option.value === value)) field.add(new Option(value, value));
  field.value = value;
}

const loadAnalysis = whenSeen("analysis", () => showAnalysis(wanted().ticker));
const loadAccuracy = whenSeen("accuracy", () => showAccuracy(wanted()));

function readAddress() {
  const given = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(DEFAULTS)) choose(ask.elements[name], given.get(name) ?? value);
}

function writeAddress(how = "pushState") {
  const fields = Object.entries({ ...wanted(), model: ask.elements.model.value }).filter(([name, value]) => String(value) !== DEFAULTS[name]);
  const query = fields.length > 0 ? `?${new URLSearchParams(fields)}` : "";
  if (query !== location.search) history[how](null, "", location.pathname + query + location.hash);
}

let shown = {}, latest, search;

/** Update the page to the form, the forecast first. Parts that do not change are not loaded again. */
async function refresh() {
  const now = latest = wanted();
  search = location.search;
  await Promise.race([showForecast(now), new Promise((resolve) => setTimeout(resolve, HEAD_START_MS))]);
  if (now !== latest) return;
  if (now.model !== shown.model) {
    showCard(now.model);
    showModels(now.model, useModel);
  }
  if (now.model !== shown.model || now.ticker !== shown.ticker) loadAccuracy();
  if (now.ticker !== shown.ticker) {
    $("train-form").elements.tickers.value = now.ticker;
    $("backtest-body").replaceChildren();
    loadAnalysis();
  }
  shown = now;
  $("key").hidden = !savedKey();
}

function useModel(id, tickers = []) {
  choose(ask.elements.model, id);
  if (tickers.length > 0 && !tickers.includes(wanted().ticker)) ask.elements.ticker.value = tickers[0];
  writeAddress();
  refresh();
}

const reload = () => {
  shown = {};
  refresh();
};

ask.addEventListener("submit", (event) => {
  event.preventDefault();
  writeAddress();
  refresh();
});
ask.addEventListener("change", ({ target }) => {
  if (target.tagName !== "SELECT" || !ask.reportValidity()) return;
  writeAddress("replaceState");
  refresh();
});
addEventListener("popstate", () => {
  if (location.search === search) return; // a link within the page
  readAddress();
  refresh();
});
document.addEventListener("reload", reload);
document.addEventListener("moved", () => { // an alias: the same name may now mean another model
  delete shown.model;
  refresh();
});
$("key").addEventListener("click", () => { forgetKey(); reload(); });

readAddress();
prepareTraining(useModel);
prepareBacktest(wanted);
refresh();
