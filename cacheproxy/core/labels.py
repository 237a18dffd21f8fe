"""Labels: verdicts on candidates, with the features as they were *before* the verdict. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cacheproxy.core.features import Features  # noqa: TC001 - pydantic reads labels from JSON, and needs it then

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS_KEPT: Final = 4_000
"""Older ones have aged out."""
LABELS_STORED: Final = 2 * LABELS_KEPT
"""What a store keeps of a pool: those that its last rule was made from, and up to so many that came since."""
LABELS_LIVE_S: Final = 14 * 86_400.0
"""So have those that are older than this when the newest label comes."""
LABELS_PER_ROOT: Final = 40
"""So many of one answer a model is fitted on and an estimate made from: none speaks louder. A proof takes them all, for
it is about what is asked, as often as it is asked (``certificate.certified``)."""
FAIR_SHARES: Final = 4
"""So many times its fair share of the labels one caller may have: nobody teaches the cache alone."""
FIRST_FIT: Final = 100
"""Labels that lead to the first rule."""


class Source(StrEnum):
    """How a label came about."""

    MISS = "miss"
    """The upstream was asked anyway, so only the judgement cost something."""
    AUDIT = "audit"
    """A hit, asked again by a coin that was thrown before deciding."""
    FEEDBACK = "feedback"
    """A hit, asked again since somebody complained of it: a verdict like any, but whoever complains chooses of what."""
    PAIR = "pair"
    """No verdict on a candidate: what the judge said of two fresh answers to one question. ``root`` names the judge."""


@dataclass(frozen=True, slots=True)
class Label:
    """A verdict on one candidate."""

    at: float
    root: str
    features: Features
    right: bool
    source: Source
    inclusion: float = 1.0
    """The chance with which this label was asked for: 1 on misses, the audit rate on hits."""
    principal: str = ""
    """Who asked: a keyed hash. No caller's labels make up more than a share of a fit."""

    def known_to(self, verifier: float) -> Label:
        """The label without what another verifier said, whose scores are on another scale."""
        if self.features.verifier in (0.0, verifier):
            return self
        return replace(self, features=self.features._replace(verifier=0.0, verified=0.0))


def capped(labels: Sequence[Label], *, of_root: int = LABELS_PER_ROOT) -> list[Label]:
    """The newest labels: at most so many of one answer, and of one caller four times a fair share."""
    newest = [label for label in labels[-LABELS_KEPT:] if label.at > labels[-1].at - LABELS_LIVE_S]
    principals = {label.principal for label in newest}
    fair = max(FIRST_FIT, FAIR_SHARES * len(newest) // (len(principals) or 1))
    roots: Counter[str] = Counter()
    of_principal: Counter[str] = Counter()
    kept: list[Label] = []
    for label in reversed(newest):
        # What one cap leaves out must not use up the other, or a caller could crowd others' labels of an answer out.
        if roots[label.root] < of_root and of_principal[label.principal] < fair:
            roots[label.root] += 1
            of_principal[label.principal] += 1
            kept.append(label)
    return kept[::-1]
