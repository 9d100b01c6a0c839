// Numbers and dates in the language of the words. Sessions are dates without a time, hence UTC.

import { lang, t } from "./text.js";

// of the browser's own regions, if it speaks the language: en-GB writes dates as its people do
const locale = navigator.languages.find((one) => one.split("-")[0] === lang.split("-")[0]) ?? lang;
const formats = {};
const number = (options) => (formats[JSON.stringify(options)] ??= new Intl.NumberFormat(locale, options));

const digits = (value) => (Math.abs(value) < 1 && value !== 0 ? { maximumSignificantDigits: 4 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** A price without its currency. */
export const price = (value) => (value == null ? "–" : number(digits(value)).format(value));

/** A price in its currency. Codes such as GBp (pence) are in no locale, so they follow the number. */
export function money(value, currency) {
  if (!/^[A-Z]{3}$/.test(currency ?? "")) return currency ? `${price(value)} ${currency}` : price(value);
  return number({ style: "currency", currency, ...digits(value) }).format(value);
}

export const percent = (share, places = 1, signDisplay = "auto") =>
  share == null ? "–" : number({ style: "percent", minimumFractionDigits: places, maximumFractionDigits: places, signDisplay }).format(share);

export const signed = (share, places) => percent(share, places, "exceptZero");

/** Two shares with two to four decimals, as many as needed to differ. */
function percents(one, other) {
  const places = [2, 3, 4].find((n) => percent(one, n) !== percent(other, n)) ?? 2;
  return [percent(one, places), percent(other, places)];
}

/** An expected move, as the server writes it. */
export const move = (share) => (share >= 0.0001 ? percent(share, 2) : number({ style: "percent", maximumSignificantDigits: 1 }).format(share));

/** The evidence of one report, in two sentences. */
export function testSummary({ step, n_origins, model, persistence, coverage }) {
  const [own, unchanged] = percents(model.mape, persistence.mape);
  const range = coverage.find((one) => one.level === 0.8);
  const inside = range && t("tested.range", { level: level(0.8), share: percent(range.empirical_coverage) });
  const what = t(step > 1 ? "tested.far" : "tested.near", { step });
  return [t("tested.summary", { n: count(n_origins), what, own, unchanged }), inside].filter(Boolean).join(" ");
}

export const count = (value) => number({ maximumFractionDigits: 0 }).format(value);
export const ratio = (value) => number({ minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(value);
export const level = (value) => number({ style: "percent", maximumFractionDigits: 1 }).format(value);
export const rangeOf = (of) => t("forecast.range", { level: level(of) });
export const figure = (value, significant = 4) => (value == null ? "–" : number({ maximumSignificantDigits: significant }).format(value));

/** Heads of tables and their cells from a report: errors, and the coverage of intervals. */
export const ERRORS = [t("head.error"), t("head.nochange"), t("head.skill")];
export const errors = ({ model, persistence, skill }) => [...percents(model.mape, persistence.mape), signed(skill.mape, 2)];
const LEVELS = [0.8, 0.95];
export const COVERAGE = LEVELS.map((one) => t("head.inside", { level: level(one) }));
export const covered = (coverage) => LEVELS.map((wanted) => percent(coverage.find((one) => one.level === wanted)?.empirical_coverage));

const date = (options) => {
  const format = new Intl.DateTimeFormat(locale, { timeZone: "UTC", ...options });
  return (session) => format.format(new Date(`${session}T00:00:00Z`));
};
export const longDay = date({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
export const day = date({ day: "numeric", month: "short", year: "numeric" });

const time = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
export const moment = (iso) => time.format(new Date(iso));
export const chartLocale = locale;

export function span(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}
