"""What another threshold would come to: hit rate against error, from recorded labels. Pure.

Labels tell the error: each counts by one over the chance with which it was asked for, since what is served is seldom
labelled. The candidates of recent requests tell the hit rate. What a guard vetoes counts as served at no threshold:
where a rule knows that this is needless at an answer, the hit rate is told too low, never too high.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.core import certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cacheproxy.core.features import Features

    Numbers = NDArray[np.float64]

_CLOSE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Scored:
    """Labels and recent candidates by one kind of score. Arrays of one length for labels, another for traffic."""

    scores: Numbers
    right: Numbers
    counts: Numbers
    """How much each label counts."""
    traffic: Numbers
    """Scores of the candidates of recent requests."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What serving from a threshold on comes to."""

    threshold: float
    hit_rate: float
    wrong_per_hit: float
    bound: float
    labels: int
    wrong: int


def vetoed(features: Sequence[Features]) -> NDArray[np.bool_]:
    """Which of these a guard objects to."""
    return np.array([each.vetoed_amount > 0 or each.vetoed_sense > 0 for each in features], dtype=np.bool_)


def outcome(scored: Scored, threshold: float) -> Outcome:
    """What one threshold comes to. Without labels at or above it nothing is known of the error, and it is told as 0."""
    above = scored.scores >= threshold - _CLOSE
    labels, wrong = int(above.sum()), int((1 - scored.right[above]).sum())
    weight = scored.counts[above]
    return Outcome(
        threshold,
        hit_rate=float((scored.traffic >= threshold - _CLOSE).mean()) if len(scored.traffic) else 0.0,
        wrong_per_hit=float(np.average(1 - scored.right[above], weights=weight)) if labels else 0.0,
        bound=certificate.upper_bound(wrong, labels, certificate.ALPHA) if labels else 1.0,
        labels=labels,
        wrong=wrong,
    )


def curve(scored: Scored, points: int) -> list[Outcome]:
    """At most so many thresholds, from the loosest to the strictest, spread evenly over the scores that there are."""
    known = np.unique(np.concatenate([scored.scores, scored.traffic]))
    known = known[np.isfinite(known)]
    if not len(known):
        return []
    places = np.unique(np.linspace(0, len(known) - 1, min(points, len(known))).round().astype(int))
    return [outcome(scored, float(score)) for score in known[places]]


def histogram(scores: Numbers, edges: Numbers) -> list[int]:
    """How many scores lie between each two edges; what lies outside counts at the end that it is nearer to."""
    counts, _ = np.histogram(scores.clip(edges[0], edges[-1]), bins=edges)
    return [int(count) for count in counts]
