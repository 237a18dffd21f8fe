// What is promised of hits on similar questions, in words: the stages of a pool, and what an operator makes of them.

import { el } from "./dom.js";
import { count, percent } from "./format.js";
import { badge } from "./parts.js";

/** So many verdicts it takes until there is a rule. */
export const FIRST_RULE = 100;
const STAGES = {
  uncertified: [
    "warn",
    "Uncertified",
    "Only very similar questions that no guard objects to are answered, and nothing is proven of them.",
  ],
  estimated: ["info", "Estimated", "Verdicts say that the budget is kept. That is an estimate: it may turn out wrong."],
  certified: [
    "good",
    "Certified",
    "Verdicts prove, at 95% confidence, that hits from the certified score on keep the budget.",
  ],
  shadow: [
    "bad",
    "Stopped",
    "The promise was broken, or may have been. Nothing similar is served until verdicts say that it would be kept.",
  ],
};

/** How much a pool promises, as a badge. */
export function stageBadge(stage) {
  const [kind, name] = STAGES[stage] ?? ["", stage];
  return badge(name, kind);
}

/** What a pool's stage means, in a sentence or two. */
export function stageMeans({ stage, labels }) {
  const means = STAGES[stage]?.[2] ?? "";
  if (stage !== "uncertified") return means;
  const why = labels < FIRST_RULE ? "Too few verdicts so far." : "Verdicts do not say yet that the budget would be kept.";
  return `${why} ${means}`;
}

/** Audited hits of a pool, and what they say of all of its hits. */
export function measured(pool) {
  if (!pool.audits) return "No hit has been audited yet.";
  return `${count(pool.wrong_audits)} of ${count(pool.audits)} audited hits were wrong: ${percent(pool.wrong_per_hit)}, and at most ${percent(pool.wrong_per_hit_bound)} at 95% confidence.`;
}

/** What was measured and its bound, drawn against the budget. */
export function boundBar(pool) {
  const { wrong_per_hit: wrong, wrong_per_hit_bound: bound, budget } = pool;
  if (!pool.audits) return null;
  const scale = Math.min(Math.max(bound, budget * 1.5), budget * 4) * 1.05;
  const part = (name, side, value) => {
    const span = el("span", { class: name });
    span.style[side] = `${Math.min(value / scale, 1) * 100}%`;
    return span;
  };
  let kind = "good";
  if (wrong > budget) kind = "bad";
  else if (bound > budget) kind = "warn";
  const words = `measured ${percent(wrong)}, at most ${percent(bound)}, budget ${percent(budget)}`;
  return el(
    "div",
    { class: `bullet ${kind}` },
    el(
      "div",
      { class: "track", role: "img", "aria-label": words },
      part("bound", "width", bound),
      part("measured", "width", wrong),
      part("budget", "left", budget),
    ),
    el(
      "p",
      { class: "legend small", "aria-hidden": "true" },
      el("span", { class: "key measured" }, `measured ${percent(wrong)}`),
      el("span", { class: "key bound" }, `at most ${percent(bound)}`),
      el("span", { class: "key budget" }, `budget ${percent(budget)}`),
    ),
  );
}

/** Whether audits prove the budget, in words. */
export function provenWords(pool) {
  if (!pool.audits) return "";
  if (pool.proven_in_service) return "Proven in service: the bound is within the budget.";
  return "Not proven in service: the bound is above the budget. Few audits alone make it so; it falls as audits come in.";
}
