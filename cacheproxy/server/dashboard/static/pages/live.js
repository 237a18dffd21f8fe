// Requests as they finish, each with why it came out so.

import { get } from "../lib/api.js";
import { announce, el, fill } from "../lib/dom.js";
import { entryLink, explain } from "../lib/explain.js";
import { count, duration, similarity, time, usd } from "../lib/format.js";
import { badge, button, card, empty, field, figures, pageHead } from "../lib/parts.js";
import { reasonMeans } from "../lib/reasons.js";
import { row, scrolled, table } from "../lib/table.js";
import { doing } from "../lib/work.js";

const KEPT = 200;
const SHOWN = [
  ["", "every request"],
  ["exact", "exact hits"],
  ["semantic", "semantic hits"],
  ["coalesced", "coalesced"],
  ["none", "forwarded"],
];
const HEAD = ["When", "Outcome", "Reason or entry", "Similarity#", "Took#", "Cost#", "Saved#", "Model", ""];
const KINDS = { exact: "info", semantic: "good", coalesced: "" };

export async function show(root, { signal, live }) {
  let requests = [];
  let paused = false;
  let missed = 0;
  const counters = el("div");
  const body = el("tbody", { id: "requests" });
  const place = el("div");
  const layer = el(
    "select",
    { id: "live-layer", on: { change: () => draw() } },
    SHOWN.map(([value, label]) => el("option", { value }, label)),
  );
  const reason = el("input", {
    id: "live-reason",
    type: "search",
    placeholder: "guard, below-threshold …",
    autocomplete: "off",
    on: { input: () => draw() },
  });
  const pause = button(
    "Pause",
    () => {
      paused = !paused;
      pause.textContent = paused ? "Go on" : "Pause";
      pause.setAttribute("aria-pressed", String(paused));
      announce(paused ? "Paused" : "Going on");
      if (!paused) draw();
    },
    { "aria-pressed": "false" },
  );

  const fits = (request) =>
    (!layer.value || (request.layer ?? "none") === layer.value) &&
    (!reason.value.trim() || (request.reason ?? "").includes(reason.value.trim().toLowerCase()));
  const shown = table(HEAD, body, { caption: "Recent requests" });

  function draw(fresh = 0) {
    const fitting = requests.filter(fits);
    if (!fitting.length)
      fill(
        place,
        requests.length
          ? empty("No recent request is like that", "Choose others, or wait.")
          : empty(
              "No request yet",
              "Send one through the proxy: it shows up here at once.",
              "curl http://127.0.0.1:8090/v1/chat/completions …",
            ),
      );
    else if (!shown.isConnected) fill(place, scrolled("Recent requests", shown));
    fill(
      body,
      fitting.map((request, position) => requestRow(request, position < fresh)),
    );
  }

  root.append(
    pageHead(
      "Live",
      "Requests as they finish. Their text is not kept; what the semantic layer decided on can be explained.",
      pause,
    ),
    counters,
    card("", {}, el("div", { class: "fields" }, field("Show", layer), field("Reason contains", reason))),
    card("", {}, place),
  );
  requests = (await get("requests", { query: { limit: KEPT }, signal })).requests;
  draw();

  live.on(({ type, data }) => {
    if (type === "tick") fill(counters, counted(data, missed));
    if (type !== "requests") return;
    missed += data.left_out;
    const known = requests[0]?.number ?? -1;
    const fresh = data.requests.filter(({ number }) => number > known).reverse();
    requests = [...fresh, ...requests].slice(0, KEPT);
    // A table that moves under somebody's hand or focus is no help.
    if (!paused && !body.contains(document.activeElement)) draw(fresh.filter(fits).length);
  }, signal);
}

function counted(tick, missed) {
  const hits = Object.values(tick.hits).reduce((sum, each) => sum + each, 0);
  return figures([
    {
      id: "live-rate",
      name: "Requests per second",
      value: tick.requests_per_s.toFixed(1),
      under: missed ? `${count(missed)} came too fast to be listed` : "over the last second",
    },
    { id: "live-requests", name: "Requests", value: count(tick.requests), under: "since the start" },
    {
      id: "live-hits",
      name: "Hits",
      value: count(hits),
      under: `${count(tick.hits.exact ?? 0)} exact, ${count(tick.hits.semantic ?? 0)} semantic, ${count(tick.hits.coalesced ?? 0)} coalesced`,
    },
    {
      id: "live-net",
      name: "Saved, net of checks",
      value: usd(tick.saved_usd - tick.checks_usd),
      under: `${usd(tick.cost_usd)} spent on answers`,
    },
  ]);
}

function requestRow(request, fresh) {
  const failed = request.http_status >= 400;
  const words = failed ? `${request.status} ${request.http_status}` : request.status;
  const cells = [
    time(request.at),
    request.layer ? badge(request.layer, KINDS[request.layer]) : badge(words, failed ? "bad" : ""),
    request.reason
      ? el("code", { title: reasonMeans(request.reason) }, request.reason)
      : request.entry && entryLink(request.entry, "entry"),
    request.similarity === null ? "" : similarity(request.similarity),
    duration(request.duration_ms),
    request.cost_usd ? usd(request.cost_usd) : "",
    request.saved_usd ? usd(request.saved_usd) : "",
    request.model,
    button(
      "Explain",
      doing(() => explain(request.request_id, request)),
      { kind: "quiet", "aria-label": `Explain the request at ${time(request.at)}` },
    ),
  ];
  return row(HEAD, cells, {
    class: fresh ? "fresh" : null,
    data: { request: request.request_id, number: request.number },
  });
}
