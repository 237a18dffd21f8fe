"""Prometheus metrics of the local server: how busy the engine is, and how long callers wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from cacheproxy.backend.engine import Engine

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """``render`` gives the text that Prometheus scrapes."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "cacheproxy_backend_requests_total", "Answered requests", ["api", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "cacheproxy_backend_request_seconds",
            "From the request to the end of its answer",
            ["api"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "cacheproxy_backend_first_token_seconds",
            "From the request to the first words of its answer, queue included",
            ["api"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.embeddings = Counter("cacheproxy_backend_embeddings_total", "Texts embedded", registry=registry)
        self.weight_bytes = Gauge(
            "cacheproxy_backend_weight_bytes", "Memory that the model's weights take", registry=registry
        )

    def watch(self, engine: Engine) -> None:
        """Report an engine from now on."""
        self._registry.register(_EngineCollector(engine))

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        load, counts = self._engine.load, self._engine.counts
        for name, meaning, value in (
            ("waiting", "Answers that wait for their turn", load.waiting),
            ("running", "Answers that are generated at the moment: the size of the batch", load.running),
            ("kv_used_ratio", "Share of the key-value cache in use", load.kv_used),
        ):
            yield GaugeMetricFamily(f"cacheproxy_backend_{name}", meaning, value=value)
        for name, meaning, value in (
            ("admitted", "Answers that got their turn", counts.admitted),
            ("queue_seconds", "Time that these waited for it, all together", counts.waited_s),
            ("prompt_tokens", "Tokens read", counts.prompt_tokens),
            ("output_tokens", "Tokens generated", counts.output_tokens),
            ("drafted_tokens", "Tokens among these that speculative decoding gave", counts.drafted),
            ("cancelled", "Answers whose caller left", counts.cancelled),
            ("restarts", "Times that the engine broke and was built anew", counts.restarts),
        ):
            yield CounterMetricFamily(f"cacheproxy_backend_{name}", meaning, value=value)
