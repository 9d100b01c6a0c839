// The forecast: the sentence, the chart with its tools, every session in a table, and the source of the prices.

import { post, prices } from "./api.js";
import { drawChart } from "./chart.js";
import { $, action, address, announce, busy, calm, el, more, notes, problem, second, show, table, term } from "./dom.js";
import { about, nameOf, suggestions } from "./find.js";
import { count, day, level, longDay, money, move, percent, price, rangeOf, ratio, signed, testSummary } from "./format.js";
import { listed, parts as worded, t } from "./text.js";
import { toolsOf } from "./tools.js";

export const LEVELS = [0.5, 0.8, 0.95];
const FIRST_BARS = 130; // half a year, for the first paint; the rest follows when the page is idle
const ALL_BARS = 20_000;
const FAR_OFF = 0.05;
const OLD_MS = 10 * 86_400_000;
let pending, chart;

/** Shows the forecast of {ticker, model, days} and aborts an earlier call; `open` shows another ticker. */
export async function showForecast(wanted, open) {
  pending?.abort();
  pending = new AbortController();
  const { signal } = pending;
  const body = $("forecast-body");
  title(nameOf(wanted.ticker));
  busy(body, t("forecast.loading", { ticker: wanted.ticker }));
  announce(t("forecast.loading", { ticker: wanted.ticker }));
  try {
    // in sequence, so that a cold Lambda starts only once
    const forecast = await post("/predict/forecast", { symbol: wanted.ticker, days: wanted.days, levels: LEVELS, model_id: wanted.model }, { signal });
    const { data } = await prices(wanted.ticker, FIRST_BARS, signal);
    chart?.remove();
    title({ ...nameOf(wanted.ticker), symbol: forecast.symbol });
    const tools = el("div", { class: "tools" });
    show(body, ...parts(forecast, tools));
    chart = drawChart(body.querySelector(".chart"), body.querySelector(".readout"), forecast);
    if (chart === null) withoutLibrary(body);
    chart?.setBars(data);
    announce(t("forecast.loaded", { ticker: forecast.symbol }));
    requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("forecast-painted")));
    const all = whenIdle(signal).then(() => prices(wanted.ticker, ALL_BARS, signal)).then((all) => {
      if (!signal.aborted) chart?.setBars(all.data);
    }).catch(() => 0); // the chart keeps what it has
    tools.replaceChildren(...toolsOf(chart, forecast, body.querySelector("#past"), all));
    about(wanted.ticker).then((found) => { if (!signal.aborted) title({ ...found, symbol: forecast.symbol }); });
  } catch (error) {
    if (signal.aborted) return;
    chart?.remove();
    chart = undefined;
    const unknown = error.code === "ticker_not_found";
    const [first] = unknown ? await suggestions("", 1).catch(() => []) : [];
    if (first && first.symbol !== wanted.ticker && !address().has("ticker")) return open(first.symbol, "replaceState");
    const near = unknown && await nearby(wanted, error, open);
    show(body, problem(error, () => showForecast(wanted, open), near));
  }
}

const whenIdle = (signal) => new Promise((resolve, reject) => {
  signal.addEventListener("abort", () => reject(signal.reason));
  setTimeout(resolve, 700);
});

export function title({ symbol, name, exchange, currency }) {
  document.title = `${name ?? symbol} · ${t("page.brand")}`;
  const facts = listed(name && symbol, exchange, currency);
  $("forecast-title").replaceChildren(name ?? symbol, ...(facts ? [" ", el("small", {}, facts)] : []));
  document.dispatchEvent(new CustomEvent("titled", { detail: symbol }));
}

/** Buttons for what an unknown ticker may mean, and for one that is surely there. */
async function nearby({ ticker }, { did_you_mean: meant }, open) {
  const [near, first] = await Promise.all([suggestions(ticker, 4), suggestions("", 1)]).catch(() => [[], []]);
  const symbols = new Set([meant, ...near.map(({ symbol }) => symbol), ...first.map(({ symbol }) => symbol)].filter(Boolean));
  return symbols.size > 0 && el("p", { class: "near" }, t("forecast.near"), ...[...symbols].map((symbol) =>
    action(listed(nameOf(symbol).name, symbol), () => open(symbol))));
}

function parts(forecast, tools) {
  return [
    band(forecast),
    el("p", { class: "faint last" }, t("forecast.last", { price: money(forecast.base_price, forecast.currency), date: day(forecast.base_date) })),
    sentence(forecast),
    second(widthSentence(forecast.explanation, forecast.inputs, forecast.symbol)),
    tools,
    el("div", { id: "past" }),
    figure(forecast),
    last(forecast),
    second(testSummary(forecast.test)),
    notes(forecast.warnings),
    more(t("forecast.figures"), sessions(forecast)),
    el("p", { class: "faint" }, provenance(forecast)),
  ];
}

/** Old prices are unmistakable. */
function band({ demo, stale, base_date }) {
  if (demo) return el("p", { class: "warning" }, t("forecast.demo", { date: day(base_date) }));
  const old = stale || Date.now() - new Date(base_date) > OLD_MS;
  return old && el("p", { class: "warning" }, t("forecast.old", { date: day(base_date) }));
}

function sentence({ forecast: [next], currency, persistence }) {
  const wide = next.intervals.find((one) => one.level === 0.8);
  return el("p", { class: "lede" }, worded("forecast.headline", {
    date: longDay(next.date), price: el("strong", {}, money(next.predicted_price, currency)), change: signed(next.expected_change_pct / 100, 2),
    range: term("range", rangeOf(0.8)), lower: money(wide.lower, currency), upper: money(wide.upper, currency),
    nochange: term("no-change", t("head.nochange")), persistence: money(persistence, currency),
  }));
}

/** The same of the last session, where there are several. */
function last({ forecast, currency }) {
  const { date, predicted_price, intervals } = forecast.at(-1);
  const wide = intervals.find((one) => one.level === 0.8);
  return forecast.length > 1 && second(t("forecast.far", { n: forecast.length, date: day(date), price: money(predicted_price, currency), range: rangeOf(0.8),
    lower: money(wide.lower, currency), upper: money(wide.upper, currency) }));
}

const SAME = 0.05, MOSTLY = 2 / 3; // as the server counts

/** Why the range is wide or narrow: the server's sentence, from its figures. */
export function widthSentence({ expected_move_pct, usual_move_pct, parts: by, sentence: english }, inputs, ticker) {
  const expects = (key, values) => `${t("width.expected", { expected: move(expected_move_pct / 100) })}${t(key, { ticker, ...values })}`;
  if (usual_move_pct == null) return expects("width.unknown");
  const usual = move(usual_move_pct / 100);
  const times = expected_move_pct / usual_move_pct;
  const unknown = english.endsWith("market was not known.") ? ` ${t("width.nomarket")}` : "";
  if (Math.abs(times - 1) < SAME) return expects("width.same", { usual }) + unknown;
  const wider = times > 1;
  const key = times >= 2 ? "width.times" : wider ? "width.more" : "width.less";
  const share = times >= 2 ? ratio(times) : percent(Math.abs(times - 1), 0);
  const causes = [[t("width.own"), by.own], [t("width.market", { market: inputs.market ?? inputs.implied_volatility }), by.market ?? 0], [t(wider ? "width.misses" : "width.hits"), by.calibration]]
    .map(([name, part]) => [name, wider ? part : -part]).toSorted(([, one], [, other]) => other - one);
  const total = causes.reduce((sum, [, part]) => sum + Math.max(part, 0), 0);
  const [[main, most], [next]] = causes;
  const because = most >= MOSTLY * total ? t("width.mostly", { main }) : t("width.because", { main, next });
  return expects(key, { share, usual, because }) + unknown;
}

function figure(forecast) {
  const { date, predicted_price, intervals } = forecast.forecast.at(-1);
  const { lower, upper } = intervals.at(-1);
  const label = t("chart.label", { date: day(date), price: price(predicted_price), level: level(0.95), low: price(lower), high: price(upper) });
  return el("figure", {},
    el("div", { class: "plotted" }, el("div", { class: "chart", role: "img", "aria-label": label }), el("p", { class: "readout", "aria-hidden": "true" })),
    el("figcaption", {}, legend(forecast)));
}

/** Each range with how often it contained the close, at the horizon that is shown. */
function legend({ test }) {
  const at = { step: test.step, n: count(test.n_origins) };
  const ranges = LEVELS.map((one) => {
    const found = test.coverage.find(({ level: of }) => of === one)?.empirical_coverage;
    const off = found != null && Math.abs(found - one) > FAR_OFF;
    return el("li", {}, el("i", { class: `band b${one * 100}` }), term("coverage", rangeOf(one)),
      found != null && ` · ${t("legend.contained", { share: percent(found, 0) })}`, off && el("b", { class: "off" }, ` ${t("legend.off")}`));
  });
  return el("ul", { class: "legend" },
    el("li", {}, el("i", { class: "median" }), term("median", t("head.median"))), ranges,
    el("li", {}, el("i", { class: "nochange" }), t("head.nochange")),
    el("li", {}, t(test.step > 1 ? "legend.at" : "legend.atOne", at)));
}

function withoutLibrary(body) {
  body.querySelector("figure").replaceWith(calm(t("chart.missing")));
  body.querySelector("details").open = true;
}

function sessions({ forecast, currency, persistence, symbol }) {
  const head = [t("head.session"), t("head.median"), t("head.change"), ...LEVELS.map(rangeOf), t("head.nochange")];
  const rows = forecast.map((one) => ({
    cells: [longDay(one.date), money(one.predicted_price, currency), signed(one.expected_change_pct / 100, 2),
      ...one.intervals.map(({ lower, upper }) => `${price(lower)} – ${price(upper)}`), money(persistence, currency)],
  }));
  return table(t("forecast.next", { n: forecast.length, ticker: symbol }), head, rows);
}

function provenance({ source, base_date, stale, dropped, model_id, currency }) {
  const rows = Object.values(dropped).reduce((sum, n) => sum + n, 0);
  return listed(t(stale ? "source.stale" : "source.upto", { source, date: day(base_date) }),
    currency && t("source.currency", { currency }), rows > 0 && t("source.dropped", { rows }), t("source.model", { model: model_id }));
}
