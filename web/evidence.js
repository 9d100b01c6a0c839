// Two parts that are asked for when they come into view: the past of the prices, and what became of forecasts.

import { call, get, post } from "./api.js";
import { $, act, action, announce, calm, el, fill, notes, table } from "./dom.js";
import { count, day, ERRORS, errors, HELD, held, signed } from "./format.js";

/** What wakes a part: `ask` is called once for each waking, as soon as somebody is about to see it. */
export function whenSeen(id, ask) {
  let seen, due;
  const look = () => { if (seen && due) { due = false; ask(); } };
  new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; look(); }, { rootMargin: "200px" }).observe($(id));
  return () => { due = true; look(); };
}

export function showAnalysis(ticker) {
  fill($("analysis-body"), `Looking at the past of ${ticker} …`, async () => {
    const asked = call("GET", `/analysis/${encodeURIComponent(ticker)}?format=html`, { as: "text" });
    const html = await asked.catch((error) => { if (error.status !== 501) throw error; });
    return html ? report(ticker, html) : calm("This server does not analyse prices.");
  });
}

let kept;

/** The server's report as part of the page, its headings two levels deeper, and as a file. */
function report(ticker, html) {
  const body = html.slice(html.indexOf("<main")).replace(/(<\/?h)(\d)/g, (_, tag, depth) => tag + (Number(depth) + 2));
  URL.revokeObjectURL(kept);
  kept = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  return [...new DOMParser().parseFromString(body, "text/html").querySelector("main").children,
    el("p", {}, el("a", { href: kept, download: `${ticker}.html` }, "Keep this report"))];
}

/** What became of the forecasts of a ticker, and whether the model that answers still fits it. */
export function showAccuracy({ ticker, model }) {
  const body = $("accuracy-body");
  const query = `?ticker=${encodeURIComponent(ticker)}`;
  const score = () => act(body, async () => {
    announce(`${count((await post("/monitoring/score")).n_pairs)} outcomes scored.`);
    showAccuracy({ ticker, model });
  });
  fill(body, "Asking what became of the forecasts …", async () => {
    const [{ since, accuracy }, { reports, unjudged }] = await Promise.all([get(`/monitoring/accuracy${query}`), get(`/monitoring/drift${query}&model_id=${encodeURIComponent(model)}`)]);
    return [reports.map(verdict), notes(unjudged.map((one) => `${one.ticker} was not judged: ${one.detail}`)),
      accuracy.length > 0 ? realised(`Forecasts of ${ticker} that met their session since ${day(since)}`, accuracy)
        : calm(`No forecast of ${ticker} that was given here has met its session since ${day(since)}, or none was scored.`),
      action("Score what has closed", score)];
  });
}

const VERDICTS = { fine: "still fits", watch: "wants watching", retrain: "wants training again" };

const verdict = ({ model_id, verdict: word, reasons, errors }) =>
  el("p", { class: "second" }, `${[`${model_id} ${VERDICTS[word]}`, reasons.join("; ")].filter(Boolean).join(": ")}.`,
    !errors && " That is judged by the prices alone: no outcome of its forecasts is known yet.");

function realised(caption, accuracy) {
  const rows = accuracy.map((one) => ({ cells: [one.model_id, one.step, count(one.n), day(one.last_session),
    ...errors(one.errors.mape, one.persistence.mape, one.skill.mape), signed(one.skill.crps), ...held(one.intervals)] }));
  return table(caption, ["Model", "Step", "Forecasts", "Until", ...ERRORS, "CRPS below doing nothing", ...HELD], rows);
}
