"""What verdicts prove about a rule that serves everything at or above a score, and where it may begin.

Three statements, never confused:

- ``certified``: with confidence 1 - alpha, at most ``budget`` of what the rule serves is wrong. Fixed-sequence testing
  from the strictest score to looser ones with Clopper-Pearson's one-sided bound, over labels whose score comes from a
  model that was not fitted on their entry. It assumes that what comes is like what was labelled, and is relative to the
  judge.
- ``estimated``: the best estimate of that share is within the budget it is given, with nothing proven.
- ``proven``: in service, an anytime-valid bound over the random audits of hits that were really served.

Pure. Sources: Clopper and Pearson 1934; uniform mixture martingale as in Ville's inequality (Robbins 1970).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import betaincinv, betaln, polygamma

from cacheproxy.core.judge_noise import UNMEASURED
from cacheproxy.core.likelihood import logistic, sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Counts = NDArray[np.intp]

ALPHA: Final = 0.05
"""How often, at most, a statement with confidence may be false."""
LABELS_TO_ESTIMATE: Final = 100
"""Verdicts at or above a score before its error is estimated at all."""
LAG: Final = 1.15
"""What a budget is multiplied by where it is held against an estimate. Estimates are too high by more than this, since
labels are older than the rule and the cache has grown since: on the classes that the prior was fitted on, the share of
wrong hits came to half of what was estimated, or to nine tenths at most."""
NEWEST: Final = 3
"""One part in so many of the labels, the newest, recalibrates the scores: older ones saw a cache less full ..."""
FEWEST_NEWEST: Final = 300
"""... but at least so many labels, where there are."""
MISFIT: Final = 0.5
"""The raw share of wrong labels above a score counts this much: at 0.5 it may be twice the budget, since labels dwell
on risky scores, but no more than that, whatever the recalibrated curve says."""
TRAFFIC_NEEDED: Final = 20
"""Recent requests at or above a score before the error there is estimated."""
FAIR_SHARES: Final = 4
"""So many times its fair share of a proof one answer may have: errors cluster by answer ..."""
PROOFS_PER_ROOT: Final = 10
"""... but in any case so many labels."""
_PATIENCE: Final = 3
"""What a look may spend falls with the square of its number, plus this: a proof seldom comes at the very first."""
STRICTEST: Final = (1.5, 2.5)
"""Scans begin where there are so many times the labels that zero errors would need: with just enough of them a single
unlucky verdict would undo any proof, and of more of them some may be wrong. Each scan has its part of alpha."""
_ROUNDING: Final = 1e-9
_SCANNED: Final = 100
"""Scores that are looked at, at most, between the strictest and the loosest."""
_GIVE_UP: Final = 6
"""After so many times ``LABELS_TO_ESTIMATE`` without a score that passes, none is expected."""
_BISECTIONS: Final = 60
_FARTHEST: Final = 12.0
"""Scores beyond this are as good as certain, and would pull a curve out of shape."""
_CENTRE: Final = np.array([0.0, 1.0])
"""Intercept and slope that a calibration is held near: what the scores say themselves."""
_RIDGE: Final = np.array([1.0, 8.0])


def upper_bound(wrong: int, total: int, alpha: float) -> float:
    """The one-sided Clopper-Pearson bound: the largest share of wrong ones that is not refuted."""
    return 1.0 if wrong >= total else float(betaincinv(wrong + 1, total - wrong, 1 - alpha))


def interval(wrong: int, total: int, alpha: float = ALPHA) -> tuple[float, float]:
    """The two-sided Clopper-Pearson interval."""
    low = 0.0 if wrong == 0 else float(betaincinv(wrong, total - wrong + 1, alpha / 2))
    return low, upper_bound(wrong, total, alpha / 2)


def labels_needed(budget: float, alpha: float = ALPHA) -> int:
    """How many labels without a wrong one prove a budget: 59, 149, 299 for 5, 2, 1%."""
    return math.ceil(math.log(alpha) / math.log1p(-budget))


def alpha_at(look: int, alpha: float = ALPHA) -> float:
    """What the ``look``-th look (from 1) may spend, so that all looks of a pool at a budget together spend alpha.

    Nothing before the first one.
    """
    return alpha / float(polygamma(1, 1 + _PATIENCE)) / (look + _PATIENCE) ** 2 if look else 0.0


def first_look(budget: float) -> int:
    """The labels at the first look at a budget: with fewer nothing can be proven, so no look is spent on them."""
    return math.ceil(min(STRICTEST) * labels_needed(budget, alpha_at(1) / len(STRICTEST)))


def look_at(labels: int, budget: float, *, growth: float, most: int) -> int:
    """Which look at a budget it is when so many labels have come, 0 where it is none yet.

    A fit comes when labels have grown by ``growth``, or when ``most`` have come since the last one. Each is a look of
    its own, so that all together spend alpha however much alike their labels are: the logarithm grows by one or more
    from fit to fit, and so does the tangent that takes its place where fits come more often than that.
    """
    first = first_look(budget)
    if labels < first:
        return 0
    steady = max(first, most / (growth - 1))
    grown = math.log(min(labels, steady) / first) + max(0.0, labels / steady - 1)
    return 1 + math.floor(grown / math.log(growth) + _ROUNDING)


def proven(wrong: int, total: int, alpha: float = ALPHA) -> float:
    """The anytime-valid upper bound on a share, from all audits so far: valid whenever one looks.

    The largest p at which the uniform mixture B(1+S, 1+n-S) / (p^S (1-p)^(n-S)) is under 1/alpha.
    """
    evidence = float(betaln(1 + wrong, 1 + total - wrong))
    limit = -math.log(alpha)

    def refuted(share: float) -> bool:
        return evidence - wrong * math.log(share) - (total - wrong) * math.log1p(-share) >= limit

    low, high = max(wrong / total if total else 0.0, 1e-12), 1.0 - 1e-12
    if not refuted(high):
        return 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return high


def certified(
    scores: Vector,
    right: Vector,
    *,
    budget: float,
    alpha: float,
    roots: Counts | None = None,
    counts: Vector | None = None,
    missed: float = UNMEASURED.missed,
) -> float | None:
    """The loosest score from which serving is certified; None where nothing is.

    Each scan begins at a strict score, chosen by the number of labels above it and without looking at a verdict, and
    ends at the first failure. The bound is widened for wrong answers that the judge ``missed``. It has to hold where
    each label counts once, which is exact for questions that lead to these answers as often as those that were judged;
    and where no answer (``roots``, a number for each label's) counts more than a few times a fair share, so that one
    that is asked for all the time proves nothing of the others. The share of wrong labels must be within the budget
    also where each counts by ``counts``, as in ``estimated``: many labels of easy misses beside few audits of hits
    prove little about hits. Nothing is spent on having to hold in several ways.
    """
    if not alpha:
        return None
    ranked = np.argsort(-scores, kind="stable")
    descending, wrong = scores[ranked], 1 - right[ranked]
    weights = np.ones(len(scores)) if counts is None else counts[ranked]
    answers = np.arange(len(scores)) if roots is None else roots[ranked]
    spent = alpha / len(STRICTEST)
    loosest: float | None = None
    for times in STRICTEST:
        above = _scan(descending, math.ceil(times * labels_needed(budget, spent)))
        if not len(above):
            continue
        apart = _counted_apart(above, answers, wrong)
        bound = np.maximum(_upper_bounds(np.cumsum(wrong)[above - 1], above, spent), _upper_bounds(*apart, spent)) / (
            1 - missed
        )
        weighted = np.cumsum(wrong * weights)[above - 1] / np.cumsum(weights)[above - 1]
        holds = np.maximum(bound, weighted) <= budget
        held = len(holds) if holds.all() else int(np.argmin(holds))
        if held:
            score = float(descending[above[held - 1] - 1])
            loosest = score if loosest is None else min(score, loosest)
    return loosest


def _counted_apart(above: Counts, answers: Counts, wrong: Vector) -> tuple[Vector, Vector]:
    """Wrong labels and all, of the first so many ``above`` each, where no answer counts for more than its due."""
    scan = np.searchsorted(above, np.arange(above[-1]), side="right")
    place = scan * (int(answers.max()) + 1) + answers[: above[-1]]
    shape = (len(above), int(answers.max()) + 1)
    of_each = np.bincount(place, minlength=math.prod(shape)).reshape(shape).cumsum(axis=0)
    wrong_of_each = np.bincount(place, wrong[: above[-1]], math.prod(shape)).reshape(shape).cumsum(axis=0)
    due = np.maximum(PROOFS_PER_ROOT, FAIR_SHARES * above / np.count_nonzero(of_each, axis=1))
    worth = 1 / np.maximum(1, of_each / due[:, None])
    return (worth * wrong_of_each).sum(axis=1), (worth * of_each).sum(axis=1)


def _upper_bounds(wrong: Vector, total: Vector | Counts, alpha: float) -> Vector:
    """``upper_bound`` of several. Parts of labels count as parts, as is usual with weights (Korn and Graubard 1998)."""
    some_right = wrong < total
    bounds: Vector = np.where(some_right, betaincinv(wrong + 1, np.where(some_right, total - wrong, 1), 1 - alpha), 1.0)
    return bounds


def estimated(
    scores: Vector, right: Vector, traffic: Vector, *, budget: float, counts: Vector | None = None
) -> float | None:
    """The loosest score from which the estimated share of wrong hits is within the budget; None where there is none.

    The estimate is the mean, over the ``traffic`` (scores of recent requests, labelled or not) that would be served, of
    the chance to be wrong at each score; that chance is the scores' own, recalibrated on the labels. ``counts`` is how
    much each label counts: one over the chance with which it was asked for, since what is served is seldom labelled.
    """
    newest = max(len(scores) // NEWEST, FEWEST_NEWEST)
    curve = Calibration.of(scores[-newest:], right[-newest:], 1.0 if counts is None else counts[-newest:])
    served = np.sort(traffic)[::-1]
    risk = np.cumsum(1 - curve.chance(served)) / np.arange(1, len(served) + 1)
    loosest: float | None = None
    ranked = np.argsort(-scores, kind="stable")
    wrong_above = np.cumsum(1 - right[ranked])
    for count in _scan(scores[ranked], LABELS_TO_ESTIMATE).tolist():
        score = float(scores[ranked[count - 1]])
        above = int(np.searchsorted(-served, -score, side="right"))
        if above < TRAFFIC_NEEDED:
            continue
        seen = (float(wrong_above[count - 1]) + 0.5) / (count + 1)
        if max(float(risk[above - 1]), MISFIT * seen) <= budget:
            loosest = score
        elif loosest is not None or count > _GIVE_UP * LABELS_TO_ESTIMATE:
            break
    return loosest


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling: the chance to be right as a logistic curve of the score."""

    intercept: float
    slope: float

    @classmethod
    def of(cls, scores: Vector, right: Vector, counts: Vector | float = 1.0) -> Calibration:
        """Fitted on labels, held near the scores' own when they are few."""
        rows = np.stack([np.ones(len(scores)), _near(scores)], axis=1)
        (intercept, slope), _ = logistic(rows, right, start=_CENTRE, ridge=_RIDGE, counts=counts)
        return cls(float(intercept), float(slope))

    def chance(self, scores: Vector) -> Vector:
        """The chance to be right at each score."""
        return sigmoid(self.intercept + self.slope * _near(scores))


def _near(scores: Vector) -> Vector:
    return np.clip(scores, -_FARTHEST, _FARTHEST)


def _scan(descending: Vector, first: int) -> Counts:
    """How many labels are at or above each score, from strict to loose.

    Begins with the score of the ``first`` label. A score that several labels share counts them all: whoever serves from
    it serves them all.
    """
    scores = descending[first - 1 :: max(1, len(descending) // _SCANNED)]
    return np.unique(np.searchsorted(-descending, -scores, side="right"))
