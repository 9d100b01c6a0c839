// The one way to the server: JSON there and back, and every failure as a Problem.

const KEY = "api-key";

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
export async function call(method, path, { body, headers, signal, timeout_s = 120, as = "json" } = {}) {
  const key = keyGiven();
  const patience = AbortSignal.timeout(timeout_s * 1000);
  const options = {
    method,
    body: body === undefined ? undefined : JSON.stringify(body),
    headers: {
      Accept: "application/json",
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...(key ? { "X-API-Key": key } : {}),
      ...headers,
    },
    signal: signal ? AbortSignal.any([signal, patience]) : patience,
  };
  let answer, text;
  try {
    answer = await fetch(path, options);
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw patience.aborted
      ? new Problem({ code: "timeout", title: "No answer yet", detail: `The server took longer than ${timeout_s} s.` })
      : new Problem({ code: "unreachable", title: "The server cannot be reached", detail: "It did not answer." });
  }
  if (answer.ok && as === "text") return text;
  const content = parsed(text);
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

function parsed(text) {
  try {
    const content = JSON.parse(text);
    return typeof content === "object" ? content : null;
  } catch {
    return null;
  }
}
