"""What verdicts prove about a rule that serves everything at or above a score, and where it may begin.

Three statements, never confused:

- ``certified``: with confidence 1 - alpha, at most ``budget`` of what the rule serves is wrong. Fixed-sequence testing
  from the strictest score to looser ones with Clopper-Pearson's one-sided bound, over labels whose score comes from a
  model that was not fitted on their entry. It assumes that what comes is like what was labelled, and is relative to the
  judge.
- ``estimated``: the best estimate of that share is within the budget, with nothing proven.
- ``proven in service``: an anytime-valid bound over the random audits of hits that were really served.

Pure. Sources: Clopper and Pearson 1934; uniform mixture martingale as in Ville's inequality (Robbins 1970).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import betaincinv, betaln

from cacheproxy.core.likelihood import sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

ALPHA: Final = 0.05
LABELS_TO_ESTIMATE: Final = 100
"""Verdicts above a score before its error is estimated at all."""
LAG: Final = 1.15
"""The estimate is this much too high, since the labels are older than the rule and the cache has grown since. Measured
on the classes that the prior was fitted on: realised over estimated was .5 to .85."""
NEWEST: Final = 3
"""The estimate rests on the newest third of the labels: what the cache gets wrong changes as it fills ..."""
FEWEST_NEWEST: Final = 300
"""... and on at least so many. Fewer would be chance."""
MISFIT: Final = 0.5
"""The estimate is never under this part of the raw share of wrong labels, however well the curve speaks."""
TRAFFIC_NEEDED: Final = 20
FIRST_LOOK: Final = 300
STRICTEST: Final = 1.5
"""The scan begins where there are so many times the labels that zero errors would need: with just enough of them a
single unlucky verdict would undo any proof."""
_SCANNED: Final = 100
_GIVE_UP: Final = 6
_BISECTIONS: Final = 60


def upper_bound(wrong: int, total: int, alpha: float) -> float:
    """The one-sided Clopper-Pearson bound: the largest share of wrong ones that ``wrong`` of ``total`` do not refute."""
    return 1.0 if wrong >= total else float(betaincinv(wrong + 1, total - wrong, 1 - alpha))


def interval(wrong: int, total: int, alpha: float = ALPHA) -> tuple[float, float]:
    """The two-sided Clopper-Pearson interval."""
    low = 0.0 if wrong == 0 else float(betaincinv(wrong, total - wrong + 1, alpha / 2))
    return low, upper_bound(wrong, total, alpha / 2)


def labels_needed(budget: float, alpha: float = ALPHA) -> int:
    """How many labels without a wrong one prove a budget: 59, 149, 299 for 5, 2, 1%."""
    return math.ceil(math.log(alpha) / math.log1p(-budget))


def alpha_at(look: int, alpha: float = ALPHA) -> float:
    """What the ``look``-th look (from 1) may spend, so that all looks together spend alpha."""
    return 6 * alpha / (math.pi * look) ** 2


def look_at(labels: int) -> int:
    """Which look it is with so many labels: a new one each time that they have doubled.

    Fits in between look at mostly the same labels and spend no alpha of their own.
    """
    return max(1, 1 + math.floor(math.log2(max(labels, 1) / FIRST_LOOK)))


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


def certified(scores: Vector, right: Vector, *, budget: float, alpha: float) -> float | None:
    """The loosest score from which serving is certified; None where nothing is.

    Begins at a strict score, chosen without looking at a verdict by the number of labels above it, and ends at the first
    failure.
    """
    order, wrong = _from_strict(scores, right)
    loosest: float | None = None
    first = math.ceil(STRICTEST * labels_needed(budget, alpha))
    for count in range(first, len(order) + 1, max(1, len(order) // _SCANNED)):
        if upper_bound(int(wrong[count - 1]), count, alpha) > budget:
            break
        loosest = float(scores[order[count - 1]])
    return loosest


def estimated(scores: Vector, right: Vector, weights: Vector, traffic: Vector, *, budget: float) -> float | None:
    """The loosest score from which the estimated share of wrong hits is within the budget; None where there is none.

    The estimate is the mean, over the ``traffic`` (scores of recent requests, labelled or not) that would be served, of
    the chance to be wrong at each score; that chance is the scores' own, recalibrated on the labels. ``weights`` are one
    over the chance with which each label was asked for: what is served is seldom labelled, and counts no less for it.
    """
    order, wrong = _from_strict(scores, right)
    newest = max(len(scores) // NEWEST, FEWEST_NEWEST)
    curve = Calibration.of(scores[-newest:], right[-newest:], weights[-newest:])
    served = np.sort(traffic)[::-1]
    risk = np.cumsum(1 - curve.chance(served)) / np.arange(1, len(served) + 1)
    loosest: float | None = None
    for count in range(LABELS_TO_ESTIMATE, len(order) + 1, max(1, len(order) // _SCANNED)):
        score = float(scores[order[count - 1]])
        above = int(np.searchsorted(-served, -score, side="right"))
        if above < TRAFFIC_NEEDED:
            continue
        seen = (float(wrong[count - 1]) + 0.5) / (count + 1)
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
    def of(cls, scores: Vector, right: Vector, weights: Vector) -> Calibration:
        """Fitted on weighted labels by Newton's method, held near the identity when they are few."""
        scores = np.clip(scores, -12.0, 12.0)
        rows = np.stack([np.ones(len(scores)), scores], axis=1)
        start, ridge = np.array([0.0, 1.0]), np.array([1.0, 8.0])
        curve = start.copy()
        for _ in range(25):
            chance = sigmoid(rows @ curve)
            slope = rows.T @ (weights * (chance - right)) + ridge * (curve - start)
            bend = (rows * (weights * chance * (1 - chance))[:, None]).T @ rows + np.diag(ridge)
            curve = curve - np.clip(np.linalg.solve(bend, slope), -1.0, 1.0)
        return cls(float(curve[0]), float(curve[1]))

    def chance(self, scores: Vector) -> Vector:
        """The chance to be right at each score."""
        return sigmoid(self.intercept + self.slope * scores)


def _from_strict(scores: Vector, right: Vector) -> tuple[NDArray[np.intp], Vector]:
    """Labels from the highest score down, and how many wrong ones there are up to each."""
    order = np.argsort(-scores, kind="stable")
    return order, np.cumsum(1.0 - right[order])
