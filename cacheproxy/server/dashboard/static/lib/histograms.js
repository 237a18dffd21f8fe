// What verdicts said, by how similar the questions were and by how likely the answer was thought to be right.

import { get } from "./api.js";
import { Chart, colour } from "./charts.js";
import { count, percent } from "./format.js";

const BINS = 40;

/** Two charts: `elements`, and `refresh(pool)`. */
export function histograms(signal) {
  const bySimilarity = new Chart({
    title: "Right and wrong, by similarity",
    note: "How alike two questions are says little of whether they have one answer: that is why similarity alone does not decide.",
    signal,
  });
  const byChance = new Chart({
    title: "Right and wrong, by the chance to be right",
    note: "What decides. Each chance is from a model that had not seen the verdict's answer.",
    signal,
  });
  async function refresh(pool) {
    const told = await get("decision/labels", { query: { pool, bins: BINS }, signal });
    draw(bySimilarity, told.similarity, told.labels, "similarity");
    draw(byChance, told.p, told.labels, "chance");
  }
  return { elements: [bySimilarity.element, byChance.element], refresh };
}

function draw(chart, { edges, right_misses, wrong_misses, right_audits, wrong_audits }, labels, what) {
  const sum = (one, other) => one.map((value, position) => value + other[position]);
  const right = sum(right_misses, right_audits);
  const wrong = sum(wrong_misses, wrong_audits);
  const middles = right.map((_, position) => (edges[position] + edges[position + 1]) / 2);
  const total = (list) => list.reduce((all, each) => all + each, 0);
  const used = middles.map((_, position) => position).filter((position) => right[position] + wrong[position]);
  const bar = (name, y, key) => ({
    type: "bar",
    name,
    x: middles,
    y,
    width: edges.slice(1).map((edge, position) => edge - edges[position]),
    marker: { color: colour(key) },
    hovertemplate: "%{y}",
  });
  const from = used.length ? edges[used[0]] : 0;
  chart.draw({
    says: labels ? `${count(total(right))} judged right and ${count(total(wrong))} judged wrong.` : "No verdicts yet.",
    head: [
      what === "chance" ? "Chance to be right" : "Similarity",
      "Right, misses#",
      "Right, audited hits#",
      "Wrong, misses#",
      "Wrong, audited hits#",
    ],
    rows: used.map((at) => [
      what === "chance"
        ? `${percent(edges[at])} to ${percent(edges[at + 1])}`
        : `${edges[at].toFixed(3)} to ${edges[at + 1].toFixed(3)}`,
      right_misses[at],
      right_audits[at],
      wrong_misses[at],
      wrong_audits[at],
    ]),
    traces: () => [bar("Judged right", right, "right"), bar("Judged wrong", wrong, "wrong")],
    layout: () => ({
      barmode: "stack",
      bargap: 0.05,
      xaxis: { title: { text: what }, range: [Math.min(from, 0.95), 1], tickformat: what === "chance" ? ".0%" : "" },
      yaxis: { title: { text: "verdicts" } },
    }),
  });
}
