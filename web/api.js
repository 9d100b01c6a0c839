// Calls to the server: JSON in and out; a failure is an Error with the fields of the problem document.

const KEY = "api-key";

const failure = (fields) => Object.assign(new Error(fields.detail), fields);

export const savedKey = () => sessionStorage.getItem(KEY);
export const saveKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** The answer's JSON or text. Rejects with an AbortError where `signal` aborts. */
export async function call(method, path, { body, headers, signal, keepalive, as = "json" } = {}) {
  const key = savedKey();
  const options = {
    method,
    body: body && JSON.stringify(body),
    headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...(key && { "X-API-Key": key }), ...headers },
    signal,
    keepalive,
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw failure({ code: "unreachable", title: "The server cannot be reached", detail: "The server did not answer." });
  }
  const content = await answer[answer.ok ? as : "json"]().catch(() => null); // a proxy may answer in HTML
  if (answer.ok && content !== null) return content;
  throw failure({
    ...content,
    key,
    status: answer.status,
    title: content?.title ?? `The server answered ${answer.status}`,
    detail: content?.detail ?? "The answer has no details.",
    requestId: answer.headers.get("X-Request-Id"),
    retryAfter: Number.parseInt(answer.headers.get("Retry-After"), 10) || null,
  });
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, body, options) => call("POST", path, { body, ...options });
