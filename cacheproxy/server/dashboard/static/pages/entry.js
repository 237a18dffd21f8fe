// One entry: what was asked, what is answered, what it is worth, what was said of it, and what can be done.

import { ApiError, get } from "../lib/api.js";
import { el, fill } from "../lib/dom.js";
import { drop, expire, markRight, markWrong, pin, unpin } from "../lib/entry_actions.js";
import { entryLink, verdictBadge } from "../lib/explain.js";
import { away, bytes, count, duration, shortened, similarity, time, usd } from "../lib/format.js";
import { button, callout, card, empty, facts, figures, pageHead } from "../lib/parts.js";
import { reasonMeans } from "../lib/reasons.js";
import { scrolled, table } from "../lib/table.js";
import { entryBadges } from "./entries.js";
import { doing } from "../lib/work.js";

const LIST = "#/entries";

export async function show(root, { signal, id }) {
  const path = `entries/${encodeURIComponent(id)}`;
  async function refresh() {
    try {
      const [entry, { decisions }] = await Promise.all([
        get(path, { signal }),
        get("explain", { query: { entry: id, limit: 20 }, signal }),
      ]);
      fill(root, page(entry, decisions, refresh));
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
      fill(
        root,
        pageHead("Entry", ""),
        card(
          "",
          {},
          empty("There is no such entry", "It expired, was evicted, or was purged."),
          el("p", {}, el("a", { href: LIST }, "All entries")),
        ),
      );
    }
  }
  await refresh();
}

function page(entry, decisions, refresh) {
  const act = (work) =>
    doing(async () => {
      if ((await work(entry.id)) === false) return;
      await refresh();
      document.getElementById("main").focus({ preventScroll: true }); // the button that was clicked is gone
    });
  const dropped = doing(async () => (await drop(entry.id)) && (location.hash = LIST));
  return [
    el("p", {}, el("a", { href: LIST }, "All entries")),
    pageHead(
      "Entry",
      [el("span", { class: "mono break" }, entry.id), " ", entryBadges(entry)],
      el(
        "div",
        { class: "row" },
        entry.suspended
          ? button("Mark right after all", act(markRight))
          : button("Mark wrong", act(markWrong), { kind: "danger" }),
        entry.pinned ? button("Unpin", act(unpin)) : button("Pin", act(pin)),
        button("Expire now", act(expire)),
        button("Delete", dropped, { kind: "danger" }),
      ),
    ),
    entry.suspended &&
      callout(
        "bad",
        "Withdrawn: it is served to nobody",
        el("p", { class: "break" }, entry.verdicts.note || "No reason was given."),
      ),
    worth(entry),
    el(
      "div",
      { class: "cols two" },
      card(
        "Question",
        {},
        el("pre", { class: "said", tabindex: "0", id: "question" }, entry.prompt || "(none of plain text)"),
        aliases(entry),
      ),
      answer(entry),
    ),
    el(
      "div",
      { class: "cols two" },
      card("What was said of it", {}, said(entry)),
      card("Where it stands", {}, where(entry)),
    ),
    card(
      "Decisions about it",
      { note: "The latest requests that were answered with it, or had it before them." },
      decided(decisions),
    ),
  ];
}

function worth(entry) {
  return figures([
    {
      id: "entry-hits",
      name: "Hits",
      value: count(entry.hits),
      under: entry.hits ? `last ${away(entry.last_used)}` : "not served yet",
    },
    { id: "entry-saved", name: "Saved", value: usd(entry.saved_usd), under: `${usd(entry.cost_usd)} a hit` },
    {
      name: "The upstream took",
      value: duration(entry.latency_ms),
      under: `${count(entry.usage.input_tokens)} tokens in, ${count(entry.usage.output_tokens)} out${entry.usage.estimated ? ", estimated" : ""}`,
    },
    {
      name: "Expires",
      value: entry.pinned ? "never" : away(entry.expires_at),
      under: `stored ${away(entry.created_at)}`,
    },
  ]);
}

function answer(entry) {
  const raw = el(
    "details",
    {},
    el("summary", {}, "As it is stored (JSON)"),
    el("pre", { class: "said mono", tabindex: "0" }, JSON.stringify(entry.answer, null, 2)),
  );
  return card(
    "Answer",
    {},
    el("pre", { class: "said", tabindex: "0", id: "answer" }, entry.answer_text || "(no plain text)"),
    raw,
  );
}

function aliases(entry) {
  if (!entry.aliases.length) return null;
  const rows = entry.aliases.map((alias) => [
    entryLink(alias.id, shortened(alias.prompt) || alias.id),
    count(alias.hits),
    away(alias.created_at),
  ]);
  return el(
    "div",
    {},
    el("h3", {}, "Judged to have the same answer"),
    scrolled(
      "Questions with the same answer",
      table(["Question", "Hits#", "Stored"], rows, { caption: "Questions with the same answer" }),
    ),
  );
}

function said({ verdicts }) {
  return facts([
    ["Right", el("span", { class: "num" }, count(verdicts.right))],
    ["Wrong", el("span", { class: "num" }, count(verdicts.wrong))],
    ["Blocked pairs", `${count(verdicts.blocked_pairs)}: requests that are never answered from its group`],
    ["Served", verdicts.suspended ? "to nobody" : "yes"],
    ["What counts", "Verdicts on its group of questions, as far as they are remembered."],
  ]);
}

function where(entry) {
  const all = (name, value, filter) => [
    name,
    value ? el("a", { class: "mono break", href: `#/entries?${filter}=${encodeURIComponent(value)}` }, value) : "none",
  ];
  return facts([
    all("Model", entry.model, "model"),
    ["Upstream", entry.upstream],
    ["API", entry.dialect],
    all("Tenant", entry.tenant, "tenant"),
    all("Namespace", entry.namespace, "namespace"),
    all("Scope", entry.scope, "scope"),
    ["Key", el("span", { class: "mono break" }, entry.key)],
    ["Root", entry.root ? entryLink(entry.root) : "never compared"],
    ["Size", bytes(entry.size)],
  ]);
}

function decided(decisions) {
  if (!decisions.length)
    return empty(
      "No decision is remembered",
      "Exact hits need none. Those of the semantic layer are kept while they are recent.",
    );
  const rows = decisions.map((decision) => [
    time(decision.at),
    el("span", { class: "break" }, shortened(decision.prompt)),
    decision.outcome === "hit"
      ? `served (${decision.stage})`
      : [el("code", {}, decision.reason), " ", reasonMeans(decision.reason)],
    decision.candidate ? similarity(decision.candidate.similarity) : "",
    decision.verdict ? verdictBadge(decision.verdict) : "",
  ]);
  return scrolled(
    "Decisions about this entry",
    table(["When", "Question", "Outcome", "Similarity#", "Verdict"], rows, { caption: "Decisions about this entry" }),
  );
}
