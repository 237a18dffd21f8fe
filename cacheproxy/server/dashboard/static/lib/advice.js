// What an operator should do next, the most pressing first. Each piece of advice rests on a figure of the API.

import { el } from "./dom.js";
import { count, duration, percent, usd } from "./format.js";
import { badge } from "./parts.js";
import { FIRST_RULE } from "./promise.js";

const CHURN = 0.5;
const DEAR_CHECKS = 0.2;
const ENOUGH_REQUESTS = 50;

function item(kind, word, title, says, href = "", link = "") {
  return el(
    "li",
    {},
    badge(word, kind),
    el("div", {}, el("strong", {}, title), " ", says, href && [" ", el("a", { href }, link)]),
  );
}

/** List items; at least one. */
export function advice(overview, health) {
  const list = [...troubles(health), ...ofPools(overview.pools), ...ofSavings(overview, health)].slice(0, 5);
  return list.length
    ? list
    : [
        item(
          "good",
          "Fine",
          "Nothing needs you.",
          "Look at audits and near misses now and then: they say what the cache could still answer.",
          "#/decision",
          "See the decision",
        ),
      ];
}

function troubles(health) {
  const open = Object.entries(health.breakers)
    .filter(([, state]) => state !== "closed")
    .map(([port]) => port);
  return [
    open.length &&
      item(
        "bad",
        "Now",
        `A part of the cache does not answer: ${open.join(", ")}.`,
        "Requests go to the upstream instead.",
        "#/health",
        "See health",
      ),
    health.index.why_none &&
      item(
        "warn",
        "Check",
        "Only identical questions are answered.",
        `No embedding model: ${health.index.why_none}.`,
        "#/health",
        "See health",
      ),
  ].filter(Boolean);
}

function ofPools(pools) {
  return pools.flatMap((pool) => {
    const where = `#/decision?pool=${encodeURIComponent(pool.pool)}`;
    const name = pools.length > 1 ? ` (${pool.pool})` : "";
    if (pool.stage === "shadow")
      return [
        item(
          "bad",
          "Now",
          `The promise was broken${name}.`,
          "Nothing similar is served. See which answers were wrong, and mark or purge them.",
          where,
          "See audits",
        ),
      ];
    if (pool.wrong_per_hit !== null && pool.wrong_per_hit > pool.budget)
      return [
        item(
          "warn",
          "Check",
          `More wrong audits than the budget allows${name}:`,
          `${percent(pool.wrong_per_hit)} of ${count(pool.audits)}. See whether they were really wrong.`,
          where,
          "See audits",
        ),
      ];
    if (pool.drifted)
      return [
        item(
          "warn",
          "Check",
          `Questions changed${name}.`,
          "Many more close decisions than when the rule was made: a new one is made as verdicts come in.",
          where,
          "See the decision",
        ),
      ];
    if (pool.stage === "uncertified" && pool.labels < FIRST_RULE)
      return [
        item(
          "info",
          "Wait",
          `Still learning${name}:`,
          `the first rule is made at ${FIRST_RULE} verdicts, ${count(pool.labels)} are there. Send more traffic.`,
        ),
      ];
    if (pool.stage === "uncertified")
      return [
        item(
          "info",
          "Wait",
          `Few hits on similar questions so far${name}:`,
          `${count(pool.labels)} verdicts do not say yet from where ${percent(pool.budget)} would be kept. More traffic brings more of them.`,
          where,
          "See the decision",
        ),
      ];
    return [];
  });
}

function ofSavings({ totals }, health) {
  if (!totals.requests)
    return [
      item(
        "info",
        "Start",
        "No request in this time.",
        "Point an application at the proxy: it is one line, its base URL.",
        "#/live",
        "Watch requests come in",
      ),
    ];
  const list = [];
  if (totals.unpriced)
    list.push(
      item(
        "warn",
        "Check",
        "Some prices are not known:",
        `${count(totals.unpriced)} requests count as $0. Name them under prices in the settings.`,
        "#/economics",
        "See models",
      ),
    );
  if (health.scope_churn > CHURN && totals.requests > ENOUGH_REQUESTS)
    list.push(
      item(
        "warn",
        "Check",
        "Most misses can never be hits:",
        `${percent(health.scope_churn)} came with a system prompt or history that was never seen before. Does a system prompt hold the time or an id? key.ignore_patterns blanks it.`,
      ),
    );
  if (totals.net_saved_s < 0 && totals.requests > ENOUGH_REQUESTS)
    list.push(
      item(
        "info",
        "Note",
        "Callers wait longer than without the cache:",
        `${duration(-totals.net_saved_s * 1000)} in all. The upstream is quick, and comparing questions takes time on each miss: a faster device or mode exact takes less.`,
      ),
    );
  if (totals.saved_usd > 0 && totals.checks_usd > totals.saved_usd * DEAR_CHECKS)
    list.push(
      item(
        "info",
        "Note",
        "Checks cost much of what is saved:",
        `${usd(totals.checks_usd)} of ${usd(totals.saved_usd)}. That falls as the rule settles.`,
      ),
    );
  return list;
}
