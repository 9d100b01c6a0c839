// Two parts that load when they come into view: the analysis of the prices, and the accuracy of past forecasts.

import { call, get, post } from "./api.js";
import { $, act, action, address, announce, calm, el, fill, link, message, second, show, table } from "./dom.js";
import { count, day, ERRORS, errors, COVERAGE, covered, signed } from "./format.js";
import { lang, named, t } from "./text.js";

/** Returns a function that loads a part once, as soon as it is about to come into view. */
export function whenSeen(id, load) {
  let seen, due;
  const look = () => { if (seen && due) { due = false; load(); } };
  new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; look(); }, { rootMargin: "200px" }).observe($(id));
  return () => { due = true; look(); };
}

const alone = () => document.documentElement.dataset.view;

/** The analysis of a ticker; on a telephone a link to a page of its own. */
export function showAnalysis(ticker) {
  if (matchMedia("(max-width: 48rem)").matches && !alone()) {
    const query = address();
    query.set("view", "analysis");
    return show($("analysis-body"), el("a", { href: `/?${query}` }, t("analysis.own", { ticker })));
  }
  return fill($("analysis-body"), async () => {
    const html = await call("GET", `/analysis/${encodeURIComponent(ticker)}?format=html&lang=${lang}`, { as: "text" })
      .catch((error) => { if (error.status !== 501) throw error; });
    return html ? report(ticker, html) : calm(t("analysis.missing"));
  }, t("forecast.loading", { ticker }));
}

let saved;

/** The server's report as part of the page, its headings two levels deeper unless it stands alone, and as a file. */
function report(ticker, html) {
  const body = html.slice(html.indexOf("<main")).replace(/(<\/?h)(\d)/g, (_, tag, depth) => tag + (Number(depth) + (alone() ? 0 : 2)));
  URL.revokeObjectURL(saved);
  saved = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  return [...new DOMParser().parseFromString(body, "text/html").querySelector("main").children,
    el("p", {}, el("a", { href: saved, download: `${ticker}.html` }, t("analysis.save")))];
}

/** The accuracy of past forecasts of a ticker, and whether its model has drifted. */
export function showAccuracy({ ticker, model }) {
  const body = $("accuracy-body");
  const score = () => act(body, async () => {
    announce(t("accuracy.scored", { n: count((await post("/monitoring/score")).n_pairs) }));
    showAccuracy({ ticker, model });
  });
  fill(body, async () => {
    const [{ since, accuracy }, { reports, unjudged }] = await Promise.all([get("/monitoring/accuracy", { ticker }), get("/monitoring/drift", { ticker, model_id: model })]);
    return [reports.map(drift), unjudged.map((one) => el("p", { class: "note" }, t("accuracy.unchecked", { ticker: one.ticker }), " ", message("span", one.detail))),
      accuracy.length > 0 ? realised(t("accuracy.caption", { ticker, date: day(since) }), accuracy)
        : [calm(t("accuracy.none", { ticker, date: day(since) })), $("show-past") && el("p", {}, link(t("accuracy.past"), tryPast))],
      action(t("accuracy.score"), score)];
  });
}

/** Presses the button above the chart, which a backtest answers where the log has nothing. */
function tryPast() {
  const button = $("show-past");
  if (button.getAttribute("aria-pressed") !== "true") button.click();
  button.focus();
}

const drift = ({ model_id, status, reasons, errors }) =>
  second(`${model_id}: ${named("drift", status)}. `, reasons.map((one) => [message("span", one), " "]).flat(),
    !errors && t("accuracy.pricesOnly"));

function realised(caption, accuracy) {
  const rows = accuracy.map(({ model_id, last_session, report }) => ({ cells: [model_id, report.step, count(report.n_origins), day(last_session),
    ...errors(report), signed(report.skill.crps), ...covered(report.coverage)] }));
  return table(caption, [t("head.model"), t("head.step"), t("head.forecasts"), t("head.until"), ...ERRORS, t("head.crpsSkill"), ...COVERAGE], rows);
}
