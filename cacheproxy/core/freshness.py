"""Whether an entry is young enough to be served. Its lifetime is fixed when it is stored: hits do not prolong it."""

from __future__ import annotations

from typing import Protocol

from cacheproxy.model import Reason


class Aging(Protocol):
    """What has an age: an entry, or what is known of one."""

    @property
    def created_at(self) -> float:
        """Seconds since the epoch."""

    @property
    def expires_at(self) -> float:
        """The first moment at which it may not be served."""


def staleness(entry: Aging, *, now: float, max_age_s: float | None) -> Reason | None:
    """Why an entry must not be served any more; None when it may. ``max_age_s`` is the caller's own limit."""
    if now >= entry.expires_at:
        return Reason.EXPIRED
    if max_age_s is not None and now - entry.created_at > max_age_s:
        return Reason.TOO_OLD
    return None
