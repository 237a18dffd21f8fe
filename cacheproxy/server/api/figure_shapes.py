"""What was spent and saved, as the API tells it: statistics, the overview, economics."""

from typing import Annotated, Literal

from pydantic import Field

from cacheproxy.events import GROUPINGS
from cacheproxy.server.api.decision_shapes import PoolTold
from cacheproxy.server.api.shapes import Asked, Seconds, Told

Step = Literal["hour", "day"]
_GROUPS = "^(({0})(,({0}))*)?$".format("|".join(GROUPINGS))


class StatsAsked(Asked):
    """Which sums."""

    by: Annotated[str, Field(max_length=200, pattern=_GROUPS)] = ""
    """What to group by, with commas: model,layer. Empty: one sum of everything."""
    since: Seconds = 0
    """From the hour of this moment on."""
    until: Seconds | None = None
    """Up to this moment."""


class StatsRow(Told):
    """The sums of one group."""

    group: dict[str, str]
    requests: int
    cost_usd: float
    saved_usd: float
    input_tokens: int
    output_tokens: int
    saved_input_tokens: int
    saved_output_tokens: int
    saved_ms: float
    duration_ms: float
    upstream_ms: float
    """The part of ``duration_ms`` that upstreams took."""
    estimated: int
    """Requests whose tokens were estimated."""
    unpriced: int
    """Requests and checks that no price is known for; they count as 0 USD."""
    audit_usd: float
    judge_usd: float
    net_saved_usd: float
    """Savings less what checking them cost."""


class Stats(Told):
    """Sums by group."""

    by: list[str]
    rows: list[StatsRow]


class Hits(Told):
    """Hits by the layer that answered."""

    exact: int = 0
    semantic: int = 0
    coalesced: int = 0


class HitRates(Told):
    """Hits per request, 0..1, by layer."""

    exact: float
    semantic: float
    coalesced: float
    all: float


class Figures(Told):
    """What happened in some time."""

    requests: int
    hits: Hits
    bypassed: int
    """Requests that the cache was not asked about."""
    hit_rates: HitRates
    cost_usd: float
    """Paid to upstreams for answers."""
    saved_usd: float
    """What hits would have cost."""
    checks_usd: float
    """Paid for audits and judges."""
    net_saved_usd: float
    """``saved_usd`` less ``checks_usd``."""
    with_cache_usd: float
    """Everything that was spent: answers and checks."""
    without_cache_usd: float
    """What the same requests would have cost."""
    input_tokens: int
    """Bought."""
    output_tokens: int
    saved_input_tokens: int
    """Not bought."""
    saved_output_tokens: int
    saved_s: float
    """How long upstreams would have taken for what exact and semantic hits answered."""
    cache_s: float
    """How long the cache itself took, in hits and misses: looking up, embedding, deciding."""
    net_saved_s: float
    """``saved_s`` less ``cache_s``."""


class Point(Figures):
    """One hour or day of a series."""

    at: int
    """Its first second (UTC)."""


class Totals(Figures):
    """The sums of a series."""

    audit_usd: float
    judge_usd: float
    estimated: int
    """Requests whose tokens were estimated."""
    unpriced: int
    """Requests and checks without a known price."""


class Latency(Told):
    """How long answers took. The mean is of the whole period, the percentiles of the latest requests."""

    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    latest: int
    """How many requests the percentiles are of."""


class OverviewAsked(Asked):
    """Which time, and how fine."""

    since: Seconds | None = None
    """From the hour of this moment on; absent: from the first that is booked."""
    until: Seconds | None = None
    """Up to this moment; absent: now."""
    step: Step | None = None
    """How long a point is; absent: an hour up to eight days, a day beyond."""


class Overview(Told):
    """The overview page."""

    since: int
    until: float
    step: Step
    points: list[Point]
    """Every hour or day of the time, without gaps."""
    totals: Totals
    hit_latency: Latency
    miss_latency: Latency
    pools: list[PoolTold]
    """What is promised of hits on similar questions, pool by pool."""
    entries: int
    """Stored now."""


class EconomicsAsked(Asked):
    """Which time, and how much of it."""

    since: Seconds | None = None
    """From the hour of this moment on; absent: everything."""
    until: Seconds | None = None
    """Up to this moment; absent: now."""
    top: Annotated[int, Field(ge=1, le=100)] = 10
    """Models and tenants to name; the rest is one row."""


class WithAndWithout(Told):
    """One figure with the cache and without it; null where nothing is known."""

    with_cache: float | None
    without_cache: float | None


class SpendRow(Told):
    """What one model or tenant cost."""

    name: str | None
    """Null for the sum of those that are not named."""
    requests: int
    hit_rate: float
    with_cache_usd: float
    without_cache_usd: float
    net_saved_usd: float
    usd_per_request: WithAndWithout
    usd_per_mtok: WithAndWithout


class Margin(Told):
    """What remains of the revenue."""

    revenue_per_request_usd: float
    revenue_usd: float
    gross_margin: WithAndWithout
    """(revenue - spent) / revenue."""


class Forecast(Told):
    """What 30 days like the latest ones come to."""

    since: float
    """Where the days that it rests on begin."""
    until: float
    days: float
    """How many days it rests on: at most 7."""
    requests: float
    with_cache_usd: float
    without_cache_usd: float
    net_saved_usd: float
    net_saved_s: float
    how: str
    """In words, for people."""


class Span(Told):
    """From the lowest to the highest."""

    low: float
    high: float


class TierTold(Told):
    """The forecast month, had a model of this tier answered."""

    name: str
    input_usd_per_mtok: Span
    output_usd_per_mtok: Span
    latency_s: Span
    without_cache_usd: Span
    with_cache_usd: Span
    """What is bought now at this tier's prices; checks stay as they are."""
    saved_usd: Span
    saved_s: Span


class Economics(Told):
    """The economics page."""

    since: float
    until: float
    totals: Totals
    usd_per_request: WithAndWithout
    usd_per_mtok: WithAndWithout
    """Blended: input and output together, those of hits included."""
    models: list[SpendRow]
    """The most expensive first, the rest last."""
    tenants: list[SpendRow]
    margin: Margin | None
    """Null unless ``economics.revenue_per_request_usd`` is set."""
    forecast: Forecast | None
    """Null before the first request."""
    tiers: list[TierTold]
    """As ``economics.tiers`` is set; empty before the first request."""
