"""Prometheus metrics: what was served, what it cost and saved, and how the ports fare. Labels are bounded."""

from __future__ import annotations

import platform
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder

from cacheproxy import __version__
from cacheproxy.core.few import Few
from cacheproxy.model import NO_USAGE, Layer
from cacheproxy.server.collectors import GAUGES, GaugeCollector, PoolCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cacheproxy.events import Audited, CallResult, Served
    from cacheproxy.flow.pools import LivePool

M = TypeVar("M", Counter, Histogram)

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SIMILARITIES: Final = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.0)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_LONGEST_EXEMPLAR: Final = 100
"""OpenMetrics allows an exemplar 128 characters, names included."""
_AT_ONCE: Final = 64
"""Finished requests are counted so many at a time, for less than half of what each costs alone: most have their labels
in common, and in a row they find the code where other work has not yet driven it out of the processor's caches."""


class Metrics:
    """An observer of requests and a watch over the ports; ``render`` gives the text that Prometheus scrapes.

    ``exemplars`` puts a request's id, or its trace's, beside the durations that it fell into.
    """

    def __init__(self, *, exemplars: bool = False) -> None:
        self._exemplars = exemplars
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
        self._dropped = Counter(
            "cacheproxy_dropped_total",
            "What waited for the store and was given up, since too much waited",
            ["what"],
            registry=registry,
        )
        self._tokens = Counter(
            "cacheproxy_tokens_total", "Tokens that upstreams were paid for", ["model", "kind"], registry=registry
        )
        self._unpriced = Counter(
            "cacheproxy_unpriced_total",
            "Requests and checks for whose model no price is known",
            ["model"],
            registry=registry,
        )
        self._results = Counter(
            "cacheproxy_upstream_results_total",
            "Calls to upstreams by how they went, audits, judges' and passed through ones included",
            ["upstream", "result"],
            registry=registry,
        )
        self._fallbacks = Counter(
            "cacheproxy_local_fallbacks_total",
            "Requests that the local server should have answered and the upstream was asked for",
            ["reason"],
            registry=registry,
        )
        self._errors = Counter(
            "cacheproxy_errors_total", "Errors of ours that callers got", ["code"], registry=registry
        )
        self._breaker = Gauge("cacheproxy_breaker_state", "0 closed, 1 half open, 2 open", ["port"], registry=registry)
        build = Info("cacheproxy_build", "What runs", registry=registry)
        build.info({"version": __version__, "python": platform.python_version()})
        ProcessCollector(registry=registry)
        self._keepers: dict[str, Callable[[], float]] = {}
        registry.register(GaugeCollector(self._keepers))
        self._pools: Callable[[], Iterable[LivePool]] | None = None
        self._bounded = Few()
        self._children: dict[tuple[object, ...], object] = {}
        self._uncounted: list[Served] = []
        self._calls: defaultdict[tuple[str, str], int] = defaultdict(int)

    def watch(self, name: str, keeper: Callable[[], float]) -> None:
        """Ask for one of ``collectors.GAUGES`` at each scrape."""
        assert name in GAUGES, name  # noqa: S101 - a slip of ours
        self._keepers[name] = keeper

    def watch_pools(self, pools: Callable[[], Iterable[LivePool]]) -> None:
        """Read what these pools promise, and how they fare, at each scrape; no others from now on."""
        if self._pools is None:
            self._registry.register(PoolCollector(lambda: self._pools() if self._pools else ()))
        self._pools = pools

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
        for call, count in self._calls.items():
            self._child(self._results, *call).inc(count)
        self._calls.clear()

    def _count(self, event: Served, amounts: defaultdict[tuple[Any, ...], float]) -> None:
        """Observe what is observed, and add to ``amounts`` (by counter and labels) what is summed."""
        layer = event.layer or "none"
        amounts[self._requests, event.dialect, event.status, layer] += 1
        self._child(self._request_seconds, layer).observe(event.duration_ms / 1000, self._exemplar(event))
        if event.reason is not None:
            amounts[self._reasons, event.reason] += 1
        if event.similarity is not None:
            self._similarity.observe(event.similarity)
        if event.upstream_ms is not None:
            self._child(self._upstream_seconds, event.upstream).observe(event.upstream_ms / 1000, self._exemplar(event))
        if event.layer is Layer.COALESCED:
            self._coalesced.inc()
        if event.cost_usd:
            amounts[self._cost, self._bounded(event.model), "upstream"] += event.cost_usd
        if event.unpriced:
            amounts[self._unpriced, self._bounded(event.model)] += 1
        if event.usage is not NO_USAGE:
            model, usage = self._bounded(event.model), event.usage
            amounts[self._tokens, model, "input"] += usage.input_tokens
            amounts[self._tokens, model, "output"] += usage.output_tokens
        if event.saved_usd:
            amounts[self._saved, self._bounded(event.model), layer] += event.saved_usd
        if event.saved_usage is not NO_USAGE:
            model, saved = self._bounded(event.model), event.saved_usage
            amounts[self._saved_tokens, model, "input"] += saved.input_tokens
            amounts[self._saved_tokens, model, "output"] += saved.output_tokens

    def _exemplar(self, event: Served) -> dict[str, str] | None:
        if not self._exemplars:
            return None
        return {"trace_id": event.trace_id} if event.trace_id else {"request_id": event.request_id[:_LONGEST_EXEMPLAR]}

    def audited(self, event: Audited) -> None:
        """Count a check and what it cost."""
        if event.verdict is not None:
            self._child(self._audits, event.verdict.value).inc()
        if event.cost_usd:
            self._child(self._cost, self._bounded(event.model), event.kind.value).inc(event.cost_usd)
        if event.unpriced:
            self._child(self._unpriced, self._bounded(event.model)).inc()

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

    def dropped(self, what: str) -> None:
        """So much waited for the store that one more was given up."""
        self._child(self._dropped, what).inc()

    def called(self, upstream: str, result: CallResult) -> None:
        """A call to an upstream has ended. Counted with the requests."""
        self._calls[upstream, result] += 1

    def fell_back(self, why: str) -> None:
        """The local server did not answer what it should have."""
        self._child(self._fallbacks, why).inc()

    def refused(self, code: str) -> None:
        """A caller got an error of ours."""
        self._child(self._errors, code).inc()

    def batched(self, size: int, seconds: float) -> None:  # noqa: ARG002 - the whole wait is measured per prompt
        """A batch of texts was embedded."""
        self._batch_size.observe(size)

    def render(self) -> bytes:
        """The exposition text."""
        return self.exposition("")[0]

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The same and its content type, as a scraper's Accept header asks: OpenMetrics, or text."""
        self._catch_up()
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
