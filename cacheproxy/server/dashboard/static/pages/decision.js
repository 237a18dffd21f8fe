// Why similar questions are answered as they are: what verdicts say, where the line is, and what another would come to.

import { get } from "../lib/api.js";
import { el, fill } from "../lib/dom.js";
import { markWrong } from "../lib/entry_actions.js";
import { entryLink, explain, verdictBadge } from "../lib/explain.js";
import { count, percent, shortened, similarity, time, usd } from "../lib/format.js";
import { button, card, empty, figures, pageHead, segments } from "../lib/parts.js";
import { FIRST_RULE, boundBar, measured, provenWords, stageBadge, stageMeans } from "../lib/promise.js";
import { reasonMeans } from "../lib/reasons.js";
import { scrolled, table } from "../lib/table.js";
import { histograms } from "../lib/histograms.js";
import { whatIf } from "../lib/what_if.js";
import { doing, paced, unattended } from "../lib/work.js";

const FRESH_MS = 5000;

export async function show(root, { signal, live, query }) {
  const { pools } = await get("decision", { signal });
  let pool = pools.some((each) => each.pool === query.get("pool")) ? query.get("pool") : (pools[0]?.pool ?? "default");
  const promise = el("div", { class: "stack" });
  const misses = el("div");
  const audits = el("div");
  let only = "all";
  const charts = histograms(signal);
  const curve = whatIf(signal);

  async function refreshFeeds() {
    const [told, near, checked] = await Promise.all([
      get("decision", { signal }),
      get("decision/near-misses", { query: { pool, limit: 20 }, signal }),
      get("audits", { query: { limit: 200 }, signal }),
    ]);
    const mine = told.pools.find((each) => each.pool === pool);
    fill(
      promise,
      mine ? summary(mine, told.judge) : empty("No pool yet", "The first request on a namespace makes one."),
    );
    fill(misses, nearMisses(near.near_misses));
    fill(audits, auditFeed(checked, pool, only));
  }
  async function refresh() {
    await Promise.all([refreshFeeds(), charts.refresh(pool), curve.refresh(pool)]);
  }
  const choose = doing(async () => refresh());
  const picker = el(
    "select",
    {
      id: "pool",
      "aria-label": "Pool",
      on: {
        change: (event) => {
          pool = picker.value;
          history.replaceState(null, "", `#/decision?pool=${encodeURIComponent(pool)}`);
          choose(event);
        },
      },
    },
    pools.map((each) => el("option", { value: each.pool }, each.pool)),
  );
  picker.value = pool;

  root.append(
    pageHead(
      "Decision",
      "When a similar question's answer is served, what that rests on, and what another line would come to.",
      pools.length > 1 && el("label", { class: "row" }, "Pool", picker),
    ),
    promise,
    curve.element,
    el(
      "div",
      { class: "cols two" },
      charts.elements.map((chart) => card("", {}, chart)),
    ),
    card(
      "Near misses",
      {
        note: "Requests that had a candidate and were not answered with it: the likeliest ones first. What they should have got is what a looser line would win.",
      },
      misses,
    ),
    card(
      "Audits",
      {
        note: "Checks of cached answers against fresh ones, the latest first.",
        aside: segments(
          "Audits",
          [
            ["all", "All"],
            ["wrong", "Wrong only"],
          ],
          only,
          (value) => {
            only = value;
            unattended(refreshFeeds, signal);
          },
        ),
      },
      audits,
    ),
  );
  await refresh();

  let seen = null;
  const soon = paced(refreshFeeds, FRESH_MS, signal);
  live.on(({ type, data }) => {
    if (type !== "tick") return;
    const stamp = `${data.requests} ${data.audits}`;
    if (
      seen !== null &&
      seen !== stamp &&
      !misses.contains(document.activeElement) &&
      !audits.contains(document.activeElement)
    )
      soon();
    seen = stamp;
  }, signal);
}

function summary(pool, judge) {
  return [
    card(
      "",
      {},
      el(
        "div",
        { class: "stack" },
        el("div", { class: "row" }, stageBadge(pool.stage), el("span", {}, stageMeans(pool))),
        boundBar(pool),
        el("p", { class: "note" }, `${measured(pool)} ${provenWords(pool)}`),
        el("p", { class: "note" }, ofJudge(judge)),
      ),
    ),
    figures([
      {
        id: "bound",
        name: "Wrong per hit, at most",
        value: pool.audits ? percent(pool.wrong_per_hit_bound) : "unknown",
        under: `budget ${percent(pool.budget)}; at 95% confidence`,
      },
      {
        id: "wrong-measured",
        name: "Wrong per audited hit",
        value: pool.audits ? percent(pool.wrong_per_hit) : "unknown",
        under: `${count(pool.wrong_audits)} of ${count(pool.audits)} audits`,
      },
      {
        id: "labels",
        name: "Verdicts",
        value: count(pool.labels),
        under:
          pool.rule_from_labels === null
            ? `no rule yet: the first is made at ${FIRST_RULE}`
            : `the rule is from ${count(pool.rule_from_labels)} of them`,
      },
      {
        id: "semantic-hits",
        name: "Hits on similar questions",
        value: count(pool.semantic_hits),
        under: pool.shadow_hits
          ? `${count(pool.shadow_hits)} more in shadow, ${count(pool.shadow_wrong)} of them wrong`
          : "since the start",
      },
      {
        id: "trips",
        name: "Promise broken",
        value: pool.trips ? `${count(pool.trips)} times` : "never",
        under: pool.drifted ? "questions changed since the rule was made" : "since the start",
      },
    ]),
  ];
}

function ofJudge({ pairs, disagreed, low, high }) {
  const rests = "All of this is as good as the judge that compares answers.";
  if (!pairs) return `${rests} How often it errs has not been measured in the last two weeks.`;
  const share = `${count(disagreed)} of ${count(pairs)} pairs (${percent(low)} to ${percent(high)} at 95% confidence)`;
  return `${rests} Of two fresh answers to one question, which should say the same, it called ${share} different.`;
}

function nearMisses(list) {
  if (!list.length)
    return empty(
      "No near miss is remembered",
      "The latest decisions since the start are kept. Ask something similar to what was asked before.",
    );
  const rows = list.map((miss) => [
    [
      el("span", { class: "break" }, shortened(miss.prompt)),
      el(
        "div",
        { class: "soft small" },
        "nearest: ",
        entryLink(miss.entry, shortened(miss.entry_prompt) || miss.entry),
      ),
    ],
    similarity(miss.similarity),
    miss.p === null ? "" : `${percent(miss.p)}${miss.threshold_p === null ? "" : `, needs ${percent(miss.threshold_p)}`}`,
    el("code", { title: reasonMeans(miss.reason) }, miss.reason),
    miss.verdict ? verdictBadge(miss.verdict) : el("span", { class: "soft" }, "not judged"),
    button(
      "Explain",
      doing(() => explain(miss.request_id)),
      { kind: "quiet", "aria-label": `Explain: ${shortened(miss.prompt, 60)}` },
    ),
  ]);
  return scrolled(
    "Near misses",
    table(["Question", "Similarity#", "Chance to be right#", "Reason", "Verdict", ""], rows, {
      caption: "Near misses",
      id: "near-misses",
    }),
  );
}

function auditFeed({ audits, since_start: whole }, pool, only) {
  const shown = audits
    .filter((audit) => audit.pool === pool && (only === "all" || audit.verdict === "wrong"))
    .slice(0, 50);
  if (!shown.length)
    return empty(
      only === "wrong" ? "No wrong answer among the latest audits" : "No audit yet",
      "A share of the hits on similar questions is asked again in the background, by a coin.",
    );
  const rows = shown.map((audit) => [
    time(audit.at),
    verdictBadge(audit.verdict),
    audit.source === "audit" ? "hit" : audit.source === "miss" ? "miss" : "",
    [audit.why, audit.judge && el("span", { class: "soft" }, ` (${audit.judge})`)],
    audit.similarity === null ? "" : similarity(audit.similarity),
    usd(audit.cost_usd),
    audit.entry ? entryLink(audit.entry, "entry") : "",
    el(
      "span",
      { class: "row" },
      audit.request_id &&
        button(
          "Explain",
          doing(() => explain(audit.request_id)),
          { kind: "quiet", "aria-label": `Explain the audit of ${time(audit.at)}` },
        ),
      audit.entry &&
        audit.verdict === "wrong" &&
        button(
          "Mark wrong",
          doing(() => markWrong(audit.entry)),
          { kind: "quiet", "aria-label": `Mark the entry of the audit of ${time(audit.at)} wrong` },
        ),
    ),
  ]);
  return [
    !whole && el("p", { class: "note" }, "Older ones are from recorded verdicts, of which less is known."),
    scrolled(
      "Audits",
      table(["When", "Verdict", "Of a", "Why", "Similarity#", "Cost#", "Entry", ""], rows, {
        caption: "Audits",
        id: "audits",
      }),
    ),
  ];
}
