// Two parts that are asked for when they come into view: the past of the prices, and what became of forecasts.

import { get, keyGiven } from "./api.js";
import { $, busy, calm, el, facts, notes, problem, show, table } from "./dom.js";
import { count, day, figure, percent, signed } from "./format.js";

/** Calls `ask` as soon as somebody is about to see the part, and again with each new `wake`. */
export function whenSeen(id, ask) {
  let seen = false, due = true;
  const look = () => { if (seen && due) { due = false; ask(); } };
  new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; look(); }, { rootMargin: "200px" }).observe($(id));
  return () => { due = true; look(); };
}

const absent = (error) => error.status === 501 || error.status === 405 || (error.status === 404 && error.code === "not_found");

export async function showAnalysis(ticker) {
  const body = $("analysis-body");
  const path = `/analysis/${encodeURIComponent(ticker)}`;
  busy(body, `Looking at the past of ${ticker} …`);
  try {
    const found = await get(path);
    show(body, ...analysis(found), report(path));
  } catch (error) {
    show(body, absent(error) ? calm("This server does not analyse prices.") : problem(error, () => showAnalysis(ticker)));
  }
}

function analysis({ summary, distribution, drawdowns, seasonality, dependence, stationarity, warnings, ...found }) {
  const deepest = drawdowns.deepest[0];
  return [
    facts([
      ["Sessions", `${count(found.n_sessions)}, ${day(found.first_session)} to ${day(found.last_session)}`],
      ["Volatility a year", percent(summary.annualised_volatility)],
      ["Mean log return a year", signed(summary.annualised_mean_log_return)],
      ["Skewness", figure(distribution.skewness, 3)], ["Excess kurtosis", figure(distribution.excess_kurtosis, 3)],
      ["Beyond 3 sd", `${count(distribution.n_beyond_3_sd)}; ${figure(distribution.n_beyond_3_sd_if_normal, 3)} if normal`],
      ["Below its peak now", percent(drawdowns.current)],
      ["Deepest fall", deepest && `${percent(deepest.depth)}, ${day(deepest.peak)} to ${day(deepest.trough)}`],
    ]),
    notes(warnings),
    el("ul", {}, [distribution.reading, dependence.reading, stationarity.reading, seasonality.weekday.reading, seasonality.month.reading].map((text) => el("li", {}, text))),
  ];
}

/** The report is a page of its own; a link cannot carry an API key. */
const report = (path) => !keyGiven() && el("p", {}, el("a", { href: `${path}?format=html` }, "The whole report"));

export async function showAccuracy() {
  const body = $("accuracy-body");
  busy(body, "Asking what became of the forecasts …");
  try {
    show(body, ...anything(await get("/monitoring/accuracy")));
  } catch (error) {
    show(body, absent(error) ? calm("This server does not keep its forecasts, so there is nothing to compare with what happened.") : problem(error, showAccuracy));
  }
}

/** Whatever JSON tells: its lists of objects as tables, all else as facts. Names are those of the API. */
function anything(answer) {
  const entries = Object.entries(flattened(answer));
  const isTable = (value) => Array.isArray(value) && typeof value[0] === "object";
  return [
    facts(entries.filter(([, value]) => !isTable(value)).map(([name, value]) => [words(name), cell(value)])),
    ...entries.filter(([, value]) => isTable(value)).map(([name, values]) => {
      const rows = values.map((row) => flattened(row));
      const columns = [...new Set(rows.flatMap(Object.keys))];
      return table(words(name), columns.map(words), rows.map((row) => ({ cells: columns.map((column) => cell(row[column])) })));
    }),
  ];
}

const flattened = (row, prefix = "") => Object.assign({}, ...Object.entries(row).map(([name, value]) =>
  value?.constructor === Object ? flattened(value, `${prefix}${name}.`) : { [prefix + name]: value }));

const words = (name) => name.replaceAll("_", " ").replaceAll(".", " · ");

function cell(value) {
  if (value == null || value.length === 0) return "none";
  if (Array.isArray(value)) return value.map(cell).join(", ");
  return typeof value === "number" ? figure(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
}
