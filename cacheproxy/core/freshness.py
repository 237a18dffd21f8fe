"""Whether an entry is young enough to be served. Its lifetime is fixed when it is stored: hits do not prolong it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cacheproxy.model import Reason

if TYPE_CHECKING:
    from cacheproxy.model import Entry


def staleness(entry: Entry, *, now: float, max_age_s: float | None) -> Reason | None:
    """Why an entry must not be served any more; None when it may. ``max_age_s`` is the caller's own limit."""
    if now >= entry.expires_at:
        return Reason.EXPIRED
    if max_age_s is not None and now - entry.created_at > max_age_s:
        return Reason.TOO_OLD
    return None
