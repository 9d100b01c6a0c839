// What is wanted, kept in the address, and the parts of the page that show it.

import { forgetKey, keyGiven } from "./api.js";
import { prepareBacktest } from "./backtest.js";
import { $ } from "./dom.js";
import { showAccuracy, showAnalysis, whenSeen } from "./evidence.js";
import { showForecast } from "./forecast.js";
import { showCard, showModels } from "./models.js";
import { prepareTraining } from "./training.js";

const DEFAULTS = { ticker: "^GSPC", model: "default", days: "10", history: "63" };
const HEAD_START_MS = 2000;
const ask = $("ask");
const wanted = () => {
  const { ticker, model, days, history } = Object.fromEntries(new FormData(ask));
  return { ticker: ticker.trim().toUpperCase(), model, days: Number(days), history: Number(history) };
};

function choose(field, value) {
  if (field.type === "select-one" && ![...field.options].some((option) => option.value === value)) field.add(new Option(value, value));
  field.value = value;
}

const analyse = whenSeen("analysis", () => showAnalysis(wanted().ticker));
const recall = whenSeen("accuracy", () => showAccuracy(wanted()));

function readAddress() {
  const given = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(DEFAULTS)) choose(ask.elements[name], given.get(name) ?? value);
}

function writeAddress(how = "pushState") {
  const fields = Object.entries(wanted()).filter(([name, value]) => String(value) !== DEFAULTS[name]);
  const query = fields.length > 0 ? `?${new URLSearchParams(fields)}` : "";
  if (query !== location.search) history[how](null, "", location.pathname + query + location.hash);
}

let shown = {}, latest, search;

/** Show what the fields say, the forecast first; parts that would stay as they are are not asked for again. */
async function refresh() {
  const now = latest = wanted();
  search = location.search;
  await Promise.race([showForecast(now), new Promise((resolve) => setTimeout(resolve, HEAD_START_MS))]);
  if (now !== latest) return;
  if (now.model !== shown.model) {
    showCard(now.model);
    showModels(now.model, useModel);
  }
  if (now.model !== shown.model || now.ticker !== shown.ticker) recall();
  if (now.ticker !== shown.ticker) {
    $("train-form").elements.tickers.value = now.ticker;
    $("backtest-body").replaceChildren();
    analyse();
  }
  shown = now;
  $("key").hidden = !keyGiven();
}

function useModel(id, tickers = []) {
  choose(ask.elements.model, id);
  if (tickers.length > 0 && !tickers.includes(wanted().ticker)) ask.elements.ticker.value = tickers[0];
  writeAddress();
  refresh();
}

const anew = () => {
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
  if (location.search === search) return; // a step within the page
  readAddress();
  refresh();
});
document.addEventListener("anew", anew);
document.addEventListener("moved", () => { // an alias: another model may stand behind the same name
  delete shown.model;
  refresh();
});
$("key").addEventListener("click", () => { forgetKey(); anew(); });

readAddress();
prepareTraining(useModel);
prepareBacktest(wanted);
refresh();
