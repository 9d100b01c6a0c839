// A backtest: errors of the model and every baseline, and the coverage of the intervals at each step.

import { call, get, post } from "./api.js";
import { $, action, announce, el, fill, more, notes, show, table } from "./dom.js";
import { count, day, ERRORS, errors, figure, COVERAGE, covered, level, percent, signed } from "./format.js";
import { coverage } from "./models.js";

const CRPS_SKILL = "CRPS skill";
let running;

const cancel = (options) => running && call("DELETE", `/jobs/${running}`, options).catch(() => 0); // it may have ended
addEventListener("pagehide", () => cancel({ keepalive: true }));

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
  await fill($("backtest-body"), `Forecasting ${ticker} from past sessions, with seven baselines. …`, async () => {
    const started = await post(`/models/${encodeURIComponent(model)}/backtest`, { ticker, ...plan }, { headers: { Prefer: "respond-async" } });
    const report = started.kind === "backtest" ? await resultOf(started) : started;
    announce("The backtest is done.");
    return parts(report);
  });
  button.disabled = false;
}

/** Follows a long backtest with a bar. */
async function resultOf(job) {
  running = job.id;
  const bar = el("progress", { max: 1, "aria-label": "Progress of the backtest" });
  show($("backtest-body"), bar, action("Cancel", () => cancel()));
  while (!job.ended_at) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    job = await get(`/jobs/${job.id}`);
    bar.value = job.progress?.share ?? 0;
  }
  running = undefined;
  if (job.error) throw Object.assign(new Error(), job.error);
  return job.result;
}

function parts(report) {
  const { overall, steps } = report.model_report;
  const [model, noChange] = errors(overall);
  const inside = overall.coverage.map((one) => `${percent(one.empirical_coverage)} of closes inside the ${level(one.level)} range`);
  return [
    el("p", { class: "second" }, `${report.ticker}, ${count(report.n_origins)} origins from ${day(report.first_origin)} to ${day(report.last_origin)}, ${report.horizon} steps each: `,
      `${report.model} was off by ${model} on average; assuming no change, by ${noChange}; ${inside.join(", ")}.`),
    notes(report.warnings),
    coverage(steps),
    baselines(report),
    more("Every step in figures", stepTable(steps)),
  ];
}

function stepTable(steps) {
  const rows = steps.map((one) => ({ cells: [one.step, count(one.n_origins), ...errors(one), signed(one.skill.crps_vs_rolling_empirical), ...covered(one.coverage)] }));
  return table("By sessions ahead", ["Step", "Forecasts", ...ERRORS, CRPS_SKILL, ...COVERAGE], rows);
}

function baselines({ model_report, baselines: others, model_id }) {
  const head = ["Forecaster", "Error", "CRPS", CRPS_SKILL, ...COVERAGE, "p"];
  const row = ({ name, overall: { model, skill, p_value, coverage } }) => [name, percent(model.mape, 2), figure(model.crps_log_return),
    signed(skill.crps_vs_rolling_empirical), ...covered(coverage.filter(({ width }) => width > 0)), figure(p_value.mape, 2)];
  const rows = [{ current: true, cells: row({ ...model_report, name: `${model_report.name} (${model_id})` }) }, ...others.map((one) => ({ cells: row(one) }))];
  return [table("All steps together, from the same origins", head, rows),
    el("p", { class: "faint" }, "Error: mean absolute percentage error of the median. CRPS: error of the whole distribution of log returns. CRPS skill: how much lower the CRPS is than that of the last 250 returns. p: p-value of the difference in error from no change.")];
}
