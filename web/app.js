// The form, kept in the address, and the parts of the page that follow it.

import { prepareBacktest } from "./backtest.js";
import { $ } from "./dom.js";
import { showAccuracy, showAnalysis, whenSeen } from "./evidence.js";
import { combobox, resolved } from "./find.js";
import { showForecast } from "./forecast.js";
import { forgetKey, savedKey } from "./key.js";
import { showCard, showModels } from "./models.js";
import { lang } from "./text.js";
import { prepareTraining } from "./training.js";
import { prepareWatched, showWatched } from "./watch.js";

const LANGUAGE = "language";
const DEFAULTS = { ticker: "^GSPC", model: "", days: "10" };
const HEAD_START_MS = 2000;
const ask = $("ask");
const wanted = () => {
  const { ticker: typed, model, days } = Object.fromEntries(new FormData(ask));
  const ticker = typed.trim().toUpperCase();
  return { ticker, model: model || `ticker/${ticker}`, days: Number(days) };
};

function choose(field, value) {
  if (field.type === "select-one" && ![...field.options].some((option) => option.value === value)) field.add(new Option(value, value));
  field.value = value;
}

const loadAnalysis = whenSeen("analysis", () => showAnalysis(wanted().ticker));
const loadAccuracy = whenSeen("accuracy", () => showAccuracy(wanted()));
const loadWatched = whenSeen("watch", showWatched);

function readAddress() {
  const given = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(DEFAULTS)) choose(ask.elements[name], given.get(name) ?? value);
  document.documentElement.dataset.view = given.get("view") ?? "";
}

function writeAddress(how = "pushState") {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries({ ...wanted(), model: ask.elements.model.value })) {
    if (String(value) === DEFAULTS[name]) query.delete(name);
    else query.set(name, value);
  }
  const text = query.size > 0 ? `?${query}` : "";
  if (text !== location.search) history[how](null, "", location.pathname + text + location.hash);
}

let shown = {}, latest, search;

/** Update the page to the form, the forecast first. Parts that do not change are not loaded again. */
async function refresh() {
  const now = latest = wanted();
  search = location.search;
  if (document.documentElement.dataset.view) return showAnalysis(now.ticker);
  await Promise.race([showForecast(now, open), new Promise((resolve) => setTimeout(resolve, HEAD_START_MS))]);
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
  if (shown.ticker === undefined) loadWatched();
  shown = now;
}

/** Shows another ticker. */
function open(symbol, how) {
  ask.elements.ticker.value = symbol;
  writeAddress(how);
  refresh();
  $("forecast").scrollIntoView();
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

/** The language that was chosen here before, if the address names none. */
function keepLanguage() {
  const query = new URLSearchParams(location.search);
  const kept = query.get("lang") ?? localStorage.getItem(LANGUAGE);
  const other = $("language").lang;
  $("language").addEventListener("click", () => speak(other));
  if (query.has("lang")) localStorage.setItem(LANGUAGE, lang);
  else if (kept === other) speak(other);
  return kept === null || kept === lang || query.has("lang");
}

function speak(language) {
  const query = new URLSearchParams(location.search);
  query.set("lang", language);
  localStorage.setItem(LANGUAGE, language);
  location.replace(`${location.pathname}?${query}${location.hash}`);
}

ask.addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = ask.elements.ticker;
  field.value = await resolved(field.value);
  writeAddress();
  refresh();
});
document.addEventListener("change", ({ target }) => {
  if (target.form !== ask || target.tagName !== "SELECT" || !ask.reportValidity()) return;
  writeAddress("replaceState");
  refresh();
});
addEventListener("popstate", () => {
  if (location.search === search) return; // a link within the page
  readAddress();
  refresh();
});
document.addEventListener("reload", reload);
document.addEventListener("key", () => { $("key").hidden = !savedKey(); });
document.addEventListener("moved", () => { // an alias: the same name may now mean another model
  delete shown.model;
  refresh();
});
$("key").addEventListener("click", () => { forgetKey(); $("key").hidden = true; reload(); });

if (keepLanguage()) {
  readAddress();
  $("key").hidden = !savedKey();
  combobox(ask.elements.ticker, (symbol) => open(symbol));
  prepareTraining(useModel);
  prepareBacktest(wanted);
  prepareWatched({ ticker: () => wanted().ticker, open });
  refresh();
}
