"""Every metric that the proxy can tell, as Prometheus names it."""

from __future__ import annotations

from cacheproxy.server.collectors import GAUGES, PoolCollector
from cacheproxy.server.metrics import Metrics


def every_metric() -> dict[str, list[str]]:
    """The names of all metrics, counters with their ending and histograms without one, each with its labels."""
    metrics = Metrics()
    for name in GAUGES:
        metrics.watch(name, lambda: 0.0)
    registry = metrics._registry
    # What collects families anew at each scrape has no names of its own until then.
    families = {family.name: family for family in [*registry.collect(), *PoolCollector(list).collect()]}
    labels = {
        collector._name: list(collector._labelnames)
        for collector in registry._collector_to_names
        if hasattr(collector, "_labelnames")
    }
    labels |= {family.name: list(family._labelnames) for family in PoolCollector(list).collect()}
    labels["cacheproxy_build"] = ["version", "python"]
    ending = {"counter": "_total", "info": "_info"}
    return {name + ending.get(family.type, ""): labels.get(name, []) for name, family in families.items()}
