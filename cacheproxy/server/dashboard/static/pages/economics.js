// What answers cost, who causes it, what a month comes to, and what it would at other prices.

import { get } from "../lib/api.js";
import { Chart, colour } from "../lib/charts.js";
import { el, fill } from "../lib/dom.js";
import { count, duration, percent, usd } from "../lib/format.js";
import { card, empty, facts, figures, pageHead, segments } from "../lib/parts.js";
import { RANGES, chosenRange, sinceOf } from "../lib/range.js";
import { scrolled, table } from "../lib/table.js";
import { unattended } from "../lib/work.js";

export async function show(root, { signal, query }) {
  let range = chosenRange(query);
  const body = el("div", { class: "stack" });
  const spend = new Chart({
    title: "Spend by model",
    note: "With the cache, checks included, and without it.",
    signal,
  });

  async function refresh() {
    const told = await get("economics", { query: { since: sinceOf(range) }, signal });
    fill(
      body,
      told.totals.requests
        ? page(told, spend)
        : empty("No request in this time", "Choose a longer time, or send traffic through the proxy."),
    );
  }
  const choose = (value) => {
    range = value;
    history.replaceState(null, "", `#/economics?range=${value}`);
    unattended(refresh, signal);
  };
  root.append(
    pageHead(
      "Economics",
      "What answers cost, and what they would without the cache.",
      segments("Time", RANGES, range, choose),
    ),
    body,
  );
  await refresh();
}

function page(told, spend) {
  drawSpend(spend, told.models);
  return [
    unit(told),
    el("div", { class: "cols two" }, margin(told), forecast(told.forecast)),
    card("Models", { note: "The most expensive first." }, spendTable("Spend by model", "models", "Model", told.models)),
    el(
      "div",
      { class: "cols two" },
      card("", {}, spend.element),
      card(
        "Tenants",
        { note: "A caller's credential, as a hash; or what the configured header says." },
        spendTable("Spend by tenant", "tenants", "Tenant", told.tenants, 6),
      ),
    ),
    tiers(told.tiers),
  ];
}

function unit({ totals, usd_per_request: request, usd_per_mtok: mtok }) {
  const less = (pair) =>
    pair.with_cache !== null && pair.without_cache
      ? `${usd(pair.without_cache)} without the cache (${percent(1 - pair.with_cache / pair.without_cache)} less)`
      : "";
  const unpriced = totals.unpriced
    ? `${count(totals.unpriced)} requests without a known price count as $0.`
    : `${count(totals.requests)} requests, all with a known price`;
  return figures([
    { id: "per-request", name: "Cost per request", value: usd(request.with_cache), under: less(request) },
    {
      id: "per-mtok",
      name: "Cost per million tokens",
      value: usd(mtok.with_cache),
      under: `${less(mtok)}; input and output together, those of hits included`,
    },
    {
      id: "eco-net",
      name: "Saved, net of checks",
      value: usd(totals.net_saved_usd),
      under: `audits ${usd(totals.audit_usd)}, judges ${usd(totals.judge_usd)}`,
    },
    { id: "eco-requests", name: "Requests", value: count(totals.requests), under: unpriced },
  ]);
}

function margin({ margin: told }) {
  if (told === null) {
    return card(
      "Gross margin",
      {},
      empty(
        "What does a request earn you?",
        "Set what one request brings in, and the margin is shown with the cache and without it.",
        "economics:\n  revenue_per_request_usd: 0.01",
      ),
    );
  }
  const { with_cache: now, without_cache: before } = told.gross_margin;
  return card(
    "Gross margin",
    {
      note: `At ${usd(told.revenue_per_request_usd)} of revenue for a request: what is left of it after paying for models.`,
    },
    figures([
      { id: "margin-with", name: "With the cache", value: percent(now), under: `of ${usd(told.revenue_usd)}` },
      { id: "margin-without", name: "Without", value: percent(before), under: "" },
    ]),
  );
}

function forecast(told) {
  if (told === null) return card("A month", {}, empty("No forecast yet", "It is made from the first request on."));
  return card(
    "A month at this pace",
    { note: told.how },
    facts([
      ["Requests", el("span", { class: "num" }, count(told.requests))],
      ["With the cache", el("span", { class: "num", id: "forecast-with" }, usd(told.with_cache_usd))],
      ["Without", el("span", { class: "num" }, usd(told.without_cache_usd))],
      ["Saved, net", el("strong", { class: "num" }, usd(told.net_saved_usd))],
      ["Waiting saved, net", el("span", { class: "num" }, duration(told.net_saved_s * 1000))],
    ]),
    told.days < 1 &&
      el(
        "p",
        { class: "note" },
        "It rests on less than a day, so it knows nothing of nights and weekends: a guess, no more.",
      ),
  );
}

function spendTable(caption, id, what, rows, columns = 8) {
  return scrolled(
    caption,
    table(
      [
        what,
        "Requests#",
        "Hits#",
        "With the cache#",
        "Without#",
        "Saved, net#",
        "Per request#",
        "Per million tokens#",
      ].slice(0, columns),
      rows.map((row) =>
        [
          row.name === null
            ? el("em", {}, "all others")
            : el("span", { class: "mono name" }, row.name || "none named"),
          count(row.requests),
          percent(row.hit_rate),
          usd(row.with_cache_usd),
          usd(row.without_cache_usd),
          usd(row.net_saved_usd),
          usd(row.usd_per_request.with_cache),
          usd(row.usd_per_mtok.with_cache),
        ].slice(0, columns),
      ),
      { caption, id },
    ),
  );
}

function drawSpend(chart, models) {
  const rows = [...models].reverse();
  const names = rows.map(({ name }) => name ?? "all others");
  chart.draw({
    says: models
      .map(
        (row) => `${row.name ?? "all others"}: ${usd(row.with_cache_usd)} with, ${usd(row.without_cache_usd)} without`,
      )
      .join("; "),
    head: ["Model", "With the cache#", "Without#"],
    rows: models.map((row) => [row.name ?? "all others", usd(row.with_cache_usd), usd(row.without_cache_usd)]),
    traces: () => [
      {
        type: "bar",
        orientation: "h",
        name: "Without",
        y: names,
        x: rows.map((r) => r.without_cache_usd),
        marker: { color: colour("miss") },
        hovertemplate: "$%{x:.4~f}",
      },
      {
        type: "bar",
        orientation: "h",
        name: "With the cache",
        y: names,
        x: rows.map((r) => r.with_cache_usd),
        marker: { color: colour("exact") },
        hovertemplate: "$%{x:.4~f}",
      },
    ],
    layout: () => ({
      barmode: "group",
      hovermode: "y unified",
      xaxis: { tickprefix: "$", tickformat: "~g", nticks: 4, showgrid: true },
      yaxis: { type: "category", showgrid: false },
    }),
  });
}

function tiers(list) {
  const span = ({ low, high }, told) => (low === high ? told(low) : `${told(low)} to ${told(high)}`);
  const rows = list.map((tier) => [
    tier.name,
    `${span(tier.input_usd_per_mtok, usd)} in, ${span(tier.output_usd_per_mtok, usd)} out`,
    span(tier.without_cache_usd, usd),
    span(tier.with_cache_usd, usd),
    span(tier.saved_usd, usd),
    span(tier.latency_s, (s) => duration(s * 1000)),
    span(tier.saved_s, (s) => duration(s * 1000)),
  ]);
  return card(
    "What if another model answered?",
    {
      note: "The month above at the prices and latencies of other tiers: ranges, since prices differ within a tier. They are data in the settings: economics.tiers.",
    },
    list.length
      ? scrolled(
          "What if by model tier",
          table(
            [
              "Tier",
              "Per million tokens",
              "Without the cache#",
              "With it#",
              "Saved, net#",
              "An answer takes#",
              "Waiting saved#",
            ],
            rows,
            { caption: "What if by model tier", id: "tiers" },
          ),
        )
      : empty("Nothing to go by yet", "It is computed from the forecast."),
  );
}
