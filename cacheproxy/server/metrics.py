"""Prometheus metrics: what was served, what it cost and saved, and how the ports fare. Labels are bounded."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from cacheproxy.core.pool import Stage
from cacheproxy.model import NO_USAGE, Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from cacheproxy.flow.pools import LivePool
    from cacheproxy.model import Audited, Served

M = TypeVar("M", Counter, Histogram)

MAX_MODELS: Final = 100
"""Model names come from callers: past this many they share the label ``other``."""
MAX_POOLS: Final = 100
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SIMILARITIES: Final = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.0)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_AT_ONCE: Final = 64
"""Finished requests are counted so many at a time, for less than half of what each costs alone: most have their labels
in common, and in a row they find the code where other work has not yet driven it out of the processor's caches."""


class Metrics:
    """An observer of requests and a watch over the ports; ``render`` gives the text that Prometheus scrapes."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "cacheproxy_requests_total",
            "Finished requests to cached APIs, by what the cache did",
            ["dialect", "status", "layer"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "cacheproxy_request_seconds",
            "From the request's head to its answer, or to the end of the upstream's answer",
            ["layer"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._upstream_seconds = Histogram(
            "cacheproxy_upstream_seconds",
            "How long upstreams took for whole answers",
            ["upstream"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._reasons = Counter(
            "cacheproxy_miss_reasons_total",
            "Why requests were not answered from the cache",
            ["reason"],
            registry=registry,
        )
        self._similarity = Histogram(
            "cacheproxy_similarity",
            "Cosine similarity of the nearest entry, where one was looked for",
            buckets=_SIMILARITIES,
            registry=registry,
        )
        self._embedding_seconds = Histogram(
            "cacheproxy_embedding_seconds", "Embedding one prompt, queue included", buckets=_SECONDS, registry=registry
        )
        self._batch_size = Histogram(
            "cacheproxy_embedding_batch_size", "Texts per batch", buckets=_BATCHES, registry=registry
        )
        self._index_seconds = Histogram(
            "cacheproxy_index_seconds", "Searching one scope", buckets=_SECONDS, registry=registry
        )
        self._cost = Counter(
            "cacheproxy_cost_usd_total", "What upstreams charged, in USD", ["model", "kind"], registry=registry
        )
        self._audits = Counter(
            "cacheproxy_audits_total",
            "Checked answers of the cache, by what came of it",
            ["verdict"],
            registry=registry,
        )
        self._saved = Counter(
            "cacheproxy_saved_usd_total", "What hits saved, in USD", ["model", "layer"], registry=registry
        )
        self._saved_tokens = Counter(
            "cacheproxy_saved_tokens_total", "Tokens that hits did not buy", ["model", "kind"], registry=registry
        )
        self._coalesced = Counter(
            "cacheproxy_coalesced_total", "Requests that shared another's upstream call", registry=registry
        )
        self._port_errors = Counter(
            "cacheproxy_store_errors_total",
            "Failed calls to the store, the index and the embedder",
            ["op"],
            registry=registry,
        )
        self._entries = Gauge("cacheproxy_entries", "Entries in the store", registry=registry)
        self._churn = Gauge(
            "cacheproxy_scope_churn", "Share of the latest misses whose scope was never seen before", registry=registry
        )
        self._calls = Gauge("cacheproxy_upstream_calls", "Calls to upstreams that are under way", registry=registry)
        self._workers = Gauge("cacheproxy_workers", "Processes that serve", registry=registry)
        self._breaker = Gauge("cacheproxy_breaker_state", "0 closed, 1 half open, 2 open", ["port"], registry=registry)
        self._models: set[str] = set()
        self._children: dict[tuple[object, ...], object] = {}
        self._uncounted: list[Served] = []

    def serves(self) -> None:
        """This process answers requests."""
        self._workers.set(1)

    def watch_entries(self, count: Callable[[], float]) -> None:
        """Ask this for the number of entries at each scrape."""
        self._entries.set_function(count)

    def watch_churn(self, share: Callable[[], float]) -> None:
        """Ask this for the scope churn at each scrape."""
        self._churn.set_function(share)

    def watch_calls(self, count: Callable[[], float]) -> None:
        """Ask this for the number of upstream calls under way at each scrape."""
        self._calls.set_function(count)

    def watch_pools(self, pools: Callable[[], Iterable[LivePool]]) -> None:
        """Read what these pools promise, and how they fare, at each scrape."""
        self._registry.register(PoolCollector(pools))

    def watch_breakers(self, states: Mapping[str, Callable[[], float]]) -> None:
        """Ask these for the breakers' states at each scrape."""
        for port, state in states.items():
            self._breaker.labels(port).set_function(state)

    def served(self, event: Served) -> None:
        """Count a finished request, at the latest when somebody looks."""
        self._uncounted.append(event)
        if len(self._uncounted) >= _AT_ONCE:
            self._catch_up()

    def _catch_up(self) -> None:
        events, self._uncounted = self._uncounted, []
        amounts: defaultdict[tuple[Any, ...], float] = defaultdict(float)
        for event in events:
            self._count(event, amounts)
        for (counter, *labels), amount in amounts.items():
            self._child(counter, *labels).inc(amount)

    def _count(self, event: Served, amounts: defaultdict[tuple[Any, ...], float]) -> None:
        """Observe what is observed, and add to ``amounts`` (by counter and labels) what is summed."""
        layer = event.layer or "none"
        amounts[self._requests, event.dialect, event.status, layer] += 1
        self._child(self._request_seconds, layer).observe(event.duration_ms / 1000)
        if event.reason is not None:
            amounts[self._reasons, event.reason] += 1
        if event.similarity is not None:
            self._similarity.observe(event.similarity)
        if event.upstream_ms is not None:
            self._child(self._upstream_seconds, event.upstream).observe(event.upstream_ms / 1000)
        if event.layer is Layer.COALESCED:
            self._coalesced.inc()
        if event.cost_usd:
            amounts[self._cost, self._bounded(event.model), "upstream"] += event.cost_usd
        if event.saved_usd:
            amounts[self._saved, self._bounded(event.model), layer] += event.saved_usd
        if event.saved_usage is not NO_USAGE:
            model, saved = self._bounded(event.model), event.saved_usage
            amounts[self._saved_tokens, model, "input"] += saved.input_tokens
            amounts[self._saved_tokens, model, "output"] += saved.output_tokens

    def audited(self, event: Audited) -> None:
        """Count a check and what it cost."""
        if event.verdict is not None:
            self._child(self._audits, event.verdict.value).inc()
        if event.cost_usd:
            self._child(self._cost, self._bounded(event.model), event.kind.value).inc(event.cost_usd)

    def _child(self, metric: M, *labels: str) -> M:
        """The metric with these labels. Looked up here, since the library checks and locks each time."""
        child = self._children.get((metric, *labels))
        if child is None:
            child = self._children[metric, *labels] = metric.labels(*labels)
        return cast("M", child)

    def took(self, port: str, operation: str, seconds: float) -> None:
        """A port's call worked."""
        if port == "embedder":
            self._embedding_seconds.observe(seconds)
        elif operation == "nearest":
            self._index_seconds.observe(seconds)

    def failed(self, port: str, operation: str) -> None:
        """A port's call failed."""
        self._port_errors.labels(f"{port}.{operation}").inc()

    def batched(self, size: int, seconds: float) -> None:  # noqa: ARG002 - the whole wait is measured per prompt
        """A batch of texts was embedded."""
        self._batch_size.observe(size)

    def render(self) -> bytes:
        """The exposition text."""
        self._catch_up()
        return generate_latest(self._registry)

    def _bounded(self, model: str) -> str:
        if model in self._models:
            return model
        if len(self._models) < MAX_MODELS:
            self._models.add(model)
            return model
        return "other"


class PoolCollector:
    """The promise of each pool, read when Prometheus asks. Past so many pools the rest is left out."""

    def __init__(self, pools: Callable[[], Iterable[LivePool]]) -> None:
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is told."""
        wrong = GaugeMetricFamily(
            "cacheproxy_wrong_per_hit",
            "Wrong hits per hit on a similar question: the budget, what audits measured, and their anytime-valid bound",
            labels=["scope", "bound"],
        )
        stages = GaugeMetricFamily(
            "cacheproxy_promise", "1 at the stage that a pool's promise has reached", labels=["scope", "stage"]
        )
        drift = GaugeMetricFamily(
            "cacheproxy_drift", "1 while many more decisions are close than when the rule was made", labels=["scope"]
        )
        trips = CounterMetricFamily(
            "cacheproxy_promise_trips", "How often a pool went back to shadow", labels=["scope"]
        )
        for pool in islice(self._pools(), MAX_POOLS):
            monitor = pool.monitor
            wrong.add_metric([pool.name, "budget"], pool.budget)
            wrong.add_metric([pool.name, "in_service"], monitor.bound())
            if monitor.audits:
                wrong.add_metric([pool.name, "measured"], monitor.wrong / monitor.audits)
            for stage in Stage:
                stages.add_metric([pool.name, stage.value], float(stage is pool.stage))
            drift.add_metric([pool.name], float(pool.drifted))
            trips.add_metric([pool.name], monitor.trips)
        yield from (wrong, stages, drift, trips)
