"""A circuit breaker, without a clock of its own: after several failures in a row a port is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class BreakerState(IntEnum):
    """The values of ``cacheproxy_breaker_state``."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(slots=True)
class Breaker:
    """Opens after ``threshold`` failures in a row; after a cool-down one trial call decides whether it closes.

    The first cool-down is short, since much of what fails was only slow for a moment: a start, a busy machine. Each
    trial that fails doubles it, up to ``cooldown_s``.
    """

    threshold: int = 5
    first_cooldown_s: float = 0.5
    cooldown_s: float = 5.0
    _failures: int = 0
    _opened_at: float | None = None
    _trial_at: float | None = None
    _failed_trials: int = 0

    def allows(self, now: float) -> bool:
        """Whether a call may be made now. While half open only one caller gets a yes per cool-down."""
        if self._opened_at is None:
            return True
        last = self._opened_at if self._trial_at is None else self._trial_at
        if now - last < self._pause_s:
            return False
        self._trial_at = now
        return True

    def succeeded(self) -> None:
        """A call worked."""
        self._failures = self._failed_trials = 0
        self._opened_at = self._trial_at = None

    def failed(self, now: float) -> None:
        """A call failed or took too long."""
        self._failures += 1
        self._failed_trials += self._trial_at is not None
        if self._failures >= self.threshold:
            self._opened_at = now
            self._trial_at = None

    @property
    def _pause_s(self) -> float:
        return min(self.cooldown_s, self.first_cooldown_s * 2.0 ** min(self._failed_trials, 16))

    def state(self, now: float) -> BreakerState:
        """The state to report."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now - self._opened_at < self._pause_s else BreakerState.HALF_OPEN
