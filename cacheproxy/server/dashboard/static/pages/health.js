// Is every part well: breakers, queues, the store, the index, the device, and which versions run.

import { get } from "../lib/api.js";
import { el, fill } from "../lib/dom.js";
import { bytes, count, duration, percent, time } from "../lib/format.js";
import { badge, callout, card, facts, figures, pageHead } from "../lib/parts.js";
import { scrolled, table } from "../lib/table.js";
import { paced } from "../lib/work.js";

const FRESH_MS = 2000;
const BREAKERS = {
  closed: ["good", "works", "Calls go through."],
  half_open: ["warn", "trying again", "It failed lately; some calls try whether it is back."],
  open: ["bad", "does not answer", "Calls are left out, and requests go on without it."],
};

export async function show(root, { signal, live }) {
  const body = el("div", { class: "stack" });
  const settings = el("div");
  const several = el("p", { class: "note", id: "several", hidden: true });
  async function refresh() {
    fill(body, page(await get("health", { signal })));
  }
  root.append(
    pageHead("Health", "Whether every part is well, and which settings are in force."),
    several,
    body,
    card("Settings in force", { note: "Secrets are masked. Where each comes from: cacheproxy config show." }, settings),
  );
  await Promise.all([
    refresh(),
    get("settings", { signal }).then((told) => {
      fill(settings, settingTable(told.settings));
      several.hidden = told.settings.workers === 1;
      fill(several, `One of ${count(told.settings.workers)} workers tells this. /metrics tells of all of them.`);
    }),
  ]);
  const soon = paced(refresh, FRESH_MS, signal);
  live.on(({ type }) => type === "tick" && soon(), signal);
}

function page(health) {
  const open = Object.values(health.breakers).filter((state) => state !== "closed").length;
  const verdict =
    open || !health.ready
      ? callout(
          health.ready ? "warn" : "bad",
          health.ready ? "It serves, with a part missing" : "It takes no traffic",
          el("p", {}, "A broken part makes the cache slower, never wrong: what it cannot answer is forwarded."),
        )
      : callout("good", "Everything works");
  return [
    verdict,
    figures([
      {
        id: "uptime",
        name: "Up for",
        value: duration(health.uptime_s * 1000),
        under: `since ${time(health.started_at)}`,
      },
      { id: "mode", name: "Mode", value: health.mode, under: `policy ${health.policy}` },
      {
        id: "entries",
        name: "Entries",
        value: count(health.store.entries),
        under: `of at most ${count(health.store.max_entries)}, ${bytes(health.store.max_bytes)}`,
      },
      {
        name: "Memory",
        value: bytes(health.memory_bytes),
        under: `${count(health.store.memory_entries)} answers in ${bytes(health.store.memory_bytes)} of it`,
      },
      {
        name: "Scope churn",
        value: percent(health.scope_churn),
        under: "of the latest misses came with a scope that was never seen before",
      },
    ]),
    el(
      "div",
      { class: "cols two" },
      card("Parts", { note: "Each has a breaker, which stops calls that would only wait." }, breakers(health.breakers)),
      card("Queues", { note: "What waits at this moment." }, queues(health.queues)),
    ),
    el(
      "div",
      { class: "cols two" },
      card("Store and index", {}, stores(health)),
      card("Versions", {}, facts([["cacheproxy", health.version], ...Object.entries(health.versions)])),
    ),
  ];
}

function breakers(ports) {
  const rows = Object.entries(ports).map(([port, state]) => {
    const [kind, words, means] = BREAKERS[state] ?? ["", state, ""];
    return [port, badge(words, kind), el("span", { class: "soft" }, means)];
  });
  return scrolled("Parts", table(["Part", "State", "What it means"], rows, { caption: "Parts", id: "breakers" }));
}

function queues(list) {
  const rows = Object.entries(list).map(([name, { waiting, limit }]) => [
    name,
    count(waiting),
    limit === null ? "none" : count(limit),
  ]);
  return scrolled("Queues", table(["Queue", "Waiting#", "Limit#"], rows, { caption: "Queues", id: "queues" }));
}

function stores({ store, index, device }) {
  return facts([
    ["Store", el("span", { class: "mono break" }, store.where)],
    ["Vectors", `${count(index.vectors)}${index.scopes === null ? "" : ` in ${scopes(index.scopes)}`}`],
    [
      "Embedding model",
      index.model ? `${index.model}, ${count(index.dimension)} dimensions` : `none: ${index.why_none}`,
    ],
    ["Runs on", device.gpu ? `${device.name}: ${device.gpu}` : device.name || "nowhere here"],
    device.memory_total_bytes !== null && [
      "GPU memory",
      `${bytes(device.memory_used_bytes)} of ${bytes(device.memory_total_bytes)}`,
    ],
  ]);
}

function scopes(many) {
  return `${count(many)} ${many === 1 ? "scope" : "scopes"}`;
}

function settingTable(settings) {
  const rows = Object.entries(settings).map(([name, value]) => [
    el("code", {}, name),
    el("span", { class: "mono break" }, typeof value === "string" ? value : JSON.stringify(value)),
  ]);
  return scrolled("Settings", table(["Setting", "Value"], rows, { caption: "Settings in force", id: "settings" }));
}
