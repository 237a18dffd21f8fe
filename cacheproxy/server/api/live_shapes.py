"""What goes on at the moment, as the API tells it: recent requests, events, health, settings."""

from typing import Annotated, Any, Literal

from pydantic import Field

from cacheproxy.server.api.shapes import Asked, Told


class RequestsAsked(Asked):
    """Which of the recent requests."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    layer: Literal["exact", "semantic", "coalesced", "none"] | None = None
    """Answered by this layer, or by none."""
    reason: Annotated[str, Field(max_length=100)] = ""
    """Not answered from the cache for this reason."""
    model: Annotated[str, Field(max_length=1000)] = ""


class RequestTold(Told):
    """A finished request. Its text is not kept."""

    number: int
    """Counts the requests of this process."""
    request_id: str
    """For ``explain``; empty where the semantic layer was not asked."""
    at: float
    dialect: str
    upstream: str
    tenant: str
    model: str
    http_status: int
    status: Literal["Hit", "Miss", "Bypass", "Refresh"]
    layer: Literal["exact", "semantic", "coalesced"] | None
    reason: str | None
    entry: str
    """That was served; empty on a miss."""
    similarity: float | None
    duration_ms: float
    upstream_ms: float | None
    cost_usd: float
    saved_usd: float
    input_tokens: int
    output_tokens: int


class Requests(Told):
    """The latest first."""

    requests: list[RequestTold]
    kept: int
    """How many are remembered."""


class RequestsEvent(Told):
    """Data of the event ``requests``: what finished since the last one, the oldest first."""

    requests: list[RequestTold]
    left_out: int
    """Finished too, but too many to tell: the latest are told."""


class TickEvent(Told):
    """Data of the event ``tick``, once a second: the counters of this process."""

    at: float
    requests: int
    hits: dict[str, int]
    """By layer."""
    bypassed: int
    cost_usd: float
    saved_usd: float
    checks_usd: float
    audits: int
    wrong_audits: int
    requests_per_s: float
    """Over the last second or so."""


class EventStream(Told):
    """What may come in ``/api/v1/events``: each event's name, with the shape of its data."""

    requests: RequestsEvent
    tick: TickEvent


class QueueTold(Told):
    """Something that waits."""

    waiting: int
    limit: int | None


class StoreTold(Told):
    """The store."""

    where: str
    entries: int
    max_entries: int
    max_bytes: int
    memory_bytes: int
    """Of the answers that are kept in memory."""
    memory_entries: int


class IndexTold(Told):
    """The vector index."""

    vectors: int | None
    """Null where another process has it."""
    scopes: int | None
    model: str | None
    """The embedding model; null without one."""
    dimension: int | None
    why_none: str
    """Why there is no embedding model; empty with one."""


class DeviceTold(Told):
    """Where the embedding model runs."""

    name: str
    """cpu, cuda:0 ...; empty without a model here."""
    gpu: str | None
    """What the GPU calls itself."""
    memory_used_bytes: int | None
    memory_total_bytes: int | None


class Health(Told):
    """The state of the process."""

    ready: bool
    version: str
    started_at: float
    uptime_s: float
    mode: str
    policy: str
    breakers: dict[str, Literal["closed", "half_open", "open"]]
    """By port."""
    queues: dict[str, QueueTold]
    """By name: ``embedder``, ``upstream``, ``events``."""
    store: StoreTold
    index: IndexTold
    device: DeviceTold
    scope_churn: float
    """Share of the latest misses whose scope was never seen before."""
    memory_bytes: int
    """The most that the process has had resident."""
    versions: dict[str, str]
    """Of Python and the libraries that matter."""


class SettingsTold(Told):
    """Every setting in force, by its name. Secrets are masked."""

    settings: dict[str, Any]
