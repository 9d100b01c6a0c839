// The forecast: the sentence, the fan, every session in a table, and the source of the prices.

import { post } from "./api.js";
import { drawChart } from "./chart.js";
import { $, announce, busy, calm, el, more, notes, problem, show, table } from "./dom.js";
import { day, level, longDay, money, price, shortDay, signed, testSummary } from "./format.js";

const LEVELS = [0.5, 0.8, 0.95];
let pending, removeChart;

/** Shows the forecast of {ticker, model, days, history} and aborts an earlier call. */
export async function showForecast(wanted) {
  pending?.abort();
  pending = new AbortController();
  const { signal } = pending;
  const body = $("forecast-body");
  busy(body, "Loading prices and forecast …");
  try {
    // in sequence, so that a cold Lambda starts only once
    const forecast = await post("/predict/forecast", { symbol: wanted.ticker, days: wanted.days, levels: LEVELS, model_id: wanted.model }, { signal });
    const prices = await post("/models/fetch-data", { ticker: wanted.ticker, days: wanted.history }, { signal });
    removeChart?.();
    $("forecast-title").textContent = forecast.symbol;
    document.title = `${forecast.symbol} · Stock forecast`;
    show(body, ...parts(prices, forecast));
    removeChart = drawChart(body.querySelector(".chart"), body.querySelector(".readout"), prices, forecast);
    if (removeChart === null) withoutLibrary(body);
    announce(`Forecast of ${forecast.symbol} loaded.`);
    requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("forecast-painted")));
  } catch (error) {
    if (signal.aborted) return;
    removeChart?.();
    removeChart = null;
    $("forecast-title").textContent = wanted.ticker;
    show(body, problem(error, () => showForecast(wanted)));
  }
}

function parts(prices, forecast) {
  return [
    forecast.demo && el("p", { class: "warning" }, `Demo data, ends ${day(forecast.base_date)}`),
    el("p", { class: "faint last" }, `Closed at ${money(forecast.base_price, forecast.currency)} on ${day(forecast.base_date)}`),
    el("div", { class: "said" }, sentence(forecast), el("div", {}, second(forecast.explanation.sentence), second(testSummary(forecast.test)))),
    notes(forecast.warnings),
    figure(prices, forecast),
    more("All sessions in figures", sessions(forecast)),
    el("p", { class: "faint" }, provenance(prices, forecast)),
  ];
}

function sentence({ forecast: [next], currency, persistence }) {
  const wide = next.intervals.find((one) => one.level === 0.8);
  return el("p", { class: "lede" }, `Forecast for ${longDay(next.date)}: `, el("strong", {}, money(next.predicted_price, currency)),
    ` (${signed(next.expected_change_pct / 100, 2)}). ${level(0.8)} range: ${money(wide.lower, currency)}–${money(wide.upper, currency)}. No change: ${money(persistence, currency)}.`);
}

const second = (text) => el("p", { class: "second" }, text);

function figure(prices, forecast) {
  const rest = "Point at the chart to see its values.";
  const last = forecast.forecast.at(-1);
  const [low, high] = [last.intervals.at(-1).lower, last.intervals.at(-1).upper];
  const label = `Candles, volume and the forecast, which ends on ${day(last.date)} at ${price(last.predicted_price)}, ` +
    `${level(0.95)} between ${price(low)} and ${price(high)}. The table below has all figures.`;
  return el("figure", {},
    el("div", { class: "chart", role: "img", "aria-label": label }),
    el("figcaption", {},
      el("ul", { class: "legend" },
        el("li", {}, el("i", { class: "median" }), "median"),
        [...LEVELS].map((one) => el("li", {}, el("i", { class: `band b${one * 100}` }), level(one))),
        el("li", {}, el("i", { class: "nochange" }), "no change")),
      el("p", { class: "readout", "data-rest": rest, "aria-hidden": "true" }, rest)));
}

function withoutLibrary(body) {
  body.querySelector("figure").replaceWith(calm("The chart library is not installed on this server. The figures are below."));
  body.querySelector("details").open = true;
}

function sessions({ forecast, currency, persistence, symbol }) {
  const head = ["Session", "Median", "Change", ...LEVELS.map((one) => `${level(one)} range`), "No change"];
  const rows = forecast.map((one) => ({
    cells: [shortDay(one.date), money(one.predicted_price, currency), signed(one.expected_change_pct / 100, 2),
      ...one.intervals.map(({ lower, upper }) => `${price(lower)} – ${price(upper)}`), money(persistence, currency)],
  }));
  return table(`The next ${forecast.length} sessions of ${symbol}`, head, rows);
}

function provenance(prices, { source, base_date, stale, dropped, model_id, currency }) {
  const droppedRows = Object.entries(dropped).map(([reason, n]) => `${n} ${reason.replaceAll("_", " ")}`).join(", ");
  return [`Prices: ${source}, ${stale ? "newest sessions missing, " : ""}up to ${day(base_date)}`,
    currency && `in ${currency}`, droppedRows && `rows dropped: ${droppedRows}`, `model ${model_id}`].filter(Boolean).join(" · ");
}
