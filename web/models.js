// The models: the choice, the card of the chosen one, and a comparison of all with the no-change forecast.

import { call, get } from "./api.js";
import { $, act, action, announce, calm, el, facts, fill, link, notes, table } from "./dom.js";
import { count, day, ERRORS, errors, COVERAGE, covered, level, moment, percent } from "./format.js";
import { plot } from "./plot.js";
import { named, t } from "./text.js";

/** Fills the choice and the comparison. `use` is called with the id picked from the table. */
export function showModels(chosen, use) {
  const body = $("compare-body");
  const to = (alias, model_id) => act(body, async () => {
    await call("PUT", `/models/aliases/${encodeURIComponent(alias)}`, { body: { model_id } });
    announce(t("compare.moved", { alias, model: model_id }));
    document.dispatchEvent(new Event("moved"));
  });
  fill(body, async () => {
    const [listed, { aliases }] = await Promise.all([everyModel(), get("/models/aliases")]);
    const byDefault = aliases.find(({ alias }) => alias === "default")?.model_id ?? listed.models.find(({ bundled }) => bundled)?.id;
    const current = aliases.find(({ alias }) => alias === chosen)?.model_id ?? (NAMES.test(chosen) ? byDefault : chosen);
    fillChoice(current, byDefault, listed.models, aliases);
    return [comparison(listed, current, use), aliasTable(aliases, byDefault, current, to)];
  });
}

/** All pages of the list as one. */
async function everyModel(from = {}) {
  const page = await get("/models", { limit: 100, ...from });
  if (!page.next_after) return page;
  const rest = await everyModel({ after: page.next_after });
  return { models: [...page.models, ...rest.models], unreadable: [...page.unreadable, ...rest.unreadable] };
}

/** Names that mean the default model until they are moved. */
const NAMES = /^(default$|ticker\/)/;

function fillChoice(current, byDefault, models, aliases) {
  const { model } = $("ask").elements;
  const choices = { "": "", [model.value]: "", default: byDefault ?? "" };
  aliases.forEach(({ alias, model_id }) => { choices[alias] = model_id; });
  models.forEach((one) => { choices[one.id] = madeOf(one); });
  if (!model.value) choices[""] = current;
  model.replaceChildren(...Object.entries(choices).map(([value, what]) => new Option(`${value || t("ask.own")}${what && ` · ${what}`}`, value, false, value === model.value)));
}

const madeOf = ({ tickers, universe }) => (universe ? t("model.every") : tickers.join(", "));

function comparison({ models, unreadable }, shown, use) {
  const rows = models.map((one) => {
    const current = one.id === shown;
    return { current, cells: [link(one.id, () => use(one.id), current), kind(one), madeOf(one), day(one.last_session),
      count(one.test.n_origins), ...errors(one.test), ...covered(one.test.coverage)] };
  });
  const head = [t("head.model"), t("train.kind"), t("head.tickers"), t("head.until"), t("head.sessions"), ...ERRORS, ...COVERAGE];
  return [
    rows.length > 0 && table(t("compare.caption"), head, rows),
    models.every(({ bundled }) => bundled) && calm(t("compare.none")),
    unreadable.length > 0 && calm(t("compare.unreadable", { models: unreadable.map(({ id, code }) => `${id} (${code})`).join(", ") })),
  ];
}

const kind = ({ model, target_column: price }) => (price === "Close" ? model : t("model.of", { kind: model, price }));

/** The aliases, each with an undo, and a button that makes the chosen model the default. */
function aliasTable(aliases, byDefault, current, to) {
  const rows = aliases.map((one) => ({ cells: [one.alias, one.model_id, moment(one.moved_at), t(one.evidence ? "alias.evaluation" : "alias.hand"),
    one.previous_model_id ? link(t("alias.back", { model: one.previous_model_id }), () => to(one.alias, one.previous_model_id)) : ""] }));
  return [
    rows.length > 0 && table(t("alias.caption"), [t("alias.alias"), t("head.model"), t("alias.since"), t("alias.by"), t("alias.undo")], rows),
    byDefault && current !== byDefault &&
      action(t("alias.default", { model: current }), () => to("default", current)),
  ];
}

/** The card of a model, by id or alias. */
export const showCard = (chosen) =>
  fill($("model-body"), async () => card(await get(`/models/${encodeURIComponent(chosen)}`)));

function card(model) {
  const [test] = model.test;
  const [own, noChange] = errors(test);
  const data = model.series.map((one) => one.data);
  const first = data.map((one) => one.first_session).toSorted()[0];
  const last = data.map((one) => one.last_session).toSorted().at(-1);
  return [
    facts([
      [t("head.model"), model.model_id], [t("train.kind"), kind(model)], [t("head.tickers"), madeOf({ ...model, tickers: model.series.map(({ ticker }) => ticker) })],
      [t("head.sessions"), t("model.span", { first: day(first), last: day(last) })],
      [t("model.lookback"), t("model.sessions", { n: model.lookback })], [t("model.created"), day(model.created_at.slice(0, 10))],
      [t("model.fit"), t("model.epochs", { n: model.training.epochs_run, why: named("stopped", model.training.stopped_by) })],
      [t("model.base"), model.base_model_id], [t("train.intervals"), named("train", model.calibration)],
      [t("model.error"), own], [t("head.nochange"), noChange], [t("model.tests"), count(test.n_origins)],
    ]),
    notes(model.warnings),
    coverage(model.test),
    model.held_out.length > 0 && heldOut(model.held_out),
  ];
}

const LEVELS_SHOWN = [0.5, 0.8, 0.95];

/** Empirical coverage of the intervals by step, with the nominal one. */
export function coverage(reports) {
  const title = t("coverage.title");
  const levels = reports[0].coverage.map((one) => one.level).filter((one) => LEVELS_SHOWN.includes(one));
  if (levels.length === 0) return null;
  const lines = levels.flatMap((one) => {
    const values = reports.flatMap((report) => report.coverage.filter((each) => each.level === one).map((each) => each.empirical_coverage));
    return [{ values: values.map(() => one), dashed: true }, { name: level(one), values }];
  });
  const words = lines.filter((line) => line.name).map(({ name, values }) => t("coverage.words", { level: name, first: percent(values[0]), last: percent(values.at(-1)), n: values.length }));
  return el("figure", {}, el("figcaption", {}, t("coverage.caption", { title })),
    plot({ lines, format: level, text: `${title}: ${words.join("; ")}`, xLabel: t("coverage.step") }));
}

function heldOut(tickers) {
  const rows = tickers.map(({ ticker, test: [test] }) => ({ cells: [ticker, count(test.n_origins), ...errors(test), ...covered(test.coverage)] }));
  return table(t("model.heldOut"), [t("ask.ticker"), t("head.sessions"), ...ERRORS, ...COVERAGE], rows);
}
