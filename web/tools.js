// What can be done with the chart: its range and overlays, past forecasts, and taking the numbers along.

import { backtest, get } from "./api.js";
import { $, action, address, announce, busy, calm, download, el, more, problem, second, show, table } from "./dom.js";
import { count, day, level, percent, price, rangeOf } from "./format.js";
import { t } from "./text.js";

const RANGES = { "1M": 21, "3M": 63, "6M": 126, "1Y": 252, "5Y": 1260, All: Infinity };
const SWITCHES = { log: "setLog", averages: "setAverages", volatility: "setVolatility" };
const LEVELS = [0.95, 0.8];
const PAST = 60; // sessions

/** Puts a choice into the address, so that a link shows the same. */
function choose(name, value) {
  const query = address();
  if (value) query.set(name, value);
  else query.delete(name);
  history.replaceState(null, "", `${location.pathname}${query.size > 0 ? `?${query}` : ""}${location.hash}`);
}

/** The tools of a chart; `all` resolves when the chart has every price. Without a chart only the exports. */
export function toolsOf(chart, forecast, pastBody, all) {
  if (!chart) return [share(chart, forecast)];
  const ranges = Object.entries(RANGES).map(([name, sessions]) => action(t(`tools.${name}`), ({ target }) => {
    ranges.forEach((one) => one.setAttribute("aria-pressed", String(one === target)));
    choose("range", name === "3M" ? "" : name);
    chart.setRange(sessions);
  }, { "aria-pressed": String(name === (address().get("range") ?? "3M")) }));
  const switches = Object.entries(SWITCHES).map(([name, set]) => {
    const on = address().get(name) === "on";
    chart[set](on);
    return toggle(t(`tools.${name}`), on, (now) => {
      choose(name, now && "on");
      chart[set](now);
    });
  });
  const past = toggle(t("tools.past"), false, (now) => (now ? showPast(chart, forecast, pastBody) : hidePast(chart, pastBody)));
  past.id = "show-past";
  const wanted = RANGES[address().get("range")];
  if (wanted) chart.setRange(wanted);
  all.then(() => pastBody.parentElement?.setAttribute("data-complete", ""));
  return [el("div", { class: "buttons", role: "group", "aria-label": t("tools.range") }, ranges),
    el("div", { class: "buttons", role: "group", "aria-label": t("tools.show") }, past, switches), share(chart, forecast)];
}

const toggle = (text, on, set) => action(text, ({ target }) => {
  const now = target.getAttribute("aria-pressed") !== "true";
  target.setAttribute("aria-pressed", String(now));
  set(now);
}, { "aria-pressed": String(on) });

function hidePast(chart, body) {
  chart.setPast([]);
  body.replaceChildren();
}

/** The forecasts of the last sessions with the closes that came: those that were served, else those of a backtest. */
async function showPast(chart, { symbol, model_id }, body) {
  busy(body, t("page.loading"));
  try {
    const { outcomes: logged } = await get("/monitoring/outcomes", { ticker: symbol, model_id, limit: PAST });
    const served = logged.length >= PAST / 2;
    const found = served ? logged.map(outcome) : await backtested(chart, symbol, model_id, body);
    if (found.length === 0) return show(body, calm(t("past.none")));
    chart.setPast(found);
    const hits = found.filter(({ hit }) => hit).length;
    const summary = t("past.summary", { n: count(found.length), level: level(0.8), hits: count(hits), share: percent(hits / found.length, 0), origin: t(served ? "past.log" : "past.backtest") });
    show(body, second(summary), more(t("past.figures"), outcomes(found)));
    return announce(summary);
  } catch (error) {
    return show(body, problem(error));
  }
}

const outcome = ({ session, median, actual, levels, lower, upper }) => {
  const intervals = LEVELS.flatMap((one) => (levels.includes(one) ? [{ lower: lower[levels.indexOf(one)], upper: upper[levels.indexOf(one)] }] : []));
  const at = levels.indexOf(0.8);
  return { session, median, actual, intervals, lower: lower[at], upper: upper[at], hit: lower[at] <= actual && actual <= upper[at] };
};

async function backtested(chart, ticker, model, body) {
  const start = chart.bars().at(-PAST - 1)?.Date;
  const request = { ticker, start, horizon: 1, stride: 1, levels: [0.8, 0.95], quantile_levels: [0.025, 0.1, 0.5, 0.9, 0.975], include_forecasts: true };
  const bar = body.querySelector("progress");
  const report = await backtest(model, request, ({ progress }) => { if (progress) bar.value = progress.share; });
  return report.forecasts.filter(({ actuals: [actual] }) => actual != null).map(({ sessions: [session], quantiles: [[low95, low80, median, high80, high95]], actuals: [actual] }) =>
    outcome({ session, median, actual, levels: LEVELS, lower: [low95, low80], upper: [high95, high80] }));
}

function outcomes(found) {
  const head = [t("head.session"), t("bar.close"), t("head.median"), rangeOf(0.8), t("past.inside")];
  return table(t("past.figures"), head, found.toReversed().map((one) => ({
    cells: [day(one.session), price(one.actual), price(one.median), `${price(one.lower)} – ${price(one.upper)}`, t(one.hit ? "past.yes" : "past.no")] })));
}

// taking the numbers along

function share(chart, forecast) {
  const { symbol, base_date } = forecast;
  const name = `${symbol.replace(/[^\w.-]/g, "")}-${base_date}`;
  const items = {
    csv: () => download(`${name}.csv`, csv(chart?.bars() ?? [], forecast), "text/csv"),
    json: () => download(`${name}.json`, JSON.stringify(forecast, null, 1), "application/json"),
    ...(chart && { png: () => picture(chart, forecast).toBlob((blob) => download(`${name}.png`, blob)) }),
    link: () => showText(t("share.link"), location.href),
    curl: () => showText("curl", curl(forecast)),
    python: () => showText("Python", python(forecast)),
  };
  const menu = el("details", { class: "menu" }, el("summary", {}, t("share.title")), el("div", {}, Object.entries(items).map(([kind, run]) =>
    action(t(`share.${kind}`), () => { menu.open = false; run(); }))));
  menu.addEventListener("keydown", ({ key }) => { if (key === "Escape") menu.open = false; });
  return menu;
}

/** History and forecast in one table, as programs read it: points and ISO dates whatever the language. */
function csv(bars, { forecast, persistence }) {
  const bounds = forecast[0].intervals.flatMap(({ level: of }) => [`lower_${of * 100}`, `upper_${of * 100}`]);
  const history = bars.map((bar) => [bar.Date, bar.Close]);
  const ahead = forecast.map((one) => [one.date, "", one.predicted_price, ...one.intervals.flatMap(({ lower, upper }) => [lower, upper]), persistence]);
  return [["date", "close", "median", ...bounds, "no_change"], ...history, ...ahead].map((row) => row.join(",")).join("\n") + "\n";
}

/** The chart with its name and what it shows. */
function picture(chart, { symbol, base_date }) {
  const drawn = chart.picture();
  const canvas = el("canvas", { width: drawn.width, height: drawn.height + 60 });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.body);
  context.fillStyle = style.backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = style.color;
  context.font = `28px ${style.fontFamily}`;
  context.fillText(`${$("forecast-title").firstChild.textContent} · ${symbol} · ${t("share.until", { date: day(base_date) })}`, 20, 40);
  context.drawImage(drawn, 0, 60);
  return canvas;
}

const request = ({ symbol, forecast, model_id }) => ({ symbol, days: forecast.length, levels: forecast[0].intervals.map((one) => one.level), model_id });
const quoted = (value) => JSON.stringify(value).replaceAll(",", ", ").replaceAll(":", ": ");

const curl = (forecast) =>
  `curl ${location.origin}/predict/forecast -H 'Content-Type: application/json' \\\n  -d '${quoted(request(forecast))}'`;

function python(forecast) {
  const given = Object.entries(request(forecast)).map(([name, value]) => `${name}=${quoted(value)}`).join(", ");
  return `from stock_forecast_client import Client\n\nwith Client("${location.origin}") as client:\n    print(client.forecast_symbol(${given}))`;
}

function showText(title, text) {
  const shown = el("pre", { tabindex: "0" }, text);
  const copy = action(t("share.copy"), async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      return getSelection().selectAllChildren(shown); // a page without https may not write to the clipboard
    }
    announce(t("share.copied"));
    copy.textContent = t("share.copied");
  });
  const dialog = el("dialog", { "aria-label": title, onclose: () => dialog.remove() }, el("h2", {}, title), shown,
    el("form", { method: "dialog", class: "buttons" }, copy, el("button", {}, t("share.close"))));
  document.body.append(dialog);
  dialog.showModal();
}
