// The watch list of this browser, and its tickers side by side.

import { get, post, prices } from "./api.js";
import { colour, newChart, whenRecoloured } from "./chart.js";
import { $, calm, el, fill, kept, link, message, onSubmit, table } from "./dom.js";
import { about, combobox, nameOf, resolved } from "./find.js";
import { day, level, money, move, price, ratio, signed } from "./format.js";
import { lang, named, t } from "./text.js";

const KEY = "watched";
const MOST = 40, MOST_TOGETHER = 6, FEW = 3;
const SPARK_SESSIONS = 30, TOGETHER_SESSIONS = 252;
const LINES = ["--accent", "--orange", "--purple", "--blue", "--faint", "--ink"];
const saved = () => {
  const found = kept(KEY);
  return Array.isArray(found) ? found.filter((one) => typeof one === "string").slice(0, MOST) : [];
};
let order = { by: 0, down: false }, picked = new Set(), opened, rows = [];

function save(symbols) {
  const before = saved();
  for (const one of symbols) if (!before.includes(one) && picked.size < FEW) picked.add(one);
  localStorage.setItem(KEY, JSON.stringify(symbols.slice(0, MOST)));
  showWatched();
  star(opened.ticker());
}

/** `ticker` returns the ticker that is shown, `open` shows another one. */
export function prepareWatched(page) {
  opened = page;
  const form = $("watch-form"), input = form.elements.ticker;
  const add = (symbol) => {
    input.value = "";
    if (!saved().includes(symbol)) save([...saved(), symbol]);
  };
  combobox(input, add);
  onSubmit(form, async () => add(await resolved(input.value)));
  $("star").addEventListener("click", () => {
    const ticker = opened.ticker();
    save(saved().includes(ticker) ? saved().filter((one) => one !== ticker) : [...saved(), ticker]);
  });
  document.addEventListener("titled", ({ detail }) => star(detail));
  star(opened.ticker());
}

function star(ticker) {
  const on = saved().includes(ticker);
  const button = $("star");
  button.hidden = false;
  button.setAttribute("aria-pressed", String(on));
  button.textContent = t(on ? "watch.starred" : "watch.star");
}

export function showWatched() {
  const symbols = saved();
  picked = new Set([...picked].filter((one) => symbols.includes(one)));
  if (symbols.length === 0) {
    $("together-body").replaceChildren();
    return $("watch-body").replaceChildren(calm(t("watch.empty")));
  }
  return fill($("watch-body"), async () => {
    rows = await latest(symbols);
    await Promise.all(symbols.map(about));
    if (rows.length > 1 && picked.size === 0) rows.filter(({ error }) => !error).slice(0, FEW).forEach(({ symbol }) => picked.add(symbol));
    const drawn = list();
    showTogether();
    rows.forEach(complete);
    return drawn;
  });
}

/** One row for each symbol: what the last night published, and one batch for what it did not. */
async function latest(symbols) {
  const published = await get("/forecasts/latest", { tickers: symbols }).then(fromNight, (error) => {
    if (error.status === 404) return new Map(); // no night has published anything
    throw error;
  });
  const missing = symbols.filter((one) => !published.has(one));
  if (missing.length > 0) {
    const { results } = await post("/predict/batch", { symbols: missing, days: 1, levels: [0.8] });
    results.forEach(({ symbol, result, error }) => published.set(symbol, error ? { symbol, error: error.detail } : fromBatch(symbol, result)));
  }
  return symbols.map((one) => published.get(one));
}

const fromNight = ({ forecasts }) => new Map(forecasts.filter(({ stale }) => !stale).map((one) => [one.ticker, {
  symbol: one.ticker, close: one.last_close, date: one.as_of, currency: one.currency, next: one.session,
  range: one.intervals.find(({ level: of }) => of === 0.8), expected: one.expected_move_pct, usual: one.usual_move_pct, drift: one.drift, closes: one.closes }]));

function fromBatch(symbol, { base_price, base_date, currency, forecast: [next], explanation }) {
  return { symbol, close: base_price, date: base_date, currency, next: next.date, range: next.intervals[0],
    expected: explanation.expected_move_pct, usual: explanation.usual_move_pct };
}

const against = ({ expected, usual }) => (usual ? expected / usual : null);
const COLUMNS = [
  ["watch.name", ({ symbol }) => nameOf(symbol).name ?? symbol], ["watch.close", ({ close }) => close],
  ["watch.range", ({ range, close }) => range && (range.upper - range.lower) / close], ["watch.expected", ({ expected }) => expected],
  ["watch.usual", against], ["watch.drift", ({ drift }) => drift], ["watch.spark", ({ closes }) => closes && closes.at(-1) / closes[0]],
];

function list() {
  const [, value] = COLUMNS[order.by];
  const shown = rows.toSorted((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a == null || b == null) return (a == null) - (b == null);
    return (order.down ? -1 : 1) * (typeof a === "string" ? a.localeCompare(b, lang) : a - b);
  });
  const head = COLUMNS.map(([key], index) => link(t(key), () => {
    order = { by: index, down: order.by === index ? !order.down : index > 0 }; // the largest figure first
    $("watch-body").replaceChildren(list());
    $("watch-body").querySelectorAll("thead button")[index].focus();
  }));
  const drawn = table(t("nav.watch"), [...head, t("watch.remove")], shown.map((row) => ({ current: row.symbol === opened.ticker(), cells: cells(row) })));
  drawn.querySelectorAll("thead th")[order.by].setAttribute("aria-sort", order.down ? "descending" : "ascending");
  return drawn;
}

function cells(row) {
  const { symbol, error, close, currency, range, expected } = row;
  const newest = rows.map(({ date }) => date ?? "").toSorted().at(-1); // an older close says of which day it is
  const name = nameOf(symbol).name;
  const open = [link(name ?? symbol, () => opened.open(symbol)), name && el("small", {}, ` ${symbol}`)].filter(Boolean);
  const remove = link(t("watch.remove"), () => save(saved().filter((one) => one !== symbol)));
  remove.setAttribute("aria-label", t("watch.removeOne", { ticker: symbol }));
  if (error) return [el("span", {}, open), message("span", error, { class: "wrap" }), ...Array(COLUMNS.length - 2).fill("–"), remove];
  const pick = el("input", { type: "checkbox", "aria-label": t("together.pick", { ticker: symbol }), checked: picked.has(symbol), onchange: ({ target }) => {
    if (target.checked) picked.add(symbol);
    else picked.delete(symbol);
    showTogether();
  } });
  return [el("span", {}, pick, " ", open), el("span", {}, money(close, currency), row.date < newest && el("small", {}, day(row.date))), `${price(range.lower)} – ${price(range.upper)}`,
    move(expected / 100), usualMove(row),
    el("span", { "data-drift": symbol }, row.drift ? named("drift", row.drift) : "…"), el("span", { "data-spark": symbol }, row.closes ? spark(row.closes) : "…"), remove];
}

/** Fills what the batch did not have: the drift and the last closes. */
async function complete(row) {
  const { symbol, error } = row;
  if (error) return;
  row.closes ??= await prices(symbol, SPARK_SESSIONS).then(({ data }) => data.map(({ Close }) => Close), () => undefined);
  put("spark", symbol, row.closes ? spark(row.closes) : "–");
  row.drift ??= await get("/monitoring/drift", { ticker: symbol }).then(({ reports }) => reports[0]?.status ?? "unknown", () => "unknown");
  put("drift", symbol, named("drift", row.drift));
}

const put = (kind, symbol, content) => $("watch-body").querySelector(`[data-${kind}="${CSS.escape(symbol)}"]`)?.replaceChildren(content);

function spark(closes) {
  const [low, high] = [Math.min(...closes), Math.max(...closes)];
  const points = closes.map((close, index) => `${(80 * index) / Math.max(closes.length - 1, 1)},${22 - (20 * (close - low)) / (high - low || 1)}`);
  const change = signed(closes.at(-1) / closes[0] - 1);
  return el("span", { class: "spark" }, el("svg", { viewBox: "0 0 80 24", width: 80, height: 24, role: "img", "aria-label": t("watch.sparkLabel", { n: closes.length, change }) }, el("polyline", { points: points.join(" ") })), ` ${change}`);
}

// side by side

let removeChart;

async function showTogether() {
  removeChart?.();
  removeChart = undefined;
  const symbols = [...picked].slice(0, MOST_TOGETHER);
  if (symbols.length < 2) return $("together-body").replaceChildren(calm(t("together.few")));
  await fill($("together-body"), async () => {
    const [{ results }, ...histories] = await Promise.all([post("/predict/batch", { symbols, days: 10, levels: [0.8] }),
      ...symbols.map((one) => prices(one, TOGETHER_SESSIONS))]);
    const chart = el("div", { class: "chart small", role: "img", "aria-label": t("together.label", { tickers: symbols.join(", ") }) });
    const start = histories.map(({ data }) => data[0].Date).toSorted().at(-1);
    setTimeout(() => { removeChart = drawTogether(chart, histories, start); });
    return [el("h3", {}, t("together.title")), el("figure", {}, chart,
      el("figcaption", {}, el("ul", { class: "legend" }, symbols.map((one, index) => el("li", {}, stroke(index), nameOf(one).name ?? one))), t("together.indexed", { date: day(start) }))),
    sideBySide(results)];
  });
}

function stroke(index) {
  const line = el("i", { class: "line" });
  line.style.borderColor = `var(${LINES[index]})`;
  return line;
}

function drawTogether(node, histories, start) {
  const empty = newChart(node);
  if (!empty) return;
  const lines = histories.map(({ data }) => {
    const shown = data.filter(({ Date }) => Date >= start);
    const line = empty.chart.addLineSeries({ priceLineVisible: false, lineWidth: 2 });
    line.setData(shown.map(({ Date, Close }) => ({ time: Date, value: (100 * Close) / shown[0].Close })));
    return line;
  });
  const stop = whenRecoloured(() => {
    empty.paint();
    lines.forEach((line, index) => line.applyOptions({ color: colour(LINES[index]) }));
  });
  empty.chart.timeScale().fitContent();
  return () => { stop(); empty.chart.remove(); };
}

const usualMove = (row) => (row.usual ? `${move(row.usual / 100)} · ${ratio(against(row))}×` : "–");

function sideBySide(results) {
  const width = ({ intervals: [{ lower, upper }] }, base) => `${signed(lower / base - 1)} – ${signed(upper / base - 1)}`;
  const head = [t("watch.name"), t("watch.expected"), t("watch.usual"), t("together.next", { level: level(0.8) }), t("together.far", { level: level(0.8), n: 10 })];
  return table(t("together.title"), head, results.filter(({ result }) => result).map(({ symbol, result }) => {
    const [row, { base_price, forecast }] = [fromBatch(symbol, result), result];
    return { cells: [nameOf(symbol).name ?? symbol, move(row.expected / 100), usualMove(row), width(forecast[0], base_price), width(forecast.at(-1), base_price)] };
  }));
}
