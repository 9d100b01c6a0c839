// Elements, and the states of a part of the page: busy, failed, or a sentence instead of figures.

import { forgetKey, keepKey, keyGiven } from "./api.js";

export const $ = (id) => document.getElementById(id);

/** An element; text is never parsed as HTML. `onX` attributes are listeners, false and null are left out. */
export function el(tag, attributes, ...children) {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}
const SVG = new Set(["svg", "path", "line", "text", "g", "circle", "polyline"]);

/** Says to screen readers what has changed. */
export function announce(text) {
  $("status").textContent = text;
}

export function busy(node, text) {
  node.setAttribute("aria-busy", "true");
  // the old content stays, dimmed, so that the page does not jump
  if (node.childElementCount === 0 || node.querySelector(".problem, .calm")) {
    node.replaceChildren(el("p", { class: "busy" }, text));
  }
}

export function show(node, ...children) {
  node.removeAttribute("aria-busy");
  node.replaceChildren(...children.flat(3).filter(Boolean));
}

const asked = new WeakMap();

/** Fills a part with what `ask` answers, or with its error and a way to try again; only the newest question counts. */
export async function fill(node, text, ask) {
  asked.set(node, ask);
  busy(node, text);
  const answer = await ask().catch((error) => problem(error, () => fill(node, text, ask)));
  if (asked.get(node) === ask) show(node, answer);
}

/** Does something that a button is for; its error stands where the button is. */
export async function act(node, ask) {
  try {
    await ask();
  } catch (error) {
    const told = problem(error, () => { told.remove(); act(node, ask); });
    node.append(told);
  }
}

export const calm = (...children) => el("p", { class: "calm" }, ...children);

const HINTS = {
  ticker_not_found: "Write it as Yahoo Finance does: PETR4.SA for São Paulo, ^GSPC for an index.",
  prices_unreachable: "Prices come from Yahoo Finance. Check the internet connection.",
  unreachable: "Is it still running? Nothing on this page is lost.",
};

/** An error as it reads on the page: what happened, what to do, and a way to try again. */
export function problem(error, retry) {
  if (error.code === "not_authenticated") return keyForm(error, retry);
  const wait = Math.min(error.retryAfter ?? 0, 3600);
  const again = retry && action("Try again", retry, { disabled: wait > 0 });
  const asked = wait > 0 && el("p", {}, `Try again in ${wait} s. `);
  if (wait > 0 && again) setTimeout(() => { again.disabled = false; asked.textContent = ""; }, wait * 1000);
  return el("div", { class: "problem", role: "alert" },
    el("h3", {}, error.title ?? "Something went wrong"),
    el("p", {}, sentence(error.detail ?? error.message)),
    HINTS[error.code] && el("p", {}, HINTS[error.code]),
    error.status >= 500 && error.requestId && el("p", { class: "faint" }, "Request ", el("code", {}, error.requestId)),
    asked, again);
}

function keyForm(error, retry) {
  if (error.key === keyGiven()) forgetKey(); // else another was given since
  const input = el("input", { type: "password", name: "key", required: true, autocomplete: "off", spellcheck: "false" });
  const submit = (event) => {
    event.preventDefault();
    keepKey(input.value.trim());
    retry?.();
    document.dispatchEvent(new Event("anew"));
  };
  return el("div", { class: "problem", role: "alert" },
    el("h3", {}, error.key ? "That API key is not the right one" : "This server wants an API key"),
    el("p", {}, "It is kept in this browser tab only, and sent as X-API-Key."),
    el("form", { class: "fields", onsubmit: submit }, el("label", {}, "API key", input), el("button", { class: "primary" }, "Use it")));
}

export const more = (title, ...children) => el("details", {}, el("summary", {}, title), ...children);

export const action = (text, onclick, attributes) => el("button", { type: "button", onclick, ...attributes }, text);

/** A button that reads like a link. */
export const link = (text, onclick, current) => action(text, onclick, { class: "link", "aria-current": current && "true" });

/** Sentences that qualify what is shown. */
export const notes = (warnings) =>
  warnings?.length > 0 && el("ul", { class: "note" }, warnings.map((text) => el("li", {}, sentence(text))));

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** Label and value pairs. */
export const facts = (pairs) =>
  el("dl", { class: "facts" }, pairs.filter(([, value]) => value != null && value !== "").map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value))));

/** A table that scrolls by itself where it is too wide, also by keyboard. Cells that start rows are headers. */
export function table(caption, head, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, head.map((cell) => el("th", { scope: "col" }, cell)))),
      el("tbody", {}, rows.map(({ cells, current }) => el("tr", { class: current && "current" },
        cells.map((cell, column) => (column === 0 ? el("th", { scope: "row" }, cell) : el("td", {}, cell))))))));
}
