"""The exact layer: the entries under one key, from memory or from the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cacheproxy.core.freshness import staleness
from cacheproxy.model import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheproxy.flow.feedback import Withdrawn
    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.model import Entry
    from cacheproxy.ports import Store


class Exact:
    """Finds an answer to the very same request. ``samples`` answers per key are kept, and one of them is drawn."""

    def __init__(
        self,
        *,
        store: Store,
        reads: Shelter,
        l1: L1,
        samples: int,
        withdrawn: Withdrawn,
        now: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._store = store
        self._reads = reads
        self._l1 = l1
        self._withdrawn = withdrawn
        self._now = now
        self._draw = draw
        self.samples = samples

    async def find(self, key: bytes, *, max_age_s: float | None) -> Entry | Reason:
        """An entry that may be served, or why there is none."""
        found = self._l1.find(key)
        if len(found) < self.samples and self._store.may_hold(key):
            stored = await self._reads.call("find", partial(self._store.find, key))
            learnt = self._l1.find(key)
            if learnt != found:
                found = learnt  # while the store was asked, and so the newer
            elif stored is None and not found:
                return Reason.STORE_UNAVAILABLE
            elif stored and len(stored) >= len(found):
                found = tuple(stored)
                self._l1.keep(found)
        if not found:
            return Reason.NO_ENTRY
        now = self._now()
        stale: Reason | None = None
        fresh = []
        for entry in found:
            why = staleness(entry, now=now, max_age_s=max_age_s)
            if why is None and self._withdrawn.holds(entry.id):
                why = Reason.SUSPENDED
            if why is None:
                fresh.append(entry)
            else:
                stale = why
        if len(fresh) < self.samples:
            return Reason.SAMPLING if fresh or stale is None else stale
        return fresh[int(self._draw() * len(fresh))] if len(fresh) > 1 else fresh[0]
