// What is stored: search by text or by meaning, filters, purge with a preview, export and import.

import { get, pathOf } from "../lib/api.js";
import { announce, el, fill } from "../lib/dom.js";
import { entryLink } from "../lib/explain.js";
import { away, count, shortened, similarity, usd } from "../lib/format.js";
import { badge, button, card, empty, field, pageHead } from "../lib/parts.js";
import { row, scrolled, table } from "../lib/table.js";
import { exportEntries, importEntries, purge } from "../lib/transfer.js";
import { doing, unattended } from "../lib/work.js";

const LIST = "#/entries";
const PAGE = 50;
const HEAD = ["Question", "", "Hits#", "Saved#", "Model", "Stored", "Expires"];
const FILTERS = [
  ["tag", "Tag"],
  ["namespace", "Namespace"],
  ["model", "Model"],
  ["tenant", "Tenant"],
  ["scope", "Scope starts with"],
];

export async function show(root, { signal, query }) {
  const inputs = new Map(
    [
      ["search", query.get("meaning") ?? query.get("text") ?? ""],
      ...FILTERS.map(([name]) => [name, query.get(name) ?? ""]),
    ].map(([name, value]) => [
      name,
      el("input", {
        id: `entries-${name}`,
        name,
        value,
        type: name === "search" ? "search" : "text",
        autocomplete: "off",
        spellcheck: "false",
      }),
    ]),
  );
  const how = el(
    "select",
    { id: "entries-how", name: "how" },
    el("option", { value: "text" }, "contains the text"),
    el("option", { value: "meaning" }, "is near in meaning"),
  );
  how.value = query.has("meaning") ? "meaning" : "text";
  const older = el("input", {
    id: "entries-older",
    name: "older_than",
    type: "datetime-local",
    value: query.get("older") ?? "",
  });
  const list = el("div", { id: "entry-list" });
  const rows = el("tbody");
  const more = button(
    "Show more",
    doing(() => read(true)),
  );
  let next = null;

  const given = (name) => inputs.get(name).value.trim();
  const near = () => (how.value === "meaning" ? given("search") : "");
  // The filters and the text select entries, for a purge and an export too.
  const conditions = () => ({
    ...Object.fromEntries(FILTERS.map(([name]) => [name, given(name)]).filter(([, value]) => value)),
    ...(how.value === "text" && given("search") ? { text: given("search") } : {}),
    ...(older.value ? { older_than: new Date(older.value).getTime() / 1000 } : {}),
  });
  const asked = () => ({
    ...conditions(),
    ...(near() ? { meaning: near() } : {}),
  });

  async function read(onward) {
    const told = await get("entries", { query: { ...asked(), limit: PAGE, after: onward ? next : "" }, signal });
    next = told.next;
    more.hidden = next === null;
    if (onward) rows.append(...told.entries.map(entryRow));
    else showFirst(told);
    announce(`${count(rows.children.length)} entries shown`);
  }

  function showFirst({ entries, stored }) {
    fill(rows, entries.map(entryRow));
    const filtered = Object.keys(asked()).length > 0;
    if (!entries.length) fill(list, nothing(stored, filtered));
    else {
      const shown = table(near() ? [...HEAD, "Similarity#"] : HEAD, rows, { caption: "Entries" });
      fill(
        list,
        el(
          "p",
          { class: "note", id: "stored" },
          `${count(stored)} entries stored${filtered ? "; these meet the conditions" : ""}.`,
        ),
        scrolled("Entries", shown),
        more,
      );
    }
  }

  const search = doing(async () => {
    const { older_than: _, ...kept } = asked();
    history.replaceState(null, "", pathOf(LIST, { ...kept, older: older.value }));
    await read();
  });
  // Nearness selects nothing by itself, so what goes then is what is listed.
  const selected = () => (near() ? { ...conditions(), ids: shownIds() } : conditions());
  const shownIds = () => [...rows.children].map((each) => each.dataset.entry);
  const exported = () => {
    if (near()) throw new Error("An export selects by text and filters: nearness in meaning selects nothing.");
    return exportEntries(conditions());
  };
  const clear = () => {
    if (location.hash !== LIST)
      location.hash = LIST; // reads the page anew
    else {
      form.reset();
      unattended(() => read(), signal);
    }
  };
  const form = el(
    "form",
    {
      role: "search",
      "aria-label": "Entries",
      on: {
        submit: (event) => {
          event.preventDefault();
          search({ currentTarget: form.querySelector("button.primary") });
        },
      },
    },
    el("div", { class: "fields search" }, field("Search", inputs.get("search")), field("The question", how)),
    el(
      "div",
      { class: "fields" },
      FILTERS.map(([name, label]) => field(label, inputs.get(name))),
      field("Stored before", older),
    ),
    el(
      "div",
      { class: "actions" },
      el("button", { type: "submit", class: "primary" }, "Search"),
      button("Clear", clear),
    ),
  );
  root.append(
    pageHead(
      "Entries",
      "The answers that are stored, and what they are worth.",
      el(
        "div",
        { class: "row" },
        button(
          "Import",
          doing(async () => (await importEntries()) && read()),
        ),
        button("Export these", doing(exported)),
        button(
          "Purge these",
          doing(async () => (await purge(selected())) && read()),
          { kind: "danger" },
        ),
      ),
    ),
    card("", {}, form),
    card("", {}, list),
  );
  await read();
}

function nothing(stored, filtered) {
  if (filtered && stored)
    return empty(
      "No entry meets these conditions",
      "Take one away, or search by meaning: it finds questions that are worded otherwise.",
    );
  return empty(
    "Nothing is stored yet",
    "Send a request through the proxy: a complete answer is stored, and the same request again is a hit.",
    "curl http://127.0.0.1:8090/v1/chat/completions …",
  );
}

function entryRow(entry) {
  const cells = [
    el("div", { class: "prompt" }, entryLink(entry.id, shortened(entry.prompt) || "(no question of plain text)")),
    entryBadges(entry),
    count(entry.hits),
    usd(entry.saved_usd),
    entry.model,
    away(entry.created_at),
    entry.pinned ? "never" : away(entry.expires_at),
  ];
  if (entry.similarity === null) return row(HEAD, cells, { data: { entry: entry.id } });
  return row([...HEAD, "Similarity#"], [...cells, similarity(entry.similarity)], { data: { entry: entry.id } });
}

/** What is out of the ordinary about an entry. */
export function entryBadges(entry) {
  return el(
    "span",
    { class: "row" },
    entry.suspended && badge("withdrawn", "bad"),
    entry.pinned && badge("pinned", "info"),
    entry.expired && badge("expired", "warn"),
    !entry.semantic && badge("exact only"),
    entry.tags.map((tag) => badge(tag)),
  );
}
