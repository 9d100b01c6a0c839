// Two parts that load when they come into view: the analysis of the prices, and the accuracy of past forecasts.

import { call, get, post } from "./api.js";
import { $, act, action, announce, calm, el, fill, notes, table } from "./dom.js";
import { count, day, ERRORS, errors, COVERAGE, covered, signed } from "./format.js";

/** Returns a function that loads a part once, as soon as it is about to come into view. */
export function whenSeen(id, load) {
  let seen, due;
  const look = () => { if (seen && due) { due = false; load(); } };
  new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; look(); }, { rootMargin: "200px" }).observe($(id));
  return () => { due = true; look(); };
}

export function showAnalysis(ticker) {
  fill($("analysis-body"), `Analysing ${ticker} …`, async () => {
    const html = await call("GET", `/analysis/${encodeURIComponent(ticker)}?format=html`, { as: "text" })
      .catch((error) => { if (error.status !== 501) throw error; });
    return html ? report(ticker, html) : calm("The analysis is not installed on this server.");
  });
}

let saved;

/** The server's report as part of the page, its headings two levels deeper, and as a file. */
function report(ticker, html) {
  const body = html.slice(html.indexOf("<main")).replace(/(<\/?h)(\d)/g, (_, tag, depth) => tag + (Number(depth) + 2));
  URL.revokeObjectURL(saved);
  saved = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  return [...new DOMParser().parseFromString(body, "text/html").querySelector("main").children,
    el("p", {}, el("a", { href: saved, download: `${ticker}.html` }, "Save this report"))];
}

/** The accuracy of past forecasts of a ticker, and whether its model has drifted. */
export function showAccuracy({ ticker, model }) {
  const body = $("accuracy-body");
  const query = `?ticker=${encodeURIComponent(ticker)}`;
  const score = () => act(body, async () => {
    announce(`${count((await post("/monitoring/score")).n_pairs)} outcomes scored.`);
    showAccuracy({ ticker, model });
  });
  fill(body, "Loading past forecasts …", async () => {
    const [{ since, accuracy }, { reports, unjudged }] = await Promise.all([get(`/monitoring/accuracy${query}`), get(`/monitoring/drift${query}&model_id=${encodeURIComponent(model)}`)]);
    return [reports.map(drift), notes(unjudged.map((one) => `Drift of ${one.ticker} not checked: ${one.detail}`)),
      accuracy.length > 0 ? realised(`Forecasts of ${ticker} scored since ${day(since)}`, accuracy)
        : calm(`No ${ticker} forecasts have been scored since ${day(since)}.`),
      action("Score past forecasts", score)];
  });
}

const STATUS = { ok: "no drift", warning: "possible drift", drifted: "drift, retrain it" };

const drift = ({ model_id, status, reasons, errors }) =>
  el("p", { class: "second" }, `${model_id}: ${[STATUS[status], ...reasons].join("; ")}.`,
    !errors && " From recent prices only: there are no forecast results to check yet.");

function realised(caption, accuracy) {
  const rows = accuracy.map(({ model_id, last_session, report }) => ({ cells: [model_id, report.step, count(report.n_origins), day(last_session),
    ...errors(report), signed(report.skill.crps), ...covered(report.coverage)] }));
  return table(caption, ["Model", "Step", "Forecasts", "Until", ...ERRORS, "CRPS skill", ...COVERAGE], rows);
}
