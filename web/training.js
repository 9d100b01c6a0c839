// Trainings: start, watch, cancel, retry; then use the model.

import { call, get, post } from "./api.js";
import { $, act, action, announce, calm, el, fill, link, more, notes, problem, show, table } from "./dom.js";
import { figure, moment, span, testSummary } from "./format.js";
import { plot } from "./plot.js";

const POLL_MS = 1500;
const JOB = "job";
const STATES = { queued: "Waiting to start", running: "Training", succeeded: "Trained", failed: "The training failed", cancelled: "Cancelled", lost: "The training was lost" };
const PHASES = {
  fetch: "Fetching prices", prepare: "Preparing data", fit: "Fitting", calibrate: "Calibrating", test: "Testing",
  publish: "Storing the model", evaluate: "Comparing with the current model",
};
let watched, use;

/** `useModel` is called with the id and tickers of the trained model. */
export function prepareTraining(useModel) {
  use = useModel;
  const form = $("train-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(() => post("/models/train", request(form), { headers: { Prefer: "respond-async" } }));
  });
  const recent = more("Recent trainings", el("div", { id: "recent" }));
  recent.addEventListener("toggle", () => recent.open && showRecent());
  $("jobs-body").append(recent);
  const unfinished = sessionStorage.getItem(JOB);
  if (unfinished) watch(unfinished);
}

function request(form) {
  const { tickers, warm_start, ...fields } = Object.fromEntries(new FormData(form));
  const names = tickers.split(/[\s,;]+/).filter(Boolean);
  const filled = Object.keys(fields).map((name) => form.elements[name]).filter(({ value }) => value !== "");
  const typed = filled.map(({ name, type, value, valueAsNumber }) => [name, type === "number" ? valueAsNumber : value]);
  return { ...(names.length === 1 ? { ticker: names[0] } : { tickers: names }), ...Object.fromEntries(typed), warm_start: warm_start === "on" };
}

const submit = (send) => fill($("train-body"), "Submitting …", async () => {
  const job = await send();
  sessionStorage.setItem(JOB, job.id);
  watch(job.id);
  return view(job);
});

/** Polls a job until it ends, or until another is watched. */
async function watch(id) {
  watched = id;
  let before;
  while (watched === id) {
    let job;
    try {
      job = await get(`/jobs/${id}`);
    } catch (error) {
      const gone = error.code === "job_not_found";
      if (gone) sessionStorage.removeItem(JOB);
      show($("train-body"), problem(error, !gone && (() => watch(id))));
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
  const focused = document.activeElement?.dataset?.job; // the focus stays on the button
  show($("train-body"), view(job));
  if (focused !== undefined) $("train-body").querySelector("[data-job]")?.focus();
}

function view(job) {
  const losses = job.progress?.validation_losses ?? [];
  const button = job.ended_at ? job.state !== "succeeded" && ["Train again", () => submit(() => post(`/jobs/${job.id}/retry`))] : ["Cancel", () => cancel(job)];
  return el("div", { class: "job", "data-state": job.state },
    el("h3", {}, `${STATES[job.state]}: ${tickersOf(job).join(", ")}`),
    !job.ended_at && [el("progress", { max: 1, value: job.progress?.share, "aria-label": "Progress of the training" }), el("p", {}, pace(job))],
    job.error && notes([job.error.detail]),
    job.result && [outcome(job.result), notes(job.result.warnings)],
    losses.length > 1 && el("figure", {}, el("figcaption", {}, "Early-stopping loss by epoch; lower is better."),
      plot({ lines: [{ values: losses }], format: figure, xLabel: "epoch",
        text: `Validation loss over ${losses.length} epochs, from ${figure(losses[0])} to ${figure(losses.at(-1))}` })),
    button && action(...button, { "data-job": true, disabled: job.cancel_requested && !job.ended_at }));
}

const tickersOf = ({ request: { ticker, tickers, universe } }) => (universe ? [`universe ${universe}`] : ticker ? [ticker] : tickers);

function pace({ progress, request, cancel_requested }) {
  if (cancel_requested) return "The training stops within seconds.";
  if (!progress) return "The training starts when a worker is free.";
  if (progress.phase !== "fit" || !request.model.endsWith("_lstm")) return `${PHASES[progress.phase] ?? progress.phase} …`;
  const left = (new Date(progress.estimated_end ?? progress.at) - new Date(progress.at)) / 1000; // both by the worker's clock
  const time = left > 0 ? ` · ${span(left)} left` : "";
  if (progress.fit > 1) return `Fitting once more with the newest prices${time || " …"}`;
  return `Epoch ${Math.max(progress.epoch, 1)} of up to ${progress.max_epochs}${time && `${time}, usually stops early`}`;
}

const outcome = ({ test, seconds }) => el("p", {}, `Done in ${span(seconds)}. ${testSummary(test)}`);

const cancel = (job) => act($("train-body"), () => call("DELETE", `/jobs/${job.id}`).then(showJob, (error) => {
  if (error.code !== "job_already_finished") throw error;
}));

function showRecent() {
  fill($("recent"), "Loading trainings …", async () => {
    const { jobs, unreadable } = await get("/jobs?limit=8");
    const rows = jobs.filter(({ kind }) => kind === "training").map((job) => ({ cells: [moment(job.created_at), tickersOf(job).join(", "), job.request.model, job.state, job.error?.detail ?? "",
      job.state === "succeeded" ? link("Use", () => use(job.model_id, tickersOf(job))) : link("Show", () => watch(job.id))] }));
    const damaged = notes(unreadable.map((id) => `Training ${id} cannot be read: its record is damaged.`));
    if (rows.length === 0) return unreadable.length > 0 ? damaged : calm("Nothing has been trained here yet.");
    return [table("Recent trainings", ["Requested", "Tickers", "Kind", "State", "Error", "Action"], rows), damaged];
  });
}
