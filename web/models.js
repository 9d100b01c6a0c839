// The models: the choice, the card of the chosen one, and a comparison of all with the no-change forecast.

import { call, get } from "./api.js";
import { $, act, action, announce, calm, el, facts, fill, link, notes, table } from "./dom.js";
import { count, day, ERRORS, errors, COVERAGE, covered, level, moment, percent } from "./format.js";
import { plot } from "./plot.js";

/** Fills the choice and the comparison. `use` is called with the id picked from the table. */
export function showModels(chosen, use) {
  const body = $("compare-body");
  const to = (alias, model_id) => act(body, async () => {
    await call("PUT", `/models/aliases/${encodeURIComponent(alias)}`, { body: { model_id } });
    announce(`${alias} is now ${model_id}.`);
    document.dispatchEvent(new Event("moved"));
  });
  fill(body, "Loading models …", async () => {
    const [listed, { aliases }] = await Promise.all([everyModel(), get("/models/aliases")]);
    const byDefault = aliases.find(({ alias }) => alias === "default")?.model_id ?? listed.models.find(({ bundled }) => bundled)?.id;
    const current = aliases.find(({ alias }) => alias === chosen)?.model_id ?? (NAMES.test(chosen) ? byDefault : chosen);
    fillChoice(current, byDefault, listed.models, aliases);
    return [comparison(listed, current, use), aliasTable(aliases, byDefault, current, to)];
  });
}

/** All pages of the list as one. */
async function everyModel(after = "") {
  const page = await get(`/models?limit=100${after}`);
  if (!page.next_after) return page;
  const rest = await everyModel(`&after=${page.next_after}`);
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
  model.replaceChildren(...Object.entries(choices).map(([value, what]) => new Option(`${value || "ticker’s own"}${what && ` · ${what}`}`, value, false, value === model.value)));
}

const madeOf = ({ tickers, universe }) => (universe ? "every ticker" : tickers.join(", "));

function comparison({ models, unreadable }, shown, use) {
  const rows = models.map((one) => {
    const current = one.id === shown;
    return { current, cells: [link(one.id, () => use(one.id), current), kind(one), madeOf(one), day(one.last_session),
      count(one.test.n_origins), ...errors(one.test), ...covered(one.test.coverage)] };
  });
  const head = ["Model", "Kind", "Tickers", "Until", "Sessions", ...ERRORS, ...COVERAGE];
  return [
    rows.length > 0 && table("Mean absolute percentage error, one session ahead", head, rows),
    models.every(({ bundled }) => bundled) && calm("No model has been trained here yet."),
    unreadable.length > 0 && calm(`Unreadable: ${unreadable.map(({ id, code }) => `${id} (${code})`).join(", ")}.`),
  ];
}

const kind = ({ model, target_column: price }) => (price === "Close" ? model : `${model} of ${price}`);

/** The aliases, each with an undo, and a button that makes the chosen model the default. */
function aliasTable(aliases, byDefault, current, to) {
  const rows = aliases.map((one) => ({ cells: [one.alias, one.model_id, moment(one.moved_at), one.evidence ? "evaluation" : "hand",
    one.previous_model_id ? link(`back to ${one.previous_model_id}`, () => to(one.alias, one.previous_model_id)) : ""] }));
  return [
    rows.length > 0 && table("Aliases", ["Alias", "Model", "Since", "Moved by", "Undo"], rows),
    byDefault && current !== byDefault &&
      action(`Make ${current} the default model`, () => to("default", current)),
  ];
}

/** The card of a model, by id or alias. */
export const showCard = (chosen) =>
  fill($("model-body"), "Loading the model’s card …", async () => card(await get(`/models/${encodeURIComponent(chosen)}`)));

function card(model) {
  const [test] = model.test;
  const [own, noChange] = errors(test);
  const data = model.series.map((one) => one.data);
  const first = data.map((one) => one.first_session).toSorted()[0];
  const last = data.map((one) => one.last_session).toSorted().at(-1);
  return [
    facts([
      ["Model", model.model_id], ["Kind", kind(model)], ["Tickers", madeOf({ ...model, tickers: model.series.map(({ ticker }) => ticker) })],
      ["Sessions", `${day(first)} to ${day(last)}`],
      ["Lookback", `${model.lookback} sessions`], ["Created", day(model.created_at.slice(0, 10))],
      ["Fit", `${model.training.epochs_run} epochs, ${model.training.stopped_by.replaceAll("_", " ")}`],
      ["Started from", model.base_model_id], ["Intervals", model.calibration],
      ["Test error", own], ["No change", noChange], ["Test sessions", count(test.n_origins)],
    ]),
    notes(model.warnings),
    coverage(model.test),
    model.held_out.length > 0 && heldOut(model.held_out),
  ];
}

const LEVELS_SHOWN = [0.5, 0.8, 0.95];

/** Empirical coverage of the intervals by step, with the nominal one. */
export function coverage(reports) {
  const title = "Closes inside the intervals, by sessions ahead";
  const levels = reports[0].coverage.map((one) => one.level).filter((one) => LEVELS_SHOWN.includes(one));
  if (levels.length === 0) return null;
  const lines = levels.flatMap((one) => {
    const values = reports.flatMap((report) => report.coverage.filter((each) => each.level === one).map((each) => each.empirical_coverage));
    return [{ values: values.map(() => one), dashed: true }, { name: level(one), values }];
  });
  const words = lines.filter((line) => line.name).map(({ name, values }) => `of ${name}: ${percent(values[0])} one step ahead, ${percent(values.at(-1))} at step ${values.length}`);
  return el("figure", {}, el("figcaption", {}, `${title}. Dashed: nominal.`),
    plot({ lines, format: level, text: `${title}: ${words.join("; ")}`, xLabel: "step" }));
}

function heldOut(tickers) {
  const rows = tickers.map(({ ticker, test: [test] }) => ({ cells: [ticker, count(test.n_origins), ...errors(test), ...covered(test.coverage)] }));
  return table("Accuracy on sessions after its training", ["Ticker", "Sessions", ...ERRORS, ...COVERAGE], rows);
}
