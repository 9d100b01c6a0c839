// The words of the page's language, and the server's messages in it.

export const lang = document.documentElement.lang;
const { default: words } = await import(`./${lang}.js`);

const filled = (text, values) => text.split(/\{(\w+)\}/).map((part, index) => (index % 2 ? values[part] : part));

/** The words of a key, group.name, with its values. */
export const t = (key, values = {}) => parts(key, values).join("");

/** The same where a value is an element: a list of texts and elements. */
export function parts(key, values) {
  const [group, name] = key.split(".");
  return filled(words[group][name], values);
}

/** The words of a key that the server names, such as a state; the name itself where there are none. */
export const named = (group, name) => words[group][name] ?? String(name).replaceAll("_", " ");

/** What is there of several texts. */
export const listed = (...texts) => texts.filter(Boolean).join(" · ");

const NUMBER = /^[−-]?[\d,]+(\.\d+)?( ?%)?$/;
let messages;

/** A message of the server in the page's language, found by its English words as the server finds those of its errors. */
export async function said(text) {
  if (lang === "en") return text;
  messages ??= fetch(`/static/messages/${lang}.json`).then((answer) => answer.json()).then((all) =>
    Object.entries(all).sort(([one], [other]) => other.replaceAll("{}", "").length - one.replaceAll("{}", "").length)
      .map(([english, words]) => [new RegExp(`^${english.split("{}").map(plain).join("(.+?)")}$`, "s"), words]));
  const known = await messages.catch(() => []);
  const translate = (message) => {
    for (const [pattern, target] of known) {
      const found = message.match(pattern);
      if (found) return target.replace(/\{(\d)\}/g, (_, index) => part(found[Number(index) + 1]));
    }
    return message;
  };
  const part = (value) => (NUMBER.test(value) ? value.replace(/[.,]/g, (mark) => (mark === "." ? "," : ".")) : translate(value));
  return translate(text);
}

const plain = (text) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
