"""How often a judge errs, from verdicts on pairs of answers whose truth is known. Pure.

Pairs that are the same come from asking one prompt twice (A/A); pairs that are different from people's spot checks, or
from prompts whose answers are known to differ. A judge is to find wrong hits, so sensitivity is the share of different
pairs that it does not call the same, and specificity the share of same pairs that it does. A verdict that is missing
(None) counts as "different", as it does for whoever bounds wrong hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cacheproxy.core.certificate import interval

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` out of ``of`` with a two-sided interval for the rate behind it."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The rate itself; None where nothing was counted."""
        return self.count / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class JudgeNoise:
    """What a judge is worth."""

    sensitivity: Rate
    """Of different answers, those not called the same. 1 - this is how often a wrong hit passes."""
    specificity: Rate
    """Of same answers, those called the same. 1 - this is how often a right hit is called wrong."""
    undecided: int
    """Pairs that it could not tell, of both kinds."""


def judge_noise(
    same: Iterable[bool | None], different: Iterable[bool | None] = (), *, confidence: float = 0.95
) -> JudgeNoise:
    """From a judge's verdicts on pairs that are the same (A/A) and on pairs that are different.

    Each interval holds its rate with ``confidence``; a certificate that leans on both splits its alpha between them.
    """
    agreed, opposed = list(same), list(different)
    return JudgeNoise(
        sensitivity=_rate(sum(verdict is not True for verdict in opposed), len(opposed), confidence),
        specificity=_rate(sum(verdict is True for verdict in agreed), len(agreed), confidence),
        undecided=sum(verdict is None for verdict in (*agreed, *opposed)),
    )


def _rate(count: int, of: int, confidence: float) -> Rate:
    return Rate(count, of, *interval(count, of, 1 - confidence))
