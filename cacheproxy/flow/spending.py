"""What checking may cost: shares of what the cache saved, one for judges and one for answers asked for again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.events import CheckKind

if TYPE_CHECKING:
    from cacheproxy.events import Audited, Served

ALLOWANCE_USD: Final = 0.05
"""For the first verdicts, before anything was saved."""


class Spending:
    """An observer that counts savings, and the budget (``ports.Budget``) that they make. Since the process started."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved_usd = 0.0
        self._spent_usd = 0.0

    def served(self, event: Served) -> None:
        """Count what a hit saved."""
        self._saved_usd += event.saved_usd

    def audited(self, event: Audited) -> None:
        """Nothing: what a judge spends is settled with it."""

    def reserve(self, usd: float) -> bool:
        """Whether so much may be spent; if so, it counts as spent until it is settled."""
        if self._spent_usd + usd > ALLOWANCE_USD + self._share * self._saved_usd:
            return False
        self._spent_usd += usd
        return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Book what a reservation came to."""
        self._spent_usd += spent_usd - reserved_usd


class AuditLimit:
    """An observer that counts savings and what fresh answers to compare with cost. Since the process started.

    Past it the upstream is asked again for the least share of hits alone: what is promised has to be watched, and those
    few cost about that share of what these hits save.
    """

    def __init__(self, share: float, allowance_usd: float) -> None:
        self._share = share
        self._allowance_usd = allowance_usd
        self._saved_usd = 0.0
        self._spent_usd = 0.0

    def served(self, event: Served) -> None:
        """Count what a hit saved."""
        self._saved_usd += event.saved_usd

    def audited(self, event: Audited) -> None:
        """Count what an answer cost."""
        if event.kind is CheckKind.AUDIT:
            self._spent_usd += event.cost_usd

    def allows(self, usd: float) -> bool:
        """Whether an answer at this price is within the limit."""
        return self._spent_usd + usd <= self._allowance_usd + self._share * self._saved_usd
