// Elements, and the states of a part of the page: busy, failed, or empty with a sentence.

import { lang, named, said, t } from "./text.js";

export const $ = (id) => document.getElementById(id);

/** What the address says. */
export const address = () => new URLSearchParams(location.search);

/** The JSON that this browser keeps under a name, `otherwise` where there is none or another program has written it. */
export function kept(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

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

/** Says what is loading, with a bar; the old content stays, dimmed, so that the page does not jump. */
export function busy(node, text) {
  node.setAttribute("aria-busy", "true");
  node.querySelector(":scope > .busy")?.remove();
  if (node.querySelector(":scope > .problem, :scope > .calm")) node.replaceChildren();
  node.prepend(el("div", { class: "busy" }, el("p", {}, text), el("progress", { "aria-label": text })));
}

export function show(node, ...children) {
  node.removeAttribute("aria-busy");
  node.replaceChildren(...children.flat(3).filter(Boolean));
}

export const onSubmit = (form, run) => form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});

const loading = new WeakMap();

/** Fills a part with the result of `load`, or with its error and a button to try again; only the newest call counts. */
export async function fill(node, load, text = t("page.loading")) {
  loading.set(node, load);
  busy(node, text);
  const content = await load().catch((error) => problem(error, () => fill(node, load, text)));
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

export const second = (...children) => el("p", { class: "second" }, ...children);

export const calm = (...children) => el("p", { class: "calm" }, ...children);

/** An error: what happened, what to do, and a button to try again. */
export function problem(error, retry, ...more) {
  const wait = Math.min(error.retryAfter ?? 0, 3600);
  const again = retry && action(t("error.again"), retry, { disabled: wait > 0 });
  const pause = wait > 0 && el("p", {}, t("error.wait", { wait }));
  if (wait > 0 && again) setTimeout(() => { again.disabled = false; pause.textContent = ""; }, wait * 1000);
  const hint = named("hint", error.code);
  return el("div", { class: "problem", role: "alert" },
    el("h2", {}, error.title ?? t("error.title")),
    message("p", error.detail ?? error.message),
    hint.includes(" ") && hint.endsWith(".") && el("p", {}, hint),
    more,
    error.status >= 500 && error.requestId && el("p", { class: "faint" }, t("error.request"), " ", el("code", {}, error.requestId)),
    pause, again);
}

export const more = (title, ...children) => el("details", {}, el("summary", {}, title), ...children);

export const action = (text, onclick, attributes) => el("button", { type: "button", onclick, ...attributes }, text);

/** A button that reads like a link. */
export const link = (text, onclick, current) => action(text, onclick, { class: "link", "aria-current": current && "true" });

export const notes = (warnings) =>
  warnings?.length > 0 && el("ul", { class: "note" }, warnings.map((text) => message("li", text)));

/** An element with a message of the server, in the page's language as soon as that is known. */
export function message(tag, text, attributes) {
  const node = el(tag, attributes, sentence(text));
  said(text).then((words) => { node.textContent = sentence(words); });
  return node;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** A term with an explanation that appears where it is pointed at or reached by keyboard, and a link to the help. */
export function term(name, text) {
  const id = `tip-${name}-${(terms += 1)}`;
  return el("span", { class: "tip" },
    el("a", { href: `/help?lang=${lang}#${name}`, "aria-describedby": id }, text),
    el("span", { role: "tooltip", id }, t(`tip.${name}`)));
}
let terms = 0;

export const facts = (pairs) =>
  el("dl", { class: "facts" }, pairs.filter(([, value]) => value != null && value !== "").map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value))));

/** A table that scrolls where it is too wide, also by keyboard, and is a list of cards on a telephone. */
export function table(caption, head, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, head.map((cell) => el("th", { scope: "col" }, cell)))),
      el("tbody", {}, rows.map(({ cells, current }) => el("tr", { class: current && "current" },
        cells.map((cell, column) => (column === 0 ? el("th", { scope: "row" }, cell) : el("td", { "data-label": head[column].textContent ?? head[column] }, cell))))))));
}

/** Offers a file that the page has made. */
export function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
