"""What a judge that costs money may spend: a share of what hits saved, and a little to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cacheproxy.model import Audited, Served

FIRST_USD: Final = 0.1
"""Without verdicts nothing similar is served, and so nothing saved: the first ones are paid in advance, each start."""


class Allowance:
    """A ``Budget`` that grows as an observer of requests. ``share`` is the part of each saving that may be spent."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._left_usd = FIRST_USD if share else 0.0

    def served(self, event: Served) -> None:
        """A part of what a hit saved may be spent."""
        self._left_usd += self._share * event.saved_usd

    def audited(self, event: Audited) -> None:
        """Nothing: what judges spend is settled with them."""

    def reserve(self, usd: float) -> bool:
        """See ``Budget``."""
        if usd > self._left_usd:
            return False
        self._left_usd -= usd
        return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """See ``Budget``."""
        self._left_usd += reserved_usd - spent_usd
