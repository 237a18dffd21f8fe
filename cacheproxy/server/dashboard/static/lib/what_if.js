// Hit rate against error, and a line that can be moved: what it would come to is computed from recorded verdicts.

import { get } from "./api.js";
import { Chart, colour } from "./charts.js";
import { el, fill } from "./dom.js";
import { count, percent, similarity } from "./format.js";
import { card, empty, field, segments } from "./parts.js";
import { unattended } from "./work.js";

/** The card, and `refresh(pool)`. */
export function whatIf(signal) {
  let score = "p";
  let pool = "";
  let curve = null;
  let at = 0;
  const chart = new Chart({
    title: "Hit rate against error",
    note: "Each point is a line from which answers would be served. Up is more hits, left is fewer wrong ones.",
    height: 300,
    signal,
  });
  const slider = el("input", {
    id: "what-if",
    type: "range",
    min: "0",
    step: "1",
    on: {
      input: () => {
        at = Number(slider.value);
        tell();
      },
    },
  });
  const says = el("output", { id: "what-if-says", for: "what-if", class: "stack" });
  const inside = el(
    "div",
    { class: "cols wide-first" },
    chart.element,
    el("div", { class: "stack" }, field("Serve from", slider), says),
  );
  const body = el("div", {}, inside);

  const shown = (value) => (score === "p" ? percent(value) : similarity(value));

  function tell() {
    const point = curve.points[at];
    slider.setAttribute(
      "aria-valuetext",
      `${shown(point.threshold)}: hit rate ${percent(point.hit_rate)}, wrong per hit ${wrong(point)}`,
    );
    fill(
      says,
      el(
        "p",
        {},
        score === "p" ? "A chance to be right of at least " : "A similarity of at least ",
        el("strong", { id: "what-if-threshold" }, shown(point.threshold)),
        " would have answered",
      ),
      el(
        "p",
        { class: "value-line" },
        el("strong", { class: "big", id: "what-if-hits" }, percent(point.hit_rate)),
        ` of the latest ${count(curve.requests)} requests that had a candidate, and`,
      ),
      el(
        "p",
        { class: "value-line" },
        el("strong", { class: "big", id: "what-if-wrong" }, wrong(point)),
        point.labels ? " of these hits would have been wrong." : " how many of these hits would have been wrong.",
      ),
      el(
        "p",
        { class: "note" },
        `${count(point.wrong)} of ${count(point.labels)} verdicts there were wrong: at most ${percent(point.wrong_per_hit_bound)} at 95% confidence, verdicts taken to be independent. The budget is ${percent(curve.budget)}: `,
        el(
          "strong",
          {},
          kept(point, curve.budget),
        ),
      ),
      el("p", { class: "note" }, compared(point, curve.operating)),
      el(
        "p",
        { class: "note" },
        "Nothing changes by moving it. The budget, max_wrong_per_hit, is what you set; the line follows from verdicts.",
      ),
    );
    draw();
  }

  function draw() {
    const { points, operating, budget } = curve;
    const chosen = points[at];
    const marks = (name, point, key, symbol, size) => ({
      type: "scatter",
      mode: "markers",
      name,
      x: [point.wrong_per_hit],
      y: [point.hit_rate],
      marker: {
        color: colour(key),
        size,
        symbol,
        line: { color: symbol.endsWith("open") ? colour(key) : colour("card"), width: 2 },
      },
      hovertemplate: "%{y:.1%} hits, %{x:.2%} wrong",
    });
    chart.draw({
      says: `At the chosen line, ${percent(chosen.hit_rate)} hits and ${wrong(chosen)} of them wrong.${operating ? ` In force: ${percent(operating.hit_rate)} and ${percent(operating.wrong_per_hit)}.` : ""}`,
      head: ["Served from", "Hit rate#", "Wrong per hit#", "At most#", "Verdicts#", "Wrong#"],
      rows: points.map((point) => [
        shown(point.threshold),
        percent(point.hit_rate),
        wrong(point),
        percent(point.wrong_per_hit_bound),
        count(point.labels),
        count(point.wrong),
      ]),
      traces: () => [
        {
          type: "scatter",
          mode: "lines",
          name: "At most (95%)",
          x: points.map((p) => p.wrong_per_hit_bound),
          y: points.map((p) => p.hit_rate),
          line: { color: colour("unsure"), dash: "dot", width: 1.5 },
          hoverinfo: "skip",
        },
        {
          type: "scatter",
          mode: "lines",
          name: "Measured",
          x: points.map((p) => p.wrong_per_hit),
          y: points.map((p) => p.hit_rate),
          line: { color: colour("semantic"), width: 2.5 },
          hovertemplate: "%{y:.1%} hits, %{x:.2%} wrong",
        },
        ...(operating ? [marks("In force", operating, "exact", "diamond-open", 19)] : []),
        marks("Chosen", chosen, "accent", "circle", 12),
      ],
      layout: () => {
        const edge = Math.min(1, Math.max(budget * 3, ...points.map((p) => p.wrong_per_hit)) * 1.1);
        return {
          hovermode: "closest",
          xaxis: { title: { text: "wrong per hit" }, tickformat: ".1~%", range: [0, edge], showgrid: true },
          yaxis: { title: { text: "hit rate" }, tickformat: ".0%" },
          shapes: [
            {
              type: "line",
              x0: budget,
              x1: budget,
              yref: "paper",
              y0: 0,
              y1: 1,
              line: { color: colour("bad"), width: 1.5, dash: "dash" },
            },
          ],
          annotations: [
            {
              x: budget,
              yref: "paper",
              y: 0.02,
              yanchor: "bottom",
              xanchor: "left",
              text: `budget ${percent(budget)}`,
              showarrow: false,
              font: { color: colour("bad") },
            },
          ],
        };
      },
    });
  }

  async function read() {
    curve = await get("decision/curve", { query: { pool, score }, signal });
    if (!curve.points.length) {
      fill(
        body,
        empty(
          "No verdicts to go by yet",
          "They come from misses that had a candidate, and from audited hits. Send more traffic.",
        ),
      );
      return;
    }
    if (!inside.isConnected) fill(body, inside);
    slider.max = String(curve.points.length - 1);
    at = first(curve);
    slider.value = String(at);
    tell();
  }

  const choice = segments(
    "Score",
    [
      ["p", "Chance to be right"],
      ["similarity", "Similarity alone"],
    ],
    score,
    (value) => {
      score = value;
      unattended(read, signal);
    },
  );
  const element = card(
    "What if the line were elsewhere?",
    { note: "From the loosest line to the strictest.", aside: choice },
    body,
  );
  return {
    element,
    refresh: (named) => {
      pool = named;
      return read();
    },
  };
}

function wrong(point) {
  return point.labels ? percent(point.wrong_per_hit) : "unknown";
}

function kept(point, budget) {
  if (!point.labels) return "no verdict says whether it is kept here.";
  if (point.wrong_per_hit_bound <= budget) return "proven to be kept here.";
  return point.wrong_per_hit <= budget ? "kept by the estimate, not proven." : "not kept here.";
}

// The line in force; without one the loosest that verdicts say would keep the budget.
function first({ points, operating, budget }) {
  if (operating) return nearest(points, operating.threshold);
  const found = points.findIndex((point) => point.labels && point.wrong_per_hit <= budget);
  return found < 0 ? points.length - 1 : found;
}

function nearest(points, threshold) {
  let best = 0;
  points.forEach((point, position) => {
    if (Math.abs(point.threshold - threshold) < Math.abs(points[best].threshold - threshold)) best = position;
  });
  return best;
}

function compared(point, operating) {
  if (!operating) return "Nothing similar is served at the moment by such a line.";
  const more = point.hit_rate - operating.hit_rate;
  if (Math.abs(more) < 0.0005) return "That is the line in force.";
  return `In force: ${percent(operating.hit_rate)} hits, ${percent(operating.wrong_per_hit)} of them wrong. This would be ${percent(Math.abs(more))} of the requests ${more > 0 ? "more" : "fewer"}.`;
}
