"""Metrics of several processes as those of one.

Counters and histograms are added up, and what processes had counted that are gone stays in the sum, so that nothing
ever goes backwards. Of gauges each has its own rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Rule: TypeAlias = Callable[[Sequence[float]], float]
_Labels: TypeAlias = tuple[tuple[str, str], ...]


def mean(values: Sequence[float]) -> float:
    """For shares of what each process saw."""
    return sum(values) / len(values)


RULES: Final[Mapping[str, Rule]] = {
    # Every process counts the one store, and follows the one set of labels: they differ by a moment.
    "cacheproxy_entries": max,
    "cacheproxy_wrong_per_hit": max,
    "cacheproxy_promise": max,
    "cacheproxy_drift": max,
    "cacheproxy_promise_trips": max,
    "cacheproxy_index_vectors": max,
    "cacheproxy_store_bytes": max,
    "cacheproxy_build_info": max,
    # The fullest process is the one to look at, and the oldest began it all.
    "process_open_fds": max,
    "process_max_fds": max,
    "process_start_time_seconds": min,
    # What each sees of its own.
    "cacheproxy_workers": sum,
    "cacheproxy_upstream_calls": sum,
    "cacheproxy_upstream_calls_limit": sum,
    "cacheproxy_memory_bytes": sum,
    "cacheproxy_unwritten_answers": sum,
    "cacheproxy_unjudged_answers": sum,
    "cacheproxy_embedding_queue": sum,
    "process_resident_memory_bytes": sum,
    "process_virtual_memory_bytes": sum,
    "cacheproxy_breaker_state": max,
    "cacheproxy_scope_churn": mean,
}
"""How values of one name become one, by metric family; any other counter or histogram is added up."""


class _Family(NamedTuple):
    kind: str
    help: str
    values: Mapping[tuple[str, _Labels], Sequence[float]]
    """What each process said, by sample and labels."""


def rule_of(family: str, kind: str) -> Rule:
    """How the values of a family become one."""
    if family.endswith("_created"):
        return min
    return RULES.get(family, max if kind == "gauge" else sum)


def together(texts: Iterable[str], past: Iterable[str] = ()) -> bytes:
    """One exposition of several. Of those in the ``past`` only what counts on is taken."""
    families: dict[str, _Family] = {}
    for text, gone in [*((text, False) for text in texts), *((text, True) for text in past)]:
        for metric in text_string_to_metric_families(text):
            if gone and (metric.type == "gauge" or metric.name.endswith("_created")):
                continue
            family = families.setdefault(metric.name, _Family(metric.type, metric.documentation, {}))
            values: dict[tuple[str, _Labels], list[float]] = family.values  # type: ignore[assignment]  # ours to fill
            for sample in metric.samples:
                values.setdefault((sample.name, tuple(sorted(sample.labels.items()))), []).append(sample.value)
    registry = CollectorRegistry()
    registry.register(_Told(families))
    return generate_latest(registry)


class _Told:
    def __init__(self, families: Mapping[str, _Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """What ``generate_latest`` asks for."""
        for name, family in self._families.items():
            metric = Metric(name, family.help, family.kind)
            combined = rule_of(name, family.kind)
            for (sample, labels), values in family.values.items():
                metric.add_sample(sample, dict(labels), combined(values))
            yield metric


class Past:
    """What processes had counted that are gone, as one text."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, text: str) -> None:
        """One more is gone."""
        self.text = together((), (self.text, text)).decode()
