// A backtest: errors of the model and every baseline, and the coverage of the intervals at each step.

import { post } from "./api.js";
import { $, announce, el, fill, more, notes, table } from "./dom.js";
import { count, day, ERRORS, errors, figure, COVERAGE, covered, level, percent, percents, signed } from "./format.js";
import { coverage } from "./models.js";

const CRPS_SKILL = "CRPS skill";

/** `wanted` returns the ticker and model of the form when the button is pressed. */
export function prepareBacktest(wanted) {
  const form = $("backtest-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { start, horizon, stride } = form.elements;
    const plan = { horizon: horizon.valueAsNumber, stride: stride.valueAsNumber, levels: [0.8, 0.95], start: start.value || null };
    run(wanted(), plan);
  });
}

async function run({ ticker, model }, plan) {
  const button = $("backtest-form").querySelector("button");
  button.disabled = true;
  await fill($("backtest-body"), `Forecasting ${ticker} from past sessions, with six baselines. This can take a minute …`, async () => {
    const report = await post(`/models/${encodeURIComponent(model)}/backtest`, { ticker, ...plan });
    announce("The backtest is done.");
    return parts(report);
  });
  button.disabled = false;
}

function parts(report) {
  const own = report.model_report;
  const noChange = report.baselines.find(({ name }) => name === "persistence");
  const [model, unchanged] = percents(own.overall.scores.mape, noChange.overall.scores.mape);
  const inside = own.overall.scores.intervals.map((one) => `${percent(one.coverage)} of closes inside the ${level(one.level)} range`);
  const found = own.steps.flatMap(({ step, scores }) => scores.intervals.map((one) => ({ step, level: one.level, empirical_coverage: one.coverage })));
  return [
    el("p", { class: "second" }, `${report.ticker}, ${count(report.n_origins)} origins from ${day(report.first_origin)} to ${day(report.last_origin)}, ${report.horizon} steps each: `,
      `${report.model} was off by ${model} on average; assuming no change, by ${unchanged}; ${inside.join(", ")}.`),
    notes(report.warnings),
    coverage(found),
    baselines(report),
    more("Every step in figures", steps(own, noChange)),
  ];
}

function steps(own, noChange) {
  const rows = own.steps.map(({ step, scores, skill }, index) => ({ cells: [step, count(scores.n),
    ...errors(scores.mape, noChange.steps[index].scores.mape, skill.mape), signed(skill.crps_vs_rolling_empirical), ...covered(scores.intervals)] }));
  return table("By sessions ahead", ["Step", "Forecasts", ...ERRORS, CRPS_SKILL, ...COVERAGE], rows);
}

function baselines({ model_report, baselines: others, model_id }) {
  const head = ["Forecaster", "Error", "CRPS", CRPS_SKILL, ...COVERAGE, "p"];
  const row = ({ name, overall: { scores, skill, p_value } }) => [name, percent(scores.mape, 2), figure(scores.crps_log_return),
    signed(skill.crps_vs_rolling_empirical), ...covered(scores.intervals.filter(({ width }) => width > 0)), p_value == null ? "–" : figure(p_value, 2)];
  const rows = [{ current: true, cells: row({ ...model_report, name: `${model_report.name} (${model_id})` }) }, ...others.map((one) => ({ cells: row(one) }))];
  return [table("All steps together, from the same origins", head, rows),
    el("p", { class: "faint" }, "Error: mean absolute error of the median. CRPS: score of the whole distribution of log returns; its skill is against the last 250 sessions' own distribution. p: of the difference in error to no change.")];
}
