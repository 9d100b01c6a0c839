// A backtest: errors of the model and every baseline, and the coverage of the intervals at each step.

import { backtest, call } from "./api.js";
import { $, action, announce, el, fill, more, notes, onSubmit, second, show, table } from "./dom.js";
import { count, day, ERRORS, errors, figure, COVERAGE, covered, level, percent, signed } from "./format.js";
import { coverage } from "./models.js";
import { t } from "./text.js";

const CRPS_SKILL = t("head.crpsSkill");
let running;

const cancel = (options) => running && call("DELETE", `/jobs/${running}`, options).catch(() => 0); // it may have ended
addEventListener("pagehide", () => cancel({ keepalive: true }));

/** `wanted` returns the ticker and model of the form when the button is pressed. */
export function prepareBacktest(wanted) {
  const form = $("backtest-form");
  onSubmit(form, () => {
    const { start, horizon, stride } = form.elements;
    const plan = { horizon: horizon.valueAsNumber, stride: stride.valueAsNumber, levels: [0.8, 0.95], start: start.value || null };
    run(wanted(), plan);
  });
}

async function run({ ticker, model }, plan) {
  const button = $("backtest-form").querySelector("button");
  button.disabled = true;
  const bar = el("progress", { max: 1, "aria-label": t("job.progress") });
  await fill($("backtest-body"), async () => {
    const report = await backtest(model, { ticker, ...plan }, ({ progress }) => { bar.value = progress?.share ?? 0; }, (job) => {
      running = job.id;
      show($("backtest-body"), bar, action(t("job.cancel"), () => cancel()));
    });
    announce(t("backtest.done"));
    return parts(report);
  }, t("backtest.running", { ticker }));
  running = undefined;
  button.disabled = false;
}

function parts(report) {
  const { overall, steps } = report.model_report;
  const [model, noChange] = errors(overall);
  const inside = overall.coverage.map((one) => t("backtest.inside", { share: percent(one.empirical_coverage), level: level(one.level) }));
  return [
    second(t("backtest.summary", { ticker: report.ticker, n: count(report.n_origins), first: day(report.first_origin), last: day(report.last_origin), steps: report.horizon,
      kind: report.model, model, noChange, inside: inside.join(", ") })),
    notes(report.warnings),
    coverage(steps),
    baselines(report),
    more(t("backtest.figures"), stepTable(steps)),
  ];
}

function stepTable(steps) {
  const rows = steps.map((one) => ({ cells: [one.step, count(one.n_origins), ...errors(one), signed(one.skill.crps_vs_rolling_empirical), ...covered(one.coverage)] }));
  return table(t("backtest.bySteps"), [t("head.step"), t("head.forecasts"), ...ERRORS, CRPS_SKILL, ...COVERAGE], rows);
}

function baselines({ model_report, baselines: others, model_id }) {
  const head = [t("head.forecaster"), t("head.error"), "CRPS", CRPS_SKILL, ...COVERAGE, "p"];
  const row = ({ name, overall: { model, skill, p_value, coverage } }) => [name, percent(model.mape, 2), figure(model.crps_log_return),
    signed(skill.crps_vs_rolling_empirical), ...covered(coverage.filter(({ width }) => width > 0)), figure(p_value.mape, 2)];
  const rows = [{ current: true, cells: row({ ...model_report, name: `${model_report.name} (${model_id})` }) }, ...others.map((one) => ({ cells: row(one) }))];
  return [table(t("backtest.together"), head, rows),
    el("p", { class: "faint" }, t("backtest.terms"))];
}
