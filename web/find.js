// Finding a ticker by name: a combobox over GET /symbols, and the names of symbols.

import { get } from "./api.js";
import { el } from "./dom.js";
import { listed, t } from "./text.js";

const PAUSE_MS = 150;
const known = new Map(); // symbol -> {name, exchange, currency}
let boxes = 0;

const search = async (q, limit, signal) => {
  const found = await get("/symbols", { q, limit }, { signal });
  found.symbols.forEach((one) => known.set(one.symbol, one));
  return found;
};

/** What is known about a symbol now, without a request. */
export const nameOf = (symbol) => known.get(symbol) ?? { symbol };

/** What is known about a symbol, which is looked up at most once; a failure only leaves it unnamed. */
export async function about(symbol) {
  if (!known.has(symbol)) await search(symbol, 1).catch(() => 0);
  return nameOf(symbol);
}

/** The first symbols of the price source, or those that are spelled nearly like a text. */
export const suggestions = (q = "", limit = 5) => search(q, limit).then(({ symbols }) => symbols);

/** The symbol that a typed text means: a symbol itself, else what is found by that name, else the text. */
export async function resolved(typed) {
  const symbol = typed.trim().toUpperCase();
  if (known.has(symbol)) return symbol;
  const found = await search(typed.trim(), 5).catch(() => null);
  if (!found?.matched || found.symbols.some((one) => one.symbol === symbol)) return symbol;
  return found.symbols[0].symbol;
}

/** Makes a combobox of an input; `choose` is called with the symbol that is picked. */
export function combobox(input, choose) {
  const id = `found-${(boxes += 1)}`;
  const list = el("ul", { class: "found", role: "listbox", id, "aria-label": t("find.label"), hidden: true });
  input.after(list);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": id, "aria-expanded": "false" })) input.setAttribute(name, value);
  let timer, running, active = -1;

  const close = () => {
    clearTimeout(timer);
    running?.abort();
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const pick = (symbol) => {
    input.value = symbol;
    close();
    choose(symbol);
  };
  const mark = (index) => {
    active = (index + list.children.length) % list.children.length;
    [...list.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === active)));
    list.children[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", list.children[active].id);
  };
  const open = async () => {
    running?.abort();
    running = new AbortController();
    const found = await search(input.value.trim(), 8, running.signal).catch(() => null);
    if (!found || document.activeElement !== input) return;
    active = -1;
    list.replaceChildren(...found.symbols.map(({ symbol, name, exchange, currency }, at) =>
      el("li", { role: "option", id: `${id}-${at}`, "aria-selected": "false", onmousedown: (event) => event.preventDefault(), onclick: () => pick(symbol) },
        el("b", {}, name ?? symbol), " ", el("span", {}, listed(name && symbol, exchange, currency)))));
    list.hidden = found.symbols.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
  };

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(open, PAUSE_MS);
  });
  input.addEventListener("keydown", async (event) => {
    const { key } = event;
    if (key === "ArrowDown" || key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) await open();
      if (!list.hidden) mark(active + (key === "ArrowDown" ? 1 : active < 0 ? 0 : -1));
    } else if (key === "Enter" && active >= 0) {
      event.preventDefault();
      list.children[active].click();
    } else if (key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    }
  });
  input.addEventListener("blur", close);
  input.form.addEventListener("submit", close);
}
