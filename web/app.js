// The form, kept in the address, and the parts of the page that follow it.

import { pause } from "./api.js";
import { $, act, address, onSubmit } from "./dom.js";
import { about, combobox, resolved } from "./find.js";
import { showForecast, title } from "./forecast.js";
import { forgetKey, savedKey } from "./key.js";
import { lang } from "./text.js";

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

function readAddress() {
  const given = address();
  for (const [name, value] of Object.entries(DEFAULTS)) choose(ask.elements[name], given.get(name) ?? value);
  document.documentElement.dataset.view = given.get("view") ?? "";
}

function writeAddress(how = "pushState") {
  const query = address();
  for (const [name, value] of Object.entries({ ...wanted(), model: ask.elements.model.value })) {
    if (String(value) === DEFAULTS[name]) query.delete(name);
    else query.set(name, value);
  }
  const text = query.size > 0 ? `?${query}` : "";
  if (text !== location.search) history[how](null, "", location.pathname + text + location.hash);
}

let shown = {}, latest, search, loaded;

/** The parts below the forecast, loaded once. */
const parts = () => (loaded ??= import("./parts.js").then(prepared).catch((error) => { loaded = undefined; throw error; }));

function prepared(all) {
  all.prepareTraining(useModel);
  all.prepareBacktest(wanted);
  all.prepareWatched({ ticker: () => wanted().ticker, open });
  return {
    ...all,
    loadAnalysis: all.whenSeen("analysis", () => all.showAnalysis(wanted().ticker)),
    loadAccuracy: all.whenSeen("accuracy", () => all.showAccuracy(wanted())),
    loadWatched: all.whenSeen("watch", all.showWatched),
  };
}

/** Update the page to the form, the forecast first. Parts that do not change are not loaded again. */
async function refresh() {
  const now = latest = wanted();
  search = location.search;
  if (document.documentElement.dataset.view) {
    about(now.ticker).then(title);
    return act($("analysis-body"), async () => (await parts()).showAnalysis(now.ticker));
  }
  await Promise.race([showForecast(now, open), pause(HEAD_START_MS)]);
  return act($("model-body"), async () => follow(now, await parts()));
}

function follow(now, { showCard, showModels, loadAccuracy, loadAnalysis, loadWatched }) {
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
  delete shown.model; // a name may mean another model than before
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
  const query = address();
  const kept = query.get("lang") ?? localStorage.getItem(LANGUAGE);
  const other = $("language").lang;
  $("language").addEventListener("click", () => speak(other));
  if (query.has("lang")) localStorage.setItem(LANGUAGE, lang);
  else if (kept === other) speak(other);
  return kept === null || kept === lang || query.has("lang");
}

function speak(language) {
  const query = address();
  query.set("lang", language);
  localStorage.setItem(LANGUAGE, language);
  location.replace(`${location.pathname}?${query}${location.hash}`);
}

onSubmit(ask, async () => {
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
document.addEventListener("moved", () => { // an alias
  delete shown.model;
  refresh();
});
$("key").addEventListener("click", () => { forgetKey(); $("key").hidden = true; reload(); });

if (keepLanguage()) {
  readAddress();
  $("key").hidden = !savedKey();
  combobox(ask.elements.ticker, (symbol) => open(symbol));
  refresh();
}
