// The API key: entered once in a dialog for everything that waits for it, and shared with the API's own page.

import { el } from "./dom.js";
import { t } from "./text.js";

const KEY = "api-key"; // where the API's own page reads it too
let asking, declined = false;

addEventListener("click", () => { declined = false; }, true); // what a person asks for may ask for the key again

export const savedKey = () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);

export const forgetKey = () => [sessionStorage, localStorage].forEach((store) => store.removeItem(KEY));

function saveKey(key, remember) {
  forgetKey();
  (remember ? localStorage : sessionStorage).setItem(KEY, key);
}

/** Whether there is another key than the one that was refused: a newer one, or one entered now. */
export async function enterKey(error) {
  if (savedKey() && savedKey() !== error.key) return true;
  if (declined) return false;
  asking ??= ask(error).finally(() => { asking = undefined; });
  return asking;
}

function ask({ key, missing_right: missing }) {
  const input = el("input", { type: "password", name: "key", required: true, autocomplete: "off", spellcheck: "false" });
  const remember = el("input", { type: "checkbox" });
  const title = missing ? t(`needs.${missing}`) : t(key ? "key.wrong" : "key.needed");
  const dialog = el("dialog", { "aria-labelledby": "key-title" },
    el("form", { method: "dialog", class: "fields" },
      el("h2", { id: "key-title", class: "wide" }, title),
      el("p", { class: "wide" }, t("key.about")),
      el("label", { class: "wide" }, t("key.label"), input),
      el("label", { class: "check" }, remember, t("key.remember")),
      el("button", { class: "primary", value: "use" }, t("key.use")),
      el("button", { value: "", formnovalidate: true }, t("key.cancel"))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    const entered = dialog.returnValue === "use" && input.value.trim();
    declined = !entered;
    if (entered) saveKey(entered, remember.checked);
    dialog.remove();
    document.dispatchEvent(new Event("key"));
    resolve(Boolean(entered));
  }));
}
