// The span of time that a page tells of.

export const RANGES = [
  ["24h", "24 hours"],
  ["7d", "7 days"],
  ["30d", "30 days"],
  ["all", "All"],
];
const SECONDS = { "24h": 86400, "7d": 7 * 86400, "30d": 30 * 86400 };

/** The range that an address names, else the last day. */
export function chosenRange(query) {
  const named = query.get("range");
  return RANGES.some(([value]) => value === named) ? named : "24h";
}

/** When it begins, in seconds since the epoch; null: with the first request. */
export function sinceOf(range) {
  return range in SECONDS ? Math.floor(Date.now() / 1000 - SECONDS[range]) : null;
}
