// Numbers and dates in the browser's locale. Sessions are dates without a time, hence UTC.

const number = (options) => new Intl.NumberFormat(undefined, options);

const digits = (value) => (Math.abs(value) < 1 && value !== 0 ? { maximumSignificantDigits: 4 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** A price without its currency. */
export const price = (value) => (value == null ? "–" : number(digits(value)).format(value));

/** A price in its currency. Codes such as GBp (pence) are in no locale, so they follow the number. */
export function money(value, currency) {
  if (!/^[A-Z]{3}$/.test(currency ?? "")) return currency ? `${price(value)} ${currency}` : price(value);
  return number({ style: "currency", currency, ...digits(value) }).format(value);
}

export const percent = (share, places = 1) =>
  share == null ? "–" : number({ style: "percent", minimumFractionDigits: places, maximumFractionDigits: places }).format(share);

export const signed = (share, places = 1) =>
  share == null ? "–" : number({ style: "percent", minimumFractionDigits: places, maximumFractionDigits: places, signDisplay: "exceptZero" }).format(share);

/** Two shares with two to four decimals, as many as needed to differ. */
export function percents(one, other) {
  const places = [2, 3, 4].find((n) => percent(one, n) !== percent(other, n)) ?? 2;
  return [percent(one, places), percent(other, places)];
}

/** The evidence of one report, in two sentences. */
export function testSummary({ step, n_origins, model, persistence, coverage }) {
  const [own, unchanged] = percents(model.mape, persistence.mape);
  const range = coverage.find((one) => one.level === 0.8);
  return `In ${count(n_origins)} tests on days it had never seen, the model${step > 1 ? `’s ${step}-day forecast` : ""} was off by ${own} on average; ` +
    `assuming no change, by ${unchanged}.${range ? ` Its ${level(0.8)} range contained the close in ${percent(range.empirical_coverage)} of them.` : ""}`;
}

export const count = (value) => number({ maximumFractionDigits: 0 }).format(value);
export const level = (value) => number({ style: "percent", maximumFractionDigits: 1 }).format(value);
export const figure = (value, significant = 4) => (value == null ? "–" : number({ maximumSignificantDigits: significant }).format(value));

/** Heads of tables and their cells from a report: errors, and the coverage of intervals. */
export const ERRORS = ["Error", "No change", "Skill"];
export const errors = ({ model, persistence, skill }) => [...percents(model.mape, persistence.mape), signed(skill.mape, 2)];
const LEVELS = [0.8, 0.95];
export const COVERAGE = LEVELS.map((one) => `In ${level(one)} range`);
export const covered = (coverage) => LEVELS.map((wanted) => percent(coverage.find((one) => one.level === wanted)?.empirical_coverage));

const date = (options) => {
  const format = new Intl.DateTimeFormat(undefined, { timeZone: "UTC", ...options });
  return (session) => format.format(new Date(`${session}T00:00:00Z`));
};
export const longDay = date({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
export const shortDay = date({ weekday: "short", day: "numeric", month: "short" });
export const day = date({ day: "numeric", month: "short", year: "numeric" });

const time = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
export const moment = (iso) => time.format(new Date(iso));

export function span(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}
