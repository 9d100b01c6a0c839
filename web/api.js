// The one way to the server: JSON there and back, and every failure an error with the fields of the problem.

const KEY = "api-key";

const failure = (fields) => Object.assign(new Error(fields.detail), fields);

export const keyGiven = () => sessionStorage.getItem(KEY);
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** The answer's JSON, or its text. A caller who gives up by `signal` gets the AbortError. */
export async function call(method, path, { body, headers, signal, as = "json" } = {}) {
  const key = keyGiven();
  const options = {
    method,
    body: body && JSON.stringify(body),
    headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...(key && { "X-API-Key": key }), ...headers },
    signal,
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw failure({ code: "unreachable", title: "The server cannot be reached", detail: "It did not answer." });
  }
  const content = await answer[answer.ok ? as : "json"]().catch(() => null); // what stands before us may answer in HTML
  if (answer.ok && content !== null) return content;
  throw failure({
    ...content,
    key,
    status: answer.status,
    title: content?.title ?? `The server answered ${answer.status}`,
    detail: content?.detail ?? "It gave no reason.",
    requestId: answer.headers.get("X-Request-Id"),
    retryAfter: Number.parseInt(answer.headers.get("Retry-After"), 10) || null,
  });
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, body, options) => call("POST", path, { body, ...options });
