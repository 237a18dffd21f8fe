"""What is read when Prometheus asks: gauges that somebody else keeps, and the promise of each pool."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from cacheproxy.core.pool import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from cacheproxy.flow.pools import LivePool

MAX_POOLS: Final = 100

GAUGES: Final = {
    "workers": "Processes that serve",
    "entries": "Entries in the store",
    "store_bytes": "Bytes on disk of the embedded store, its write-ahead log included",
    "memory_bytes": "Bytes of the answers that are held in memory",
    "index_vectors": "Entries that this process can find by similarity",
    "unwritten_answers": "Answers that the store has not seen yet",
    "unjudged_answers": "Fresh answers that wait for a judge, or are with one",
    "embedding_queue": "Questions that wait for the embedding model",
    "scope_churn": "Share of the latest misses whose scope was never seen before",
    "upstream_calls": "Calls to upstreams that are under way, those to the local server included",
    "upstream_calls_limit": "How many calls to upstreams may be under way before further ones are refused",
}
"""By name, without ``cacheproxy_``. One that nobody keeps is left out: an absent part is not an empty one."""


class GaugeCollector:
    """Gauges that are read from their keepers."""

    def __init__(self, keepers: Mapping[str, Callable[[], float]]) -> None:
        self._keepers = keepers

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is told."""
        for name, keeper in self._keepers.items():
            yield GaugeMetricFamily(f"cacheproxy_{name}", GAUGES[name], value=keeper())


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
