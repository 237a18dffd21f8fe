"""Watches a promise in service: the audits of hits that were really served, drawn by our own coin.

Two instruments. The bound proves slowly and is valid whenever one looks (``certificate.proven``). The breaker is fast:
a bet against "at most the budget is wrong" that restarts when it is broke (a CUSUM); when it has won a hundredfold the
pool goes back to shadow. Under a kept promise one bet in a hundred wins so much, at most. It is made for a promise
that breaks badly: at a budget of 1% and ten times the error it takes some 30 audits, at twice the error some 700. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from cacheproxy.core import certificate

RATIO: Final = 5.0
"""The breaker bets on an error rate of so many times the budget ..."""
LIKELIEST: Final = 0.5
"""... but not on one over this."""
ALARM: Final = 100.0
"""What the bet has to be worth for the promise to count as broken: one bet in so many wins that by luck."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """Counts of one pool since its promise began, and the state of the breaker."""

    audits: int = 0
    wrong: int = 0
    evidence: float = 1.0
    """What the bet is worth."""
    trips: int = 0

    def audited(self, *, right: bool, budget: float) -> Monitor:
        """One more audit."""
        rate = max(budget, min(RATIO * budget, LIKELIEST))
        factor = (1 - rate) / (1 - budget) if right else rate / budget
        return replace(
            self,
            audits=self.audits + 1,
            wrong=self.wrong + (not right),
            evidence=max(1.0, self.evidence * factor),
        )

    @property
    def alarmed(self) -> bool:
        """Whether the promise is broken, as far as one can tell quickly."""
        return self.evidence >= ALARM

    def bound(self, alpha: float = certificate.ALPHA) -> float:
        """The anytime-valid upper bound on wrong per hit."""
        return certificate.proven(self.wrong, self.audits, alpha) if self.audits else 1.0

    def restarted(self) -> Monitor:
        """After a trip: the count starts anew, since what is served will be another rule's."""
        return Monitor(trips=self.trips + 1)
