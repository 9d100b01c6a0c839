// The stored models: which can be chosen, the card of the one that is, and all of them beside doing nothing.

import { get } from "./api.js";
import { $, busy, calm, el, facts, link, notes, problem, show, table } from "./dom.js";
import { count, day, level, percent, percents, signed } from "./format.js";
import { plot } from "./plot.js";

/** Fills the choice and the comparison. `use` is called with the id that is picked from the table. */
export async function showModels(chosen, use) {
  const body = $("compare-body");
  busy(body, "Asking for the models …");
  try {
    const [stored, { aliases }, standing] = await Promise.all([get("/models?limit=100"), get("/models/aliases"), get("/models/default").catch(() => null)]);
    fillChoice(chosen, stored.models, aliases, standing);
    show(body, comparison(stored, standing, chosen, use));
  } catch (error) {
    fillChoice(chosen, [], [], null);
    show(body, problem(error, () => showModels(chosen, use)));
  }
}

function fillChoice(chosen, models, aliases, standing) {
  const names = { default: standing?.model_id ?? "", ...Object.fromEntries(aliases.map(({ alias, model_id }) => [alias, model_id])) };
  const choices = { ...names, ...Object.fromEntries(models.map(({ id, tickers }) => [id, tickers.join(", ")])) };
  choices[chosen] ??= "";
  $("ask").elements.model.replaceChildren(...Object.entries(choices).map(([value, what]) => new Option(`${value}${what && ` · ${what}`}`, value, false, value === chosen)));
}

function comparison({ models, unreadable, next_after }, standing, chosen, use) {
  const all = standing && !models.some(({ id }) => id === standing.model_id) ? [summary(standing), ...models] : models;
  const rows = all.map((one) => {
    const [model, nothing] = percents(one.test.model.mape, one.test.persistence.mape);
    const current = one.id === chosen || (chosen === "default" && one.id === standing?.model_id);
    return {
      current,
      cells: [link(one.id, () => use(one.id), current),
        one.model, one.tickers.join(", "), day(one.last_session), count(one.test.n_origins), model, nothing, signed(one.test.skill?.mape, 2)],
    };
  });
  const head = ["Model", "Kind", "Tickers", "Until", "Sessions", "Its error", "Doing nothing", "Saved"];
  return [
    rows.length > 0 && table("Mean absolute error in percent, one step ahead, on test sessions", head, rows),
    el("p", { class: "faint" }, "Only the two errors of one row are of the same sessions."),
    models.length === 0 && calm("No model has been trained here yet. The one that comes with the program answers."),
    unreadable.length > 0 && calm(`Not readable: ${unreadable.map(({ id, code }) => `${id} (${code})`).join(", ")}.`),
    next_after && calm("There are more; the API tells them all."),
  ];
}

const tickersOf = (card) => card.series.map(({ ticker }) => ticker);

const summary = (card) => ({
  id: card.model_id, model: card.model, tickers: tickersOf(card), test: card.test,
  last_session: card.series.map(({ data }) => data.last_session).toSorted().at(-1),
});

/** The card of a model, by id or alias. */
export async function showCard(chosen) {
  const body = $("model-body");
  busy(body, "Asking for the model’s card …");
  try {
    show(body, ...card(await get(`/models/${encodeURIComponent(chosen)}`)));
  } catch (error) {
    show(body, problem(error, () => showCard(chosen)));
  }
}

function card(model) {
  const [own, nothing] = percents(model.test.model.mape, model.test.persistence.mape);
  const data = model.series.map((one) => one.data);
  const first = data.map((one) => one.first_session).toSorted()[0];
  return [
    facts([
      ["Model", model.model_id], ["Kind", model.model], ["Tickers", tickersOf(model).join(", ")],
      ["Sessions", `${day(first)} to ${day(summary(model).last_session)}`],
      ["Looks back", `${model.lookback} sessions`], ["Made", day(model.created_at.slice(0, 10))],
      ["Fit", `${model.training.epochs_run} epochs, ${model.training.stopped_by.replaceAll("_", " ")}`],
      ["Began from", model.base_model_id], ["Intervals", model.calibration],
      ["Error on its test", own], ["Doing nothing", nothing], ["Test sessions", count(model.test.n_origins)],
    ]),
    notes(model.warnings),
    coverage(model.coverage),
    model.held_out.length > 0 && heldOut(model.held_out),
  ];
}

const LEVELS_SHOWN = [0.5, 0.8, 0.95];

/** How often intervals held, by step, beside what was promised. */
export function coverage(reached, title = "Closes inside the intervals, by sessions ahead") {
  const levels = [...new Set(reached.map((one) => one.level))].filter((one) => LEVELS_SHOWN.includes(one));
  if (levels.length === 0) return null;
  const lines = levels.flatMap((one) => {
    const values = reached.filter((each) => each.level === one).toSorted((a, b) => a.step - b.step).map((each) => each.reached);
    return [{ values: values.map(() => one), dashed: true }, { name: level(one), values }];
  });
  const words = lines.filter((line) => line.name).map(({ name, values }) => `of ${name}: ${percent(values[0])} one step ahead, ${percent(values.at(-1))} at step ${values.length}`);
  return el("figure", {}, el("figcaption", {}, `${title}. Dashed: as promised.`),
    plot({ lines, format: (value) => level(value), text: `${title}: ${words.join("; ")}`, xLabel: "step" }));
}

function heldOut(tickers) {
  const rows = tickers.map((one) => {
    const [own, nothing] = percents(one.accuracy.model.mape, one.accuracy.persistence.mape);
    const held = (wanted) => percent(one.coverage.find((each) => each.step === 1 && each.level === wanted)?.reached);
    return { cells: [one.ticker, count(one.accuracy.n_origins), own, nothing, held(0.8), held(0.95)] };
  });
  return table("Untouched, on tickers it was not made from", ["Ticker", "Sessions", "Its error", "Doing nothing", `Held of ${level(0.8)}`, `of ${level(0.95)}`], rows);
}

