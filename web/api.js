// Calls to the server: JSON in and out; a failure is an Error with the fields of the problem document.

import { enterKey, savedKey } from "./key.js";
import { lang, t } from "./text.js";

const failure = (fields) => Object.assign(new Error(fields.detail), fields);

/** The answer's JSON or text. Rejects with an AbortError where `signal` aborts. A call that needs a key asks for it. */
export async function call(method, path, options = {}) {
  const { body, headers, signal, keepalive, as = "json" } = options;
  const key = savedKey();
  const request = {
    method,
    body: body && JSON.stringify(body),
    headers: { Accept: "application/json", "Accept-Language": lang, ...(body && { "Content-Type": "application/json" }), ...(key && { "X-API-Key": key }), ...headers },
    signal,
    keepalive,
  };
  let answer;
  try {
    answer = await fetch(path, request);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw failure({ code: "unreachable", title: t("error.unreachable"), detail: t("error.unanswered") });
  }
  const content = await answer[answer.ok ? as : "json"]().catch(() => null); // a proxy may answer in HTML
  if (answer.ok && content !== null) return content;
  const error = failure({
    ...content,
    key,
    status: answer.status,
    title: content?.title ?? t("error.status", { status: answer.status }),
    detail: content?.detail ?? t("error.empty"),
    requestId: answer.headers.get("X-Request-Id"),
    retryAfter: Number.parseInt(answer.headers.get("Retry-After"), 10) || null,
  });
  if (error.code === "not_authenticated" || error.code === "forbidden") {
    if (await enterKey(error)) return call(method, path, options);
  }
  throw error;
}

export const get = (path, query, options) => call("GET", query ? `${path}?${new URLSearchParams(query)}` : path, options);
export const post = (path, body, options) => call("POST", path, { body, ...options });

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const prices = (ticker, days, signal) => post("/models/fetch-data", { ticker, days }, { signal });

/** The report of a backtest; a long one is a job, which `started` and `report` are called with. */
export async function backtest(model, request, report, started = () => 0) {
  const answer = await post(`/models/${encodeURIComponent(model)}/backtest`, request, { headers: { Prefer: "respond-async" } });
  if (answer.kind !== "backtest") return answer;
  started(answer);
  return resultOf(answer, report);
}

/** The result of a job, which `report` is called with each second. */
async function resultOf(job, report) {
  while (!job.ended_at) {
    await pause(1000);
    job = await get(`/jobs/${job.id}`);
    report(job);
  }
  if (job.error) throw failure(job.error);
  return job.result;
}
