"""What a replay found out, pure: outcomes of single requests in, one report out."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from cacheproxy.model import CacheStatus, Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cacheproxy.jsontext import JsonObject

_Z: Final = 1.959963984540054  # the normal distribution's 97.5% quantile: a two-sided interval of 95%


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, as its sender saw it."""

    latency_ms: float
    """Until the last byte."""
    error: str = ""
    """What went wrong, in few words; empty for a complete answer."""
    status: str = ""
    """``X-Cache-Status``, empty where there was none."""
    layer: str = ""
    reason: str = ""
    similarity: float | None = None
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    wrong: bool | None = None
    """Whether the answer belongs to another class than the question; None where that cannot be told."""

    @property
    def hit(self) -> bool:
        """Whether the cache answered."""
        return not self.error and self.status == CacheStatus.HIT


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` out of ``of``, with the 95% interval of the rate behind it (Wilson's score interval)."""

    count: int
    of: int

    @property
    def rate(self) -> float:
        """0 where nothing was counted."""
        return self.count / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound; 0..1 where nothing was counted.

        Wilson (1927), with the usual choice of the normal quantile; it keeps its coverage for rates near 0, where
        wrong hits ought to be.
        """
        if not self.of:
            return 0.0, 1.0
        scale = 1 + _Z**2 / self.of
        centre = (self.rate + _Z**2 / (2 * self.of)) / scale
        half = _Z / scale * math.sqrt(self.rate * (1 - self.rate) / self.of + _Z**2 / (4 * self.of**2))
        return (
            0.0 if self.count == 0 else max(0.0, centre - half),
            1.0 if self.count == self.of else min(1.0, centre + half),
        )

    def to_json(self) -> JsonObject:
        """The numbers with their rate and interval."""
        low, high = self.interval
        return {"count": self.count, "of": self.of, "rate": self.rate, "low": low, "high": high}


@dataclass(frozen=True, slots=True)
class Latency:
    """How long requests of one kind took, in milliseconds; both 0 where there were none."""

    requests: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """A replay in numbers."""

    requests: int
    duration_s: float
    errors: Mapping[str, int]
    """How often requests failed, by what went wrong."""
    hits: Mapping[str, int]
    """Hits by layer."""
    others: Mapping[str, int]
    """Complete answers that were no hits, by cache status; ``none`` where the header was missing."""
    reasons: Mapping[str, int]
    """Why answers were no hits, the most frequent first."""
    wrong_per_semantic_hit: Share
    wrong_per_hit: Share
    wrong_per_request: Share
    """Wrong hits out of all requests whose class is known and that were answered."""
    spent_usd: float
    saved_usd: float
    bought_tokens: int
    """Input and output tokens of answers that were no hits."""
    saved_tokens: int
    """Input and output tokens of hits."""
    latency: Mapping[str, Latency] = field(default_factory=dict)
    """By layer for hits, and under ``miss`` for all other complete answers."""

    @property
    def failed(self) -> int:
        """How many requests got no complete answer."""
        return sum(self.errors.values())

    @property
    def hit_rate(self) -> float:
        """Hits per complete answer."""
        answered = self.requests - self.failed
        return sum(self.hits.values()) / answered if answered else 0.0

    def to_json(self) -> JsonObject:
        """Everything, as one JSON object."""
        wrong = ("wrong_per_semantic_hit", "wrong_per_hit", "wrong_per_request")
        shares = {name: getattr(self, name).to_json() for name in wrong}
        return asdict(self) | {"failed": self.failed, "hit_rate": self.hit_rate} | shares


def summarise(outcomes: Sequence[Outcome], *, duration_s: float) -> ReplayReport:
    """The report on these outcomes."""
    answered = [outcome for outcome in outcomes if not outcome.error]
    hits = [outcome for outcome in answered if outcome.hit]
    others = [outcome for outcome in answered if not outcome.hit]
    semantic = [outcome for outcome in hits if outcome.layer == Layer.SEMANTIC]
    kinds = {layer.value: [hit for hit in hits if hit.layer == layer] for layer in Layer} | {"miss": others}
    return ReplayReport(
        requests=len(outcomes),
        duration_s=duration_s,
        errors=_counts(outcomes, lambda outcome: outcome.error),
        hits={layer.value: len(kinds[layer.value]) for layer in Layer},
        others=_counts(others, lambda outcome: outcome.status or "none"),
        reasons=_counts(others, lambda outcome: outcome.reason),
        wrong_per_semantic_hit=_wrong(semantic, out_of=semantic),
        wrong_per_hit=_wrong(hits, out_of=hits),
        wrong_per_request=_wrong(hits, out_of=answered),
        spent_usd=math.fsum(outcome.cost_usd for outcome in answered),
        saved_usd=math.fsum(outcome.saved_usd for outcome in answered),
        bought_tokens=sum(outcome.input_tokens + outcome.output_tokens for outcome in others),
        saved_tokens=sum(outcome.input_tokens + outcome.output_tokens for outcome in hits),
        latency={kind: _latency(outcomes) for kind, outcomes in kinds.items()},
    )


def _counts(outcomes: Iterable[Outcome], key: Callable[[Outcome], str]) -> dict[str, int]:
    return dict(Counter(value for outcome in outcomes if (value := key(outcome))).most_common())


def _wrong(hits: Iterable[Outcome], *, out_of: Iterable[Outcome]) -> Share:
    return Share(sum(hit.wrong is True for hit in hits), sum(outcome.wrong is not None for outcome in out_of))


def _latency(outcomes: Sequence[Outcome]) -> Latency:
    if not outcomes:
        return Latency()
    ordered = sorted(outcome.latency_ms for outcome in outcomes)

    def percentile(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]  # the nearest rank

    return Latency(len(ordered), percentile(0.5), percentile(0.95))
