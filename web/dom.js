// Elements, and the states of a part of the page: busy, failed, or empty with a sentence.

import { forgetKey, saveKey, savedKey } from "./api.js";

export const $ = (id) => document.getElementById(id);

/** An element; text is never parsed as HTML. `onX` attributes are listeners; false and null are skipped. */
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

/** Announces a change to screen readers. */
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

const loading = new WeakMap();

/** Fills a part with the result of `load`, or with its error and a button to try again; only the newest call counts. */
export async function fill(node, text, load) {
  loading.set(node, load);
  busy(node, text);
  const content = await load().catch((error) => problem(error, () => fill(node, text, load)));
  if (loading.get(node) === load) show(node, content);
}

/** Runs the action of a button and appends its error to `node`. */
export async function act(node, run) {
  try {
    await run();
  } catch (error) {
    const shown = problem(error, () => { shown.remove(); act(node, run); });
    node.append(shown);
  }
}

export const calm = (...children) => el("p", { class: "calm" }, ...children);

const HINTS = {
  ticker_not_found: "Write it as Yahoo Finance does: PETR4.SA for São Paulo, ^GSPC for an index.",
  prices_unreachable: "Prices come from Yahoo Finance. Check the internet connection.",
  unreachable: "Is it still running? Nothing on this page is lost.",
};

/** An error: what happened, what to do, and a button to try again. */
export function problem(error, retry) {
  if (error.code === "not_authenticated" || error.code === "forbidden") return keyForm(error, retry);
  const wait = Math.min(error.retryAfter ?? 0, 3600);
  const again = retry && action("Try again", retry, { disabled: wait > 0 });
  const pause = wait > 0 && el("p", {}, `Try again in ${wait} s. `);
  if (wait > 0 && again) setTimeout(() => { again.disabled = false; pause.textContent = ""; }, wait * 1000);
  return el("div", { class: "problem", role: "alert" },
    el("h3", {}, error.title ?? "Something went wrong"),
    el("p", {}, sentence(error.detail ?? error.message)),
    HINTS[error.code] && el("p", {}, HINTS[error.code]),
    error.status >= 500 && error.requestId && el("p", { class: "faint" }, "Request ", el("code", {}, error.requestId)),
    pause, again);
}

const MAY = { read: "train but not read", train: "read but not train" };

function keyForm(error, retry) {
  const may = MAY[error.missing_right];
  if (!may && error.key === savedKey()) forgetKey(); // else a newer key is saved
  const input = el("input", { type: "password", name: "key", required: true, autocomplete: "off", spellcheck: "false" });
  const submit = (event) => {
    event.preventDefault();
    saveKey(input.value.trim());
    retry?.();
    document.dispatchEvent(new Event("reload"));
  };
  return el("div", { class: "problem", role: "alert" },
    el("h3", {}, may ? `This key may ${may}` : error.key ? "That API key is wrong" : "This server needs an API key"),
    may && el("p", {}, "Enter a key that may do this."),
    el("p", {}, "It stays in this browser tab and is sent as X-API-Key."),
    el("form", { class: "fields", onsubmit: submit }, el("label", {}, "API key", input), el("button", { class: "primary" }, "Use key")));
}

export const more = (title, ...children) => el("details", {}, el("summary", {}, title), ...children);

export const action = (text, onclick, attributes) => el("button", { type: "button", onclick, ...attributes }, text);

/** A button that reads like a link. */
export const link = (text, onclick, current) => action(text, onclick, { class: "link", "aria-current": current && "true" });

export const notes = (warnings) =>
  warnings?.length > 0 && el("ul", { class: "note" }, warnings.map((text) => el("li", {}, sentence(text))));

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

export const facts = (pairs) =>
  el("dl", { class: "facts" }, pairs.filter(([, value]) => value != null && value !== "").map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value))));

/** A table that scrolls where it is too wide, also by keyboard. The first cell of a row is its header. */
export function table(caption, head, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, head.map((cell) => el("th", { scope: "col" }, cell)))),
      el("tbody", {}, rows.map(({ cells, current }) => el("tr", { class: current && "current" },
        cells.map((cell, column) => (column === 0 ? el("th", { scope: "row" }, cell) : el("td", {}, cell))))))));
}
