// Numbers as people read them. A number that is not known is told as such, never as zero.

const UNKNOWN = "unknown";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export function count(value) {
  if (!known(value)) return UNKNOWN;
  return Math.abs(value) < 100000 ? whole.format(value) : compact.format(value);
}

/** US dollars, with as many digits as small amounts need. */
export function usd(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  let digits = 2;
  if (size >= 10000) digits = 0;
  else if (size > 0 && size < 0.00995) digits = Math.min(8, 1 - Math.floor(Math.log10(size)));
  else if (size > 0 && size < 0.995) digits = 3;
  const text = size.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${value < 0 ? "−" : ""}$${text}`;
}

/** A share of one, in percent. Small ones keep two digits that count. */
export function percent(value) {
  if (!known(value)) return UNKNOWN;
  const hundredths = value * 100;
  const size = Math.abs(hundredths);
  if (size === 0) return "0%";
  if (size < 0.01) return "<0.01%";
  return `${hundredths.toLocaleString("en-US", { maximumFractionDigits: size < 10 ? 2 : 1 })}%`;
}

/** Milliseconds, as ms, s, min, h or days. */
export function duration(ms) {
  if (!known(ms)) return UNKNOWN;
  if (ms < 0) return `−${duration(-ms)}`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 120) return `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

export function similarity(value) {
  return known(value) ? value.toFixed(4) : "none";
}

export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let left = value;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${left.toFixed(unit && left < 100 ? 1 : 0)} ${units[unit]}`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const calendar = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** A time of day for today's, else a date; from seconds since the epoch. */
export function time(seconds) {
  if (!known(seconds)) return "never";
  const date = new Date(seconds * 1000);
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : calendar.format(date);
}

/** How long until, or since, a time. */
export function away(seconds, now = Date.now() / 1000) {
  if (!known(seconds)) return "never";
  const left = seconds - now;
  const size = duration(Math.abs(left) * 1000);
  return left >= 0 ? `in ${size}` : `${size} ago`;
}

/** The first characters of a long text. */
export function shortened(text, most = 140) {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}
