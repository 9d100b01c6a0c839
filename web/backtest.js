// A backtest: errors beside those of every opponent, and how often the intervals held at each step.

import { post } from "./api.js";
import { $, announce, busy, el, notes, problem, show, table } from "./dom.js";
import { count, day, figure, level, percent, percents, signed } from "./format.js";
import { coverage } from "./models.js";

const LEVELS = [0.8, 0.95];

/** `wanted` tells the ticker and the model that stand above when the button is pressed. */
export function prepareBacktest(wanted) {
  const form = $("backtest-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { start, horizon, stride } = form.elements;
    const plan = { horizon: horizon.valueAsNumber, stride: stride.valueAsNumber, levels: LEVELS, start: start.value || null };
    run(wanted(), plan);
  });
}

async function run({ ticker, model }, plan) {
  const [body, button] = [$("backtest-body"), $("backtest-form").querySelector("button")];
  busy(body, `Forecasting ${ticker} from past sessions, with six opponents. This can take a minute …`);
  button.disabled = true;
  try {
    const report = await post(`/models/${encodeURIComponent(model)}/backtest`, { ticker, ...plan });
    show(body, ...parts(report));
    announce("The backtest is done.");
  } catch (error) {
    show(body, problem(error, () => run({ ticker, model }, plan)));
  } finally {
    button.disabled = false;
  }
}

function parts(report) {
  const own = report.model_report;
  const nothing = report.opponents.find(({ name }) => name === "persistence");
  const [model, still] = percents(own.overall.scores.mape, (nothing ?? own).overall.scores.mape);
  const held = own.overall.scores.intervals.map((one) => `${percent(one.coverage)} of closes inside the ${level(one.level)} intervals`);
  const reached = own.steps.flatMap(({ step, scores }) => scores.intervals.map((one) => ({ step, level: one.level, reached: one.coverage })));
  return [
    el("p", { class: "second" }, `${report.ticker}, ${count(report.n_origins)} origins from ${day(report.first_origin)} to ${day(report.last_origin)}, ${report.horizon} steps each: `,
      nothing ? `${report.model} erred by ${model} on average, doing nothing by ${still}; ` : `${report.model} erred by ${model} on average; `, `${held.join(", ")}.`),
    notes(report.warnings),
    coverage(reached),
    opponents(report),
  ];
}

function opponents({ model_report, opponents: others, model_id }) {
  const head = ["Forecaster", "Error", "CRPS", "CRPS saved", ...LEVELS.map((one) => `Held of ${level(one)}`), "p"];
  const row = ({ name, overall: { scores, skill, p_value } }) => [name, percent(scores.mape, 2), figure(scores.crps_log_return),
    signed(skill.crps_vs_rolling_empirical), ...LEVELS.map((one) => percent(scores.intervals.find((each) => each.level === one && each.width > 0)?.coverage)), p_value == null ? "–" : figure(p_value, 2)];
  const rows = [{ current: true, cells: row({ ...model_report, name: `${model_report.name} (${model_id})` }) }, ...others.map((one) => ({ cells: row(one) }))];
  return [table("All steps together, from the same origins", head, rows),
    el("p", { class: "faint" }, "Error: mean absolute percentage error of the median. CRPS: error of the whole distribution of the log return; saved, against the last 250 sessions’ own. p: how easily chance alone makes such a difference to doing nothing.")];
}
