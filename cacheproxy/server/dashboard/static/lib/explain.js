// Why a request hit or missed, in a dialog: what was near, how near, what objected, and what it had to reach.

import { ApiError, get } from "./api.js";
import { ask } from "./dialog.js";
import { el } from "./dom.js";
import { percent, shortened, similarity, time } from "./format.js";
import { badge, facts } from "./parts.js";
import { layerMeans, reasonMeans } from "./reasons.js";
import { scrolled, table } from "./table.js";

const VERDICTS = {
  right: ["good", "judged right"],
  wrong: ["bad", "judged wrong"],
  unknown: ["", "no judge could tell"],
};
const CLOSE = [{ label: "Close", value: "close" }];

/** A verdict as a badge. */
export function verdictBadge(verdict) {
  const [kind, words] = VERDICTS[verdict] ?? ["", verdict];
  return badge(words, kind);
}

/** A link to an entry's page. */
export function entryLink(id, text = id) {
  return el("a", { href: `#/entries/${encodeURIComponent(id)}`, class: text === id ? "mono break" : "break" }, text);
}

/** Open the dialog on one request; `request` is what is known of it already, if anything is. */
export async function explain(requestId, request = null) {
  let decision = null;
  if (requestId) {
    try {
      decision = (await get("explain", { query: { request: requestId } })).decisions[0];
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }
  const body = [
    request && requestFacts(request),
    decision ? decisionBody(decision) : el("p", { class: "note" }, without(request)),
  ];
  return ask({ title: "Why it came out so", body, actions: CLOSE, onOpen: leaveOnLink });
}

// A link out of the dialog leads to a page, so the dialog has to go.
function leaveOnLink(dialog) {
  dialog.classList.add("wide");
  dialog.addEventListener("click", (event) => event.target.closest("a") && dialog.close());
}

function without(request) {
  if (request?.layer) return layerMeans(request.layer);
  return "The semantic layer was not asked about this request, or it is too long ago: the latest decisions are kept.";
}

function requestFacts(request) {
  return facts([
    ["Outcome", request.layer ? `${request.status} by the ${request.layer} layer` : request.status],
    request.reason && ["Reason", [el("code", {}, request.reason), " ", reasonMeans(request.reason)]],
    request.entry && ["Entry", entryLink(request.entry)],
    ["Model", request.model || "none named"],
  ]);
}

function decisionBody(decision) {
  const { candidate } = decision;
  return [
    el("h3", {}, "The question"),
    el("pre", { class: "said", tabindex: "0" }, decision.prompt),
    facts([
      [
        "Decided",
        decision.outcome === "hit"
          ? ["served ", decision.entry ? entryLink(decision.entry) : "", ` as ${decision.stage}`]
          : [el("code", {}, decision.reason), " ", reasonMeans(decision.reason)],
      ],
      candidate && [
        "Chance to be right",
        `${percent(candidate.p)}${candidate.lambda === null ? "; nothing is served by chance yet" : `, served from ${percent(1 / (1 + Math.exp(-candidate.lambda)))} on`}`,
      ],
      candidate && ["Similarity", similarity(candidate.similarity)],
      decision.verdict && ["Verdict", verdictBadge(decision.verdict)],
      decision.audited && ["Audited", "yes: the upstream was asked again, by a coin"],
      ["Pool", decision.pool],
      ["Request", el("span", { class: "mono break" }, decision.request_id)],
      ["When", time(decision.at)],
    ]),
    el("h3", {}, "The nearest questions"),
    decision.nearest.length ? nearest(decision.nearest) : el("p", { class: "note" }, "There was none."),
  ];
}

function nearest(list) {
  const rows = list.map((near) => [
    entryLink(near.entry, shortened(near.prompt, 160) || near.entry),
    similarity(near.similarity),
    near.guards.length ? near.guards.map((guard) => badge(guard, "warn")) : el("span", { class: "soft" }, "none"),
  ]);
  return scrolled(
    "The nearest questions",
    table(["Question", "Similarity#", "Guards that object"], rows, { caption: "The nearest questions" }),
  );
}
