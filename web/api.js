// The one way to the server: JSON there and back, and every failure as a Problem.

const KEY = "api-key";
const PATIENCE_S = 600; // a backtest takes its time

export class Problem extends Error {
  constructor(fields) {
    super(fields.detail);
    Object.assign(this, fields);
  }
}

export const keyGiven = () => sessionStorage.getItem(KEY);
export const keepKey = (key) => sessionStorage.setItem(KEY, key);

/** Whether there was one to forget. */
export function forgetKey() {
  const had = keyGiven() !== null;
  sessionStorage.removeItem(KEY);
  return had;
}

/** The answer's JSON. A caller who gives up by `signal` gets the AbortError. */
export async function call(method, path, { body, headers, signal } = {}) {
  const key = keyGiven();
  const patience = AbortSignal.timeout(PATIENCE_S * 1000);
  const options = {
    method,
    body: body && JSON.stringify(body),
    headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...(key && { "X-API-Key": key }), ...headers },
    signal: signal ? AbortSignal.any([signal, patience]) : patience,
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw patience.aborted
      ? new Problem({ code: "timeout", title: "No answer yet", detail: `The server took longer than ${PATIENCE_S} s.` })
      : new Problem({ code: "unreachable", title: "The server cannot be reached", detail: "It did not answer." });
  }
  const content = await answer.json().catch(() => null); // what stands before us may answer in HTML
  if (answer.ok && content !== null) return content;
  throw new Problem({
    ...content,
    status: answer.status,
    title: content?.title ?? `The server answered ${answer.status}`,
    detail: content?.detail ?? "It gave no reason.",
    requestId: content?.request_id ?? answer.headers.get("X-Request-Id"),
    retryAfter: Number.parseInt(answer.headers.get("Retry-After"), 10) || null,
  });
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, body, options) => call("POST", path, { body, ...options });
