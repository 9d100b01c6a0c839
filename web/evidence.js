// Two parts that are asked for when they come into view: the past of the prices, and what became of forecasts.

import { call, get, keyGiven } from "./api.js";
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
    show(body, ...analysis(found), report(path, ticker));
  } catch (error) {
    show(body, absent(error) ? calm("This server does not analyse prices.") : problem(error, () => showAnalysis(ticker)));
  }
}

function analysis({ summary, distribution, volatility, drawdowns, seasonality, dependence, stationarity, warnings, ...found }) {
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
    el("ul", { class: "readings" }, [distribution.reading, dependence.reading, stationarity.reading, seasonality.weekday.reading, seasonality.month.reading].map((text) => el("li", {}, text))),
    table("Volatility a year", ["Estimator", "Sessions", "Now", "Median"], volatility.rolling.map((one) => ({
      cells: [one.estimator.replaceAll("_", " "), String(one.window), percent(one.last), percent(one.median)] }))),
  ];
}

/** The report as a page of its own. A link cannot carry the API key, so with one it is fetched and saved. */
function report(path, ticker) {
  const address = `${path}?format=html`;
  if (!keyGiven()) return el("p", {}, el("a", { href: address }, "The whole report"));
  const save = async (event) => {
    try {
      const page = await call("GET", address, { as: "text", headers: { Accept: "text/html" } });
      const link = el("a", { href: URL.createObjectURL(new Blob([page], { type: "text/html" })), download: `${ticker}.html` });
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      event.target.after(problem(error));
    }
  };
  return el("p", {}, el("button", { type: "button", onclick: save }, "Save the whole report"));
}

export async function showAccuracy() {
  const body = $("accuracy-body");
  busy(body, "Asking what became of the forecasts …");
  try {
    show(body, ...anything(await get("/monitoring/accuracy")));
  } catch (error) {
    show(body, absent(error) ? calm("This server does not keep its forecasts, so there is nothing to compare with what happened.") : problem(error, showAccuracy));
  }
}

/** Whatever JSON tells, as facts and tables: names are those of the API. */
function anything(value, title = "Realised accuracy") {
  const entries = Object.entries(Array.isArray(value) ? { [title]: value } : value);
  const plain = entries.filter(([, one]) => one === null || typeof one !== "object");
  const listed = entries.filter(([, one]) => Array.isArray(one));
  const nested = entries.filter(([, one]) => one !== null && typeof one === "object" && !Array.isArray(one));
  return [
    plain.length > 0 && facts(plain.map(([name, one]) => [words(name), cell(one)])),
    ...listed.map(([name, rows]) => rows.length === 0 ? calm(`${words(name)}: none yet.`) : listing(words(name), rows)),
    ...nested.flatMap(([name, one]) => [el("h3", {}, words(name)), ...anything(one, name)]),
  ];
}

function listing(name, rows) {
  const flat = rows.map((row) => (row !== null && typeof row === "object" ? flattened(row) : { [name]: row }));
  const columns = [...new Set(flat.flatMap(Object.keys))];
  return table(name, columns.map(words), flat.map((row) => ({ cells: columns.map((column) => cell(row[column])) })));
}

const flattened = (row, prefix = "") => Object.assign({}, ...Object.entries(row).map(([name, value]) =>
  value !== null && typeof value === "object" && !Array.isArray(value) ? flattened(value, `${prefix}${name}.`) : { [prefix + name]: value }));

const words = (name) => name.replaceAll("_", " ").replaceAll(".", " · ");

function cell(value) {
  if (value == null) return "–";
  if (typeof value === "number") return figure(value);
  if (Array.isArray(value)) return value.map((one) => (typeof one === "object" ? JSON.stringify(one) : cell(one))).join(", ");
  return String(value);
}
