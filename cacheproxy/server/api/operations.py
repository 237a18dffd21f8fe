"""The one table of what the admin API does. Routes and the OpenAPI document are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cacheproxy.server.api import decision_shapes as decision
from cacheproxy.server.api import entry_shapes as entries
from cacheproxy.server.api import figure_shapes as figures
from cacheproxy.server.api import live_shapes as live

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cacheproxy.server.api.shapes import Asked, Told

BASE: Final = "/api/v1"
JSON: Final = "application/json"
JSON_LINES: Final = "application/x-ndjson"
EVENTS: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. ``name`` is that of the handler, and unique."""

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    """Behind ``BASE``."""
    summary: str
    answer: type[Told] | None
    """None: any JSON, or no JSON (see ``answers_in``)."""
    query: type[Asked] | None = None
    body: type[Asked] | None = None
    takes: str = JSON
    """The content type of its body."""
    answers_in: str = JSON
    errors: Mapping[int, str] | None = None
    """What may go wrong beyond what may everywhere."""
    cached: bool = False
    """Whether its answer has an ETag."""


_NO_ENTRY: Final = {404: "There is no such entry."}
_NO_POOL: Final = {404: "There is no such pool."}
_EVERYTHING: Final = {409: "That is every entry, and it was not said that every entry is meant."}

OPERATIONS: Final = (
    Operation(
        "overview",
        "GET",
        "/overview",
        "Traffic, savings, latency and the promise over time",
        figures.Overview,
        figures.OverviewAsked,
    ),
    Operation("stats", "GET", "/stats", "Sums of the ledger, grouped as asked", figures.Stats, figures.StatsAsked),
    Operation(
        "economics",
        "GET",
        "/economics",
        "Cost per request, margin, forecast, what-if by model tier",
        figures.Economics,
        figures.EconomicsAsked,
    ),
    Operation("decision", "GET", "/decision", "What each pool promises and how it fares", decision.DecisionTold),
    Operation(
        "labels",
        "GET",
        "/decision/labels",
        "Histograms of recorded labels",
        decision.LabelsTold,
        decision.LabelsAsked,
        errors=_NO_POOL,
    ),
    Operation(
        "curve",
        "GET",
        "/decision/curve",
        "Hit rate against error, threshold by threshold",
        decision.Curve,
        decision.CurveAsked,
        errors=_NO_POOL,
    ),
    Operation(
        "near_misses",
        "GET",
        "/decision/near-misses",
        "The likeliest candidates that were not served",
        decision.NearMisses,
        decision.NearMissesAsked,
    ),
    Operation("audits", "GET", "/audits", "The latest checks of cached answers", decision.Audits, decision.AuditsAsked),
    Operation(
        "explain",
        "GET",
        "/explain",
        "Why requests hit or missed",
        decision.Explained,
        decision.ExplainAsked,
        errors={404: "No decision is remembered for the request."},
    ),
    Operation(
        "feedback",
        "POST",
        "/feedback",
        "Say that an answer is wrong, or right after all",
        decision.FeedbackTaken,
        body=decision.FeedbackAsked,
        errors=_NO_ENTRY,
    ),
    Operation(
        "entries",
        "GET",
        "/entries",
        "Entries, by text, meaning and other conditions",
        entries.EntryList,
        entries.EntriesAsked,
    ),
    Operation("entry", "GET", "/entries/{id}", "One entry, whole", entries.EntryTold, errors=_NO_ENTRY, cached=True),
    Operation("remove", "DELETE", "/entries/{id}", "Remove an entry", entries.Removed, errors=_NO_ENTRY),
    Operation(
        "expiry",
        "POST",
        "/entries/{id}/expiry",
        "Pin an entry, or say when it expires",
        entries.ExpiryTold,
        body=entries.ExpiryAsked,
        errors=_NO_ENTRY,
    ),
    Operation(
        "purge",
        "POST",
        "/purge",
        "Remove entries, or tell which would go",
        entries.PurgeTold,
        body=entries.PurgeAsked,
        errors=_EVERYTHING,
    ),
    Operation(
        "export",
        "GET",
        "/export",
        "Entries as JSON lines, to keep or to import elsewhere",
        None,
        entries.ExportAsked,
        answers_in=JSON_LINES,
    ),
    Operation("import", "POST", "/import", "Store the entries of an export", entries.ImportTold, takes=JSON_LINES),
    Operation("requests", "GET", "/requests", "The latest requests", live.Requests, live.RequestsAsked),
    Operation(
        "events",
        "GET",
        "/events",
        "Requests as they finish, and counters, as server-sent events",
        live.EventStream,
        answers_in=EVENTS,
        errors={503: "Too many are listening."},
    ),
    Operation("health", "GET", "/health", "Breakers, queues, store, index, device, versions", live.Health),
    Operation("settings", "GET", "/settings", "Every setting in force, secrets masked", live.SettingsTold, cached=True),
    Operation("openapi", "GET", "/openapi.json", "This document", None, cached=True),
)
