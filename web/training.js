// A training: asked for, watched, cancelled, tried again; when it has succeeded its model is used.

import { call, get, post } from "./api.js";
import { $, announce, busy, calm, el, link, notes, problem, show, table } from "./dom.js";
import { count, figure, level, moment, percent, percents, span } from "./format.js";
import { plot } from "./plot.js";

const POLL_MS = 1500;
const JOB = "job";
const RETRYABLE = ["failed", "cancelled", "lost"];
const STATES = { queued: "Waiting for its turn", running: "Training", succeeded: "Trained", failed: "The training failed", cancelled: "Cancelled", lost: "The training was lost" };
let watched, use;

/** `useModel` is called with the id and the tickers of what has been trained. */
export function prepareTraining(useModel) {
  use = useModel;
  const form = $("train-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    order(() => post("/models/train", request(form), { headers: { Prefer: "respond-async" } }));
  });
  const recent = el("details", { ontoggle: () => recent.open && showRecent() }, el("summary", {}, "Recent trainings"), el("div", { id: "recent" }));
  $("jobs-body").append(recent);
  const unfinished = sessionStorage.getItem(JOB);
  if (unfinished) watch(unfinished);
}

function request(form) {
  const { tickers, warm_start, ...fields } = Object.fromEntries(new FormData(form));
  const names = tickers.split(/[\s,;]+/).filter(Boolean);
  const filled = Object.entries(fields).filter(([, value]) => value !== "");
  const typed = filled.map(([name, value]) => [name, form.elements[name].type === "number" ? Number(value) : value]);
  return { ...(names.length === 1 ? { ticker: names[0] } : { tickers: names }), ...Object.fromEntries(typed), warm_start: warm_start === "on" };
}

async function order(ask) {
  const body = $("train-body");
  busy(body, "Asking for a training …");
  try {
    const job = await ask();
    sessionStorage.setItem(JOB, job.id);
    watch(job.id);
  } catch (error) {
    show(body, problem(error, () => order(ask)));
  }
}

/** Looks at a job until it is over, or until another is looked at. */
async function watch(id) {
  watched = id;
  let before;
  while (watched === id) {
    let job;
    try {
      job = await get(`/jobs/${id}`);
    } catch (error) {
      if (error.code === "job_not_found") sessionStorage.removeItem(JOB);
      show($("train-body"), problem(error, error.code === "job_not_found" ? null : () => watch(id)));
      return;
    }
    if (watched !== id) return;
    showJob(job);
    if (job.state !== before) announce(STATES[job.state]);
    before = job.state;
    if (job.ended_at) return ended(job);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function ended(job) {
  sessionStorage.removeItem(JOB);
  if ($("recent").closest("details").open) showRecent();
  if (job.state === "succeeded") use(job.model_id, job.result.tickers);
}

function showJob(job) {
  const share = job.progress?.share;
  const losses = job.progress?.validation_losses ?? [];
  const held = document.activeElement?.dataset?.job; // whoever stands on a button stays on it
  show($("train-body"), el("div", { class: "job", "data-state": job.state },
    el("h3", {}, `${STATES[job.state]}: ${tickersOf(job).join(", ")}`),
    !job.ended_at && el("progress", { max: 1, value: share, "aria-label": "Progress of the training" }),
    !job.ended_at && el("p", {}, pace(job)),
    job.error && notes([job.error.detail]),
    job.result && outcome(job.result),
    job.result && notes(job.result.warnings),
    losses.length > 1 && el("figure", {}, el("figcaption", {}, "Loss on the sessions that decide when to stop, by epoch; lower is better."),
      plot({ lines: [{ values: losses }], format: figure, xLabel: "epoch",
        text: `Validation loss over ${losses.length} epochs, from ${figure(losses[0])} to ${figure(losses.at(-1))}` })),
    !job.ended_at && action("Cancel", () => cancel(job), job.cancel_requested),
    RETRYABLE.includes(job.state) && action("Train it again", () => order(() => post(`/jobs/${job.id}/retry`)))));
  if (held !== undefined) $("train-body").querySelector("[data-job]")?.focus();
}

const action = (text, onclick, disabled) => el("button", { type: "button", "data-job": true, onclick, disabled }, text);

const tickersOf = ({ request: { ticker, tickers } }) => (ticker ? [ticker] : tickers);

function pace({ progress, cancel_requested }) {
  if (cancel_requested) return "Its worker will stop within seconds.";
  if (!progress) return "It starts as soon as there is room.";
  const end = progress.estimated_end && (new Date(progress.estimated_end) - Date.now()) / 1000;
  return [`Epoch ${progress.epoch} of at most ${progress.max_epochs}`,
    end > 0 && `at this pace ${span(end)} more, if it does not stop earlier`].filter(Boolean).join("; ") + ".";
}

function outcome({ metrics, persistence, coverage, seconds }) {
  const [model, nothing] = percents(metrics.test.mape, persistence.test.mape);
  const held = coverage.find((one) => one.step === 1 && one.level === 0.8);
  return el("p", {}, `Done in ${span(seconds)}. On ${held ? count(held.n_origins) : "its test"} sessions that it had not seen it errs by ${model} on average, doing nothing by ${nothing}.`,
    held && ` Its ${level(0.8)} intervals held ${percent(held.reached)}.`, " The forecast above is now this model’s.");
}

async function cancel(job) {
  try {
    showJob(await call("DELETE", `/jobs/${job.id}`));
  } catch (error) {
    if (error.code !== "job_already_finished") $("train-body").append(problem(error, () => cancel(job)));
  }
}

async function showRecent() {
  const body = $("recent");
  busy(body, "Asking for the trainings …");
  try {
    const { jobs } = await get("/jobs?limit=8");
    const rows = jobs.map((job) => ({ cells: [moment(job.created_at), tickersOf(job).join(", "), job.request.model, job.state, job.error?.detail ?? "",
      job.state === "succeeded" ? link("Use", () => use(job.model_id, tickersOf(job))) : link("Look", () => watch(job.id))] }));
    show(body, rows.length > 0 ? table("The newest trainings", ["Asked for", "Tickers", "Kind", "State", "Why", ""], rows) : calm("Nothing has been trained here yet."));
  } catch (error) {
    show(body, problem(error, showRecent));
  }
}
