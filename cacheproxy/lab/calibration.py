"""What recorded verdicts prove: thresholds for each budget, their bounds, whether predicted chances hold. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cacheproxy.core import certificate
from cacheproxy.core.features import servable
from cacheproxy.core.labels import capped
from cacheproxy.core.likelihood import sigmoid
from cacheproxy.core.pool import Pool, cross_scored
from cacheproxy.lab.tally import Proportion, reliability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cacheproxy.core.labels import Label
    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.core.pool import Stage
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.lab.tally import Bin


@dataclass(frozen=True, slots=True)
class Line:
    """One budget. A chance of None: nothing would be served."""

    budget: float
    stage: Stage
    estimated: float | None
    """The chance from which answers are served by estimate ..."""
    certified: float | None
    """... and by proof."""
    wrong: Proportion
    """Of the labels at or above the looser one."""
    bound: float
    """Clopper and Pearson's one-sided 95% bound on these."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a pool with these labels would promise."""

    sources: Mapping[str, Proportion]
    """Wrong ones of the labels, by where they came from."""
    labels: int
    """All, of which the newest and so many of one answer or caller count."""
    earlier: int
    """Those that came before them and are not kept: they had their looks."""
    counted: int
    lines: Sequence[Line]
    tripped: bool
    """The audits among them broke the promise: labels from before that are void."""
    reliability: Sequence[Bin]

    def to_json(self) -> JsonObject:
        """Everything."""
        return {
            "sources": {source: share.to_json() for source, share in self.sources.items()},
            "labels": self.labels,
            "earlier": self.earlier,
            "counted": self.counted,
            "tripped": self.tripped,
            "budgets": [
                {
                    "budget": line.budget,
                    "stage": line.stage.value,
                    "estimated": line.estimated,
                    "certified": line.certified,
                    "wrong": line.wrong.to_json(),
                    "bound": line.bound,
                }
                for line in self.lines
            ],
            "reliability": [{"predicted": b.predicted, **b.observed.to_json()} for b in self.reliability],
        }


def certificate_of(
    labels: Sequence[Label],
    *,
    budget: float,
    prior: Likelihood | None,
    guards_final: bool = True,
    ever: int | None = None,
) -> Certificate:
    """Feed a pool with labels, oldest first, as the proxy does when it starts. There have been ``ever``, kept or not.

    The rule is the one that it would serve by, of the labels until the last count at which one is due. Scores are of
    models that did not see the label's answer.
    """
    pool = Pool(budget=budget, prior=prior, guards_final=guards_final)
    earlier = pool.earlier = max(0, (ever or 0) - len(labels))
    trips = 0
    for label in labels:
        pool.saw(label.features)
        pool.add(label)
        trips = pool.monitor.trips
    kept = capped(list(pool.labels))
    lines: list[Line] = []
    bins: list[Bin] = []
    if kept:
        rule = pool.fit()
        scores = cross_scored(kept, prior)
        right = np.array([label.right for label in kept], dtype=np.float64)
        bins = reliability(sigmoid(scores), right > 0)
        served_at_all = np.array([servable(label.features, guards_final=guards_final) for label in kept], np.bool_)
        for each in sorted(rule.thresholds):
            threshold = rule.threshold(each)
            served = (scores >= min(threshold)) & served_at_all
            wrong = Proportion(int((1 - right[served]).sum()), int(served.sum()))
            bound = certificate.upper_bound(wrong.count, wrong.of, certificate.ALPHA) if wrong.of else 1.0
            estimated, certified = (_chance(score) for score in threshold)
            lines.append(Line(each, rule.stage(each), estimated, certified, wrong, bound))
    return Certificate(_by_source(labels), len(labels), earlier, len(kept), lines, trips > 0, bins)


def _chance(score: float) -> float | None:
    return float(sigmoid(np.array([score]))[0]) if np.isfinite(score) else None


def _by_source(labels: Sequence[Label]) -> dict[str, Proportion]:
    count = Counter(label.source.value for label in labels)
    wrong = Counter(label.source.value for label in labels if not label.right)
    return {source: Proportion(wrong[source], count[source]) for source in sorted(count)}
