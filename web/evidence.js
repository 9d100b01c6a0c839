// Two parts that are asked for when they come into view: the past of the prices, and what became of forecasts.

import { get, keyGiven, post } from "./api.js";
import { $, act, action, announce, calm, el, facts, fill, notes, table } from "./dom.js";
import { count, day, ERRORS, errors, figure, HELD, held, percent, signed } from "./format.js";

/** Calls `ask` as soon as somebody is about to see the part, and again with each new `wake`. */
export function whenSeen(id, ask) {
  let seen = false, due = true;
  const look = () => { if (seen && due) { due = false; ask(); } };
  new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; look(); }, { rootMargin: "200px" }).observe($(id));
  return () => { due = true; look(); };
}

export function showAnalysis(ticker) {
  const path = `/analysis/${encodeURIComponent(ticker)}`;
  fill($("analysis-body"), `Looking at the past of ${ticker} …`, async () => {
    const found = await get(path).catch((error) => { if (error.status !== 501) throw error; });
    return found ? [...analysis(found), report(path)] : calm("This server does not analyse prices.");
  });
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

/** What became of the forecasts of a ticker, and whether the model that answers still fits it. */
export function showAccuracy({ ticker, model }) {
  const body = $("accuracy-body");
  const query = `?ticker=${encodeURIComponent(ticker)}`;
  const score = () => act(body, async () => {
    announce(`${count((await post("/monitoring/score")).n_pairs)} outcomes scored.`);
    showAccuracy({ ticker, model });
  });
  fill(body, "Asking what became of the forecasts …", async () => {
    const [{ accuracy }, { reports }] = await Promise.all([get(`/monitoring/accuracy${query}`), get(`/monitoring/drift${query}&model_id=${encodeURIComponent(model)}`)]);
    return [reports.map(verdict), accuracy.length > 0 ? realised(ticker, accuracy) : calm(`No forecast of ${ticker} that was given here has met its session yet, or none was scored.`),
      action("Score what has closed", score)];
  });
}

const VERDICTS = { fine: "The model still fits.", watch: "Watch it:", retrain: "Train it again:" };

const verdict = (report) => el("p", { class: "second" }, [VERDICTS[report.verdict], report.reasons.join("; ")].filter(Boolean).join(" "));

function realised(ticker, accuracy) {
  const rows = accuracy.map((one) => ({ cells: [one.model_id, one.step, count(one.n), day(one.last_session),
    ...errors(one.errors.mape, one.persistence.mape, one.skill.mape), signed(one.skill.crps), ...held(one.intervals)] }));
  return table(`Forecasts of ${ticker} that met their session`, ["Model", "Step", "Forecasts", "Until", ...ERRORS, "CRPS saved", ...HELD], rows);
}
