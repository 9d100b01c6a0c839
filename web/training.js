// Trainings: start, watch, cancel, retry; then name the model and use it.

import { call, get, pause, post, prices } from "./api.js";
import { $, act, action, announce, calm, el, fill, kept, link, message, more, notes, onSubmit, problem, show, table } from "./dom.js";
import { resolved } from "./find.js";
import { figure, moment, span, testSummary } from "./format.js";
import { plot } from "./plot.js";
import { listed, named, t } from "./text.js";

const POLL_MS = 1500;
const JOBS = "jobs"; // of this browser
const PHASES = ["fetch", "prepare", "fit", "calibrate", "test", "publish"];
const views = new Map(); // job id -> its element
const watching = new Set();
let use;

const jobs = () => [kept(JOBS)].flat().filter((id) => typeof id === "string");
const keep = (ids) => {
  localStorage.setItem(JOBS, JSON.stringify(ids));
  rest();
};
const drop = (id) => keep(jobs().filter((one) => one !== id));

/** `useModel` is called with the id and tickers of the trained model. */
export function prepareTraining(useModel) {
  use = useModel;
  const form = $("train-form");
  onSubmit(form, () => start(form));
  form.addEventListener("input", ({ target }) => wrong(target, ""));
  const recent = more(t("train.recent"), el("div", { id: "recent" }));
  recent.addEventListener("toggle", () => recent.open && showRecent());
  $("jobs-body").append(recent);
  jobs().forEach(watch);
  rest();
}

/** The button rests while a training of this browser runs. */
function rest() {
  const button = $("train-form").querySelector("button");
  button.disabled = jobs().length > 0;
  button.textContent = t(button.disabled ? "train.busy" : "train.go");
}

/** Says what is wrong with a field, at the field. */
function wrong(field, text) {
  field.parentElement.querySelector(".wrong")?.remove();
  field.setCustomValidity?.("");
  field.toggleAttribute("aria-invalid", text !== "");
  if (text === "") return field.removeAttribute("aria-describedby");
  const id = `wrong-${field.name}`;
  field.after(message("span", text, { class: "wrong", id }));
  field.setAttribute("aria-describedby", id);
  return field;
}

/** Checks the fields, then the tickers, before a job is made. */
async function start(form) {
  const fields = [...form.elements].filter(({ name }) => name);
  const faults = fields.filter((field) => !field.validity.valid).map((field) => wrong(field, field.title || field.validationMessage));
  if (faults.length > 0) return faults[0].focus();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const tickers = await Promise.all(form.elements.tickers.value.split(/[\s,;]+/).filter(Boolean).map(resolved));
    form.elements.tickers.value = tickers.join(" ");
    for (const ticker of tickers) await prices(ticker, 1);
    await submit(post("/models/train", request(form, tickers), { headers: { Prefer: "respond-async" } }));
  } catch (error) {
    const places = error.errors?.map(({ field, message: text }) => [form.elements[field] ?? (field.startsWith("ticker") && form.elements.tickers), text]).filter(([field]) => field?.after) ?? [];
    if (["ticker_not_found", "unknown_exchange"].includes(error.code)) places.push([form.elements.tickers, error.detail]);
    places.forEach(([field, text]) => wrong(field, text));
    if (places.length > 0) places[0][0].focus();
    else show($("train-body"), problem(error, () => start(form)));
  }
  rest();
}

function request(form, tickers) {
  const { tickers: _, warm_start, ...fields } = Object.fromEntries(new FormData(form));
  const filled = Object.keys(fields).map((name) => form.elements[name]).filter(({ value }) => value !== "");
  const typed = filled.map(({ name, type, value, valueAsNumber }) => [name === "name" ? "alias" : name, type === "number" ? valueAsNumber : value]);
  return { ...(tickers.length === 1 ? { ticker: tickers[0] } : { tickers }), ...Object.fromEntries(typed), warm_start: warm_start === "on" };
}

async function submit(sent) {
  const job = await sent;
  keep([...jobs(), job.id]);
  for (const [id, shown] of views) if (shown.dataset.ended) { shown.remove(); views.delete(id); }
  $("train-body").querySelectorAll(":scope > .problem").forEach((shown) => shown.remove());
  showJob(job);
  watch(job.id);
}

/** Polls a job until it ends. */
async function watch(id) {
  if (watching.has(id)) return;
  watching.add(id);
  let before;
  try {
    while (true) {
      const job = await get(`/jobs/${id}`);
      showJob(job);
      if (job.state !== before) announce(named("state", job.state));
      before = job.state;
      if (job.ended_at) return ended(job);
      await pause(POLL_MS);
    }
  } catch (error) {
    const gone = error.code === "job_not_found";
    if (gone) drop(id);
    place(id, problem(error, !gone && (() => watch(id))));
  } finally {
    watching.delete(id);
  }
}

function ended({ id, state, model_id, result }) {
  drop(id);
  if ($("recent").closest("details").open) showRecent();
  if (state === "succeeded") use(result.alias ?? model_id, result.tickers);
}

/** Puts the view of a job where it was, else before the others. */
function place(id, view) {
  const before = views.get(id);
  views.set(id, view);
  if (before?.isConnected) before.replaceWith(view);
  else $("train-body").prepend(view);
}

/** Shows a job. While its button does the same it stays in its place: it may have the focus, or be half clicked. */
function showJob(job) {
  const shown = view(job), before = views.get(job.id);
  const button = before?.querySelector("[data-job]"), next = shown.querySelector("[data-job]");
  if (!before?.isConnected || button?.textContent !== next?.textContent) {
    const focused = button && document.activeElement === button;
    place(job.id, shown);
    if (focused) next?.focus();
    return;
  }
  before.dataset.state = job.state;
  [...before.children].filter((part) => part !== button).forEach((part) => part.remove());
  before.prepend(...[...shown.children].filter((part) => part !== next));
  if (button) button.disabled = next.disabled;
}

function view(job) {
  const losses = job.progress?.validation_losses ?? [];
  const button = job.ended_at ? job.state !== "succeeded" && [t("job.again"), () => act($("train-body"), () => submit(post(`/jobs/${job.id}/retry`)))] : [t("job.cancel"), () => cancel(job)];
  return el("div", { class: "job", "data-state": job.state, "data-ended": job.ended_at },
    el("h3", {}, `${named("state", job.state)}: ${listed(tickersOf(job).join(", "), job.request.alias)}`),
    !job.ended_at && [el("progress", { max: 1, value: job.progress?.share, "aria-label": t("job.progress") }), phases(job), el("p", {}, pace(job))],
    job.error && notes([job.error.detail]),
    job.result && [outcome(job.result), notes(job.result.warnings)],
    losses.length > 1 && el("figure", {}, el("figcaption", {}, t("job.losses")),
      plot({ lines: [{ values: losses }], format: figure, xLabel: t("job.epoch"),
        text: t("job.lossesText", { n: losses.length, first: figure(losses[0]), last: figure(losses.at(-1)) }) })),
    button && action(...button, { "data-job": job.id, disabled: job.cancel_requested && !job.ended_at }));
}

const tickersOf = ({ request: { ticker, tickers, universe } }) => (universe ? [t("job.universe", { name: universe })] : ticker ? [ticker] : tickers);

/** The phases of a training, the current one marked. */
const phases = ({ progress }) => progress && el("ol", { class: "phases" }, PHASES.map((one) =>
  el("li", { "aria-current": one === progress.phase && "step" }, named("phase", one))));

function pace({ progress, request, cancel_requested }) {
  if (cancel_requested) return t("job.stopping");
  if (!progress) return t("job.waiting");
  if (progress.phase !== "fit" || !request.model.endsWith("_lstm")) return `${named("phase", progress.phase)} …`;
  const left = (new Date(progress.estimated_end ?? progress.at) - new Date(progress.at)) / 1000; // both by the worker's clock
  const time = left > 0 ? ` · ${t("job.left", { time: span(left) })}` : "";
  if (progress.fit > 1) return `${t("job.refit")}${time || " …"}`;
  return t("job.pace", { epoch: Math.max(progress.epoch, 1), most: progress.max_epochs }) + (time && `${time}, ${t("job.early")}`);
}

const outcome = ({ test, seconds }) => el("p", {}, `${t("job.done", { time: span(seconds) })} ${testSummary(test)}`);

const cancel = (job) => act($("train-body"), () => call("DELETE", `/jobs/${job.id}`).then(showJob, (error) => {
  if (error.code !== "job_already_finished") throw error;
}));

function showRecent() {
  fill($("recent"), async () => {
    const { jobs: found, unreadable } = await get("/jobs", { limit: 8 });
    const rows = found.filter(({ kind }) => kind === "training").map((job) => ({ cells: [moment(job.created_at), tickersOf(job).join(", "), job.request.model, named("state", job.state), job.error ? message("span", job.error.detail, { class: "wrap" }) : "",
      job.state === "succeeded" ? link(t("job.use"), () => use(job.model_id, tickersOf(job))) : link(t("job.show"), () => watch(job.id))] }));
    const damaged = notes(unreadable.map((id) => t("job.damaged", { id })));
    if (rows.length === 0) return unreadable.length > 0 ? damaged : calm(t("train.none"));
    const head = [t("job.requested"), t("head.tickers"), t("train.kind"), t("job.state"), t("head.problem"), t("job.action")];
    return [table(t("train.recent"), head, rows), damaged];
  });
}
