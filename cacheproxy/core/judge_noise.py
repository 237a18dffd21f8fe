"""How often a judge errs, from pairs of answers that should say the same: two fresh ones to one question. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

BELIEVED: Final = 0.03
"""The share of verdicts that are taken to be wrong before any was measured. The semantic judge errs in less, both ways,
on the simulator's reworded answers ..."""
BELIEVED_PAIRS: Final = 100
"""... and so many pairs are what that belief weighs."""
PAIRS_WANTED: Final = 200
"""Pairs after which no further ones are paid for."""
PAIRS: Final = "\x1fpairs"
"""What pairs are kept under, beside the pools' labels. No namespace has such a name: it cannot be printed."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What was measured of a judge: pairs of fresh answers to one question, and how many it called different."""

    pairs: int = 0
    disagreed: int = 0

    @classmethod
    def of(cls, agreed: Sequence[bool]) -> Self:
        """From what the judge said of each pair."""
        return cls(len(agreed), agreed.count(False))

    @property
    def error(self) -> float:
        """How often a verdict is taken to be wrong, either way.

        Measured is only how often it calls the same different. It is believed to err as often the other way, and not
        less than at first: a judge that never objects to answers that agree may as well not see those that do not.
        """
        measured = (BELIEVED * BELIEVED_PAIRS + self.disagreed) / (BELIEVED_PAIRS + self.pairs)
        return max(BELIEVED, measured)

    @property
    def missed(self) -> float:
        """The share of wrong hits that pass as right: surprising verdicts are asked for twice, one "same" counts."""
        return 1 - (1 - self.error) ** 2


UNMEASURED: Final = Noise()
