"""Keeps a Redis store within its limits: what was not used for longest goes, whichever shard it is in.

Redis's own eviction (``maxmemory-policy allkeys-...``) would take whatever key it finds: an answer without what finds
it, a log that others follow, the ledger. So the proxies evict, and a Redis for this store is set to ``noeviction``.

Each process knows each shard's sums from its own writes there, and looks at all of them at every sweep. With many
proxies the limits are therefore kept to within what is stored between two sweeps.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.store.entries import Totals
from cacheproxy.store.redis_scripts import DROP, OLDEST, SWEEP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.store.entries import StoreLimits
    from cacheproxy.store.redis_layout import Layout
    from cacheproxy.store.redis_link import Link

_OLDEST_AT_ONCE: Final = 200
"""Of each shard."""


class Room:
    """What the shards hold, and how room is made. ``writing`` is the writer's name and the length of the log."""

    def __init__(self, link: Link, layout: Layout, *, limits: StoreLimits, writing: tuple[str, int]) -> None:
        self._link = link
        self._layout = layout
        self._limits = limits
        self._writing = writing
        self._held: dict[int, Totals] = {}
        self._making = False

    def told(self, shard: int, sums: Sequence[bytes | None]) -> None:
        """A write has told what its shard holds."""
        self._held[shard] = _totals(sums)

    async def look(self) -> Totals:
        """What all shards hold."""
        shards = range(self._layout.shards)
        sums = await self._link.ask_all(
            [("HMGET", self._layout.key(shard, "meta"), "entries", "bytes") for shard in shards]
        )
        for shard, told in zip(shards, sums, strict=True):
            self.told(shard, told)
        return self._together()

    async def make(self, now: float, *, spared: Sequence[str] = ()) -> int:
        """Past the limits, delete expired entries, then the least recently used; how many went.

        Of the ``spared`` entries none goes while there are others, and the last never. A hundredth more than needed
        goes at once, so that a full store does not evict with every put.
        """
        if self._making or self._limits.hold(self._together()):
            return 0
        self._making = True
        try:
            return await self._make(now, spared)
        finally:
            self._making = False

    async def _make(self, now: float, spared: Sequence[str]) -> int:
        if self._limits.hold(await self.look()):
            return 0
        shards = range(self._layout.shards)
        dropped: int = sum(
            await self._link.ask_all(
                [SWEEP(self._layout.tag(shard), *self._writing, repr(now), _OLDEST_AT_ONCE) for shard in shards]
            )
        )
        for kept in (spared, spared[-1:]):
            dropped += await self._evict(frozenset(kept))
        return dropped

    async def _evict(self, kept: frozenset[str]) -> int:
        dropped = 0
        while not self._limits.hold(held := await self.look()):
            chosen = self._least_used(await self._oldest(), held, kept)
            if not chosen:
                break
            of_shards: dict[int, list[bytes]] = defaultdict(list)
            for shard, entry_id in chosen:
                of_shards[shard].append(entry_id)
            dropped += sum(
                await self._link.ask_all(
                    [DROP(self._layout.tag(shard), *self._writing, *ids) for shard, ids in of_shards.items()]
                )
            )
        return dropped

    async def _oldest(self) -> list[tuple[float, bytes, int, int]]:
        """The least recently used entries of all shards: when, id, size and shard, oldest first."""
        shards = range(self._layout.shards)
        told = await self._link.ask_all([OLDEST(self._layout.tag(shard), _OLDEST_AT_ONCE) for shard in shards])
        return list(heapq.merge(*(_ranked(each, shard) for shard, each in zip(shards, told, strict=True))))

    def _least_used(
        self, oldest: Sequence[tuple[float, bytes, int, int]], held: Totals, kept: frozenset[str]
    ) -> list[tuple[int, bytes]]:
        """The entries without which the store is within its limits, as far as so many suffice."""
        limits = self._limits.roomy()
        chosen: list[tuple[int, bytes]] = []
        for _, entry_id, size, shard in oldest:
            if limits.hold(held):
                break
            if entry_id.decode("utf-8", "surrogatepass") not in kept:
                chosen.append((shard, entry_id))
                held = Totals(held.entries - 1, held.size - size)
        return chosen

    def _together(self) -> Totals:
        held = self._held.values()
        return Totals(sum(each.entries for each in held), sum(each.size for each in held))


def _totals(sums: Sequence[bytes | None]) -> Totals:
    entries, size = sums
    return Totals(int(entries or 0), int(size or 0))


def _ranked(told: Sequence[Any], shard: int) -> list[tuple[float, bytes, int, int]]:
    return [(float(told[at + 1]), told[at], int(told[at + 2]), shard) for at in range(0, len(told), 3)]
