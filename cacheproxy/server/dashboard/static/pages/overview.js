// What did it save, can it be trusted, what is to be done next.

import { get } from "../lib/api.js";
import { Chart, colour } from "../lib/charts.js";
import { el, fill } from "../lib/dom.js";
import { count, duration, percent, time, usd } from "../lib/format.js";
import { card, empty, figures, pageHead, segments, OUTCOMES } from "../lib/parts.js";
import { boundBar, measured, provenWords, stageBadge, stageMeans } from "../lib/promise.js";
import { RANGES, chosenRange, sinceOf } from "../lib/range.js";
import { advice } from "../lib/advice.js";
import { scrolled, table } from "../lib/table.js";
import { paced, unattended } from "../lib/work.js";

const FRESH_MS = 3000;

export async function show(root, { signal, live, query }) {
  let range = chosenRange(query);
  const top = el("div");
  const trust = el("div", { class: "stack" });
  const next = el("ol", { class: "next" });
  const latency = el("div");
  const rate = el("span", { class: "num soft small", id: "rate" });
  const charts = {
    hits: new Chart({
      title: "Who answered",
      note: "Share of requests, by the layer of the cache or the upstream.",
      signal,
    }),
    spend: new Chart({
      title: "Spend with and without the cache",
      note: "What the same requests would have cost, beside what was paid for answers, audits and judges.",
      signal,
    }),
  };

  async function refresh() {
    const asked = { since: sinceOf(range) };
    const [overview, health] = await Promise.all([
      get("overview", { query: asked, signal }),
      get("health", { signal }),
    ]);
    fill(top, savings(overview));
    fill(
      trust,
      overview.pools.map((pool) => promise(pool, overview.pools.length > 1)),
    );
    fill(next, advice(overview, health));
    fill(latency, latencies(overview));
    drawHits(charts.hits, overview);
    drawSpend(charts.spend, overview);
  }

  const choose = (value) => {
    range = value;
    history.replaceState(null, "", `#/overview?range=${value}`);
    unattended(refresh, signal);
  };
  root.append(
    pageHead(
      "Overview",
      "What the cache saved, and how far it can be trusted.",
      el("div", { class: "row" }, rate, segments("Time", RANGES, range, choose)),
    ),
    top,
    el(
      "div",
      { class: "cols wide-first" },
      card(
        "Can I trust it?",
        { note: "Hits on similar questions may be wrong. This is how often, and what is promised." },
        trust,
      ),
      card("What to do next", {}, next),
    ),
    el("div", { class: "cols two" }, card("", {}, charts.hits.element), card("", {}, charts.spend.element)),
    card(
      "How long answers take",
      { note: "Percentiles are of the latest requests, the mean of the whole time." },
      latency,
    ),
  );
  await refresh();

  let seen = null;
  const soon = paced(refresh, FRESH_MS, signal);
  live.on(({ type, data }) => {
    if (type !== "tick") return;
    rate.textContent =
      data.requests_per_s === 0
        ? "idle now"
        : `${data.requests_per_s.toFixed(data.requests_per_s < 10 ? 1 : 0)} requests/s now`;
    const stamp = `${data.requests} ${data.audits} ${data.checks_usd}`;
    if (seen !== null && seen !== stamp) soon();
    seen = stamp;
  }, signal);
}

function savings({ totals }) {
  const { hits, hit_rates: rates } = totals;
  const hit = hits.exact + hits.semantic + hits.coalesced;
  const tokens = totals.saved_input_tokens + totals.saved_output_tokens;
  const unpriced = totals.unpriced ? ` ${count(totals.unpriced)} without a known price count as $0.` : "";
  return figures([
    {
      id: "net-saved",
      name: "Saved, net of checks",
      value: usd(totals.net_saved_usd),
      under: `${usd(totals.saved_usd)} not paid for hits, less ${usd(totals.checks_usd)} for audits and judges.${unpriced}`,
    },
    {
      id: "hit-rate",
      name: "Answered from the cache",
      value: totals.requests ? percent(rates.all) : "none yet",
      under: `${count(hit)} of ${count(totals.requests)} requests`,
    },
    {
      id: "tokens-saved",
      name: "Tokens not bought",
      value: count(tokens),
      under: `${count(totals.saved_input_tokens)} in, ${count(totals.saved_output_tokens)} out`,
    },
    {
      id: "time-saved",
      name: "Waiting saved, net",
      value: duration(totals.net_saved_s * 1000),
      under: `of all callers together, less ${duration(totals.cache_s * 1000)} that the cache took`,
    },
    {
      id: "spend",
      name: "Spent",
      value: usd(totals.with_cache_usd),
      under: `${usd(totals.without_cache_usd)} without the cache`,
    },
  ]);
}

function promise(pool, several) {
  return el(
    "div",
    { class: "stack pool", data: { pool: pool.pool } },
    el(
      "div",
      { class: "row" },
      stageBadge(pool.stage),
      several && el("h3", {}, pool.pool),
      el("span", { class: "soft small" }, `budget: at most ${percent(pool.budget)} of hits on similar questions wrong`),
    ),
    el("p", {}, stageMeans(pool)),
    boundBar(pool),
    el("p", { class: "note" }, `${measured(pool)} ${provenWords(pool)}`),
    el(
      "p",
      { class: "note" },
      `${count(pool.semantic_hits)} hits on similar questions and ${count(pool.labels)} verdicts so far. `,
      el("a", { href: `#/decision?pool=${encodeURIComponent(pool.pool)}` }, "What it rests on"),
    ),
  );
}

function latencies({ hit_latency: hit, miss_latency: miss }) {
  if (!hit.latest && !miss.latest) return empty("No request yet", "Times are shown from the first request on.");
  const row = (name, of) => [
    name,
    duration(of.p50_ms),
    duration(of.p95_ms),
    duration(of.p99_ms),
    duration(of.mean_ms),
    count(of.latest),
  ];
  const faster =
    hit.p50_ms && miss.p50_ms
      ? el(
          "p",
          { class: "note" },
          `Half of the hits took at most ${duration(hit.p50_ms)}, half of the rest ${duration(miss.p50_ms)}.`,
        )
      : null;
  return [
    faster,
    scrolled(
      "Latency",
      table(
        ["", "Median#", "95th percentile#", "99th percentile#", "Mean#", "Latest requests#"],
        [row("Hits", hit), row("Forwarded", miss)],
        { caption: "Latency of hits and of forwarded requests", id: "latency", stacked: false },
      ),
    ),
  ];
}

function drawHits(chart, { points, totals, step }) {
  const shares = points.map((point) => ({
    at: point.at,
    requests: point.requests,
    ...point.hit_rates,
    miss: point.requests ? 1 - point.hit_rates.all : 0,
  }));
  chart.draw({
    says: !totals.requests
      ? "No request in this time."
      : `${percent(totals.hit_rates.all)} of ${count(totals.requests)} requests were answered from the cache: exact ${percent(totals.hit_rates.exact)}, semantic ${percent(totals.hit_rates.semantic)}, coalesced ${percent(totals.hit_rates.coalesced)}.`,
    head: [step === "day" ? "Day" : "Hour", "Requests#", ...OUTCOMES.map(([, name]) => `${name}#`)],
    rows: shares
      .filter((point) => point.requests)
      .map((point) => [time(point.at), count(point.requests), ...OUTCOMES.map(([key]) => percent(point[key]))]),
    traces: () =>
      OUTCOMES.map(([key, name]) => ({
        type: "bar",
        name,
        x: shares.map(({ at }) => new Date(at * 1000)),
        y: shares.map((point) => point[key]),
        marker: { color: colour(key) },
        hovertemplate: "%{y:.1%}",
      })),
    layout: () => ({ barmode: "stack", yaxis: { tickformat: ".0%", range: [0, 1] }, xaxis: timeAxis(shares, step) }),
  });
}

function drawSpend(chart, { points, totals, step }) {
  const at = points.map((point) => new Date(point.at * 1000));
  chart.draw({
    says: !totals.requests
      ? "No request in this time."
      : `${usd(totals.with_cache_usd)} spent with the cache, ${usd(totals.without_cache_usd)} without it.`,
    head: [step === "day" ? "Day" : "Hour", "With the cache#", "Without#", "Audits and judges#"],
    rows: points
      .filter((point) => point.requests)
      .map((point) => [time(point.at), usd(point.with_cache_usd), usd(point.without_cache_usd), usd(point.checks_usd)]),
    traces: () => [
      {
        type: "bar",
        name: "With the cache",
        x: at,
        y: points.map((p) => p.with_cache_usd),
        marker: { color: colour("exact") },
        hovertemplate: "$%{y:.4~f}",
      },
      {
        type: "bar",
        name: "Without",
        x: at,
        y: points.map((p) => p.without_cache_usd),
        marker: { color: colour("miss") },
        hovertemplate: "$%{y:.4~f}",
      },
    ],
    layout: () => ({ barmode: "group", yaxis: { tickprefix: "$", tickformat: "~g" }, xaxis: timeAxis(points, step) }),
  });
}

// A single bar would be as wide as the chart: at least twelve steps are shown.
function timeAxis(points, step) {
  const size = (step === "day" ? 86400 : 3600) * 1000;
  const last = points.length ? points.at(-1).at * 1000 : Date.now();
  const first = points.length ? points[0].at * 1000 : last;
  return { type: "date", range: [new Date(Math.min(first, last - 11 * size) - size / 2), new Date(last + size / 2)] };
}
