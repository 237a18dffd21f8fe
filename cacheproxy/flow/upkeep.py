"""What has to be done now and then: follow what others wrote, write what was counted, sweep what expired.

Each round stands alone: a failed one is counted by its shelter and the next one comes all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import ProxyError
from cacheproxy.flow.outbox import Outbox
from cacheproxy.model import MISSED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from cacheproxy.events import Audited, Served
    from cacheproxy.flow.elsewhere import Elsewhere
    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.outbox import Batch
    from cacheproxy.flow.pools import Pools
    from cacheproxy.flow.prompts import Prompts
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.model import Change, Selection
    from cacheproxy.ports import Ledger, Store, VectorIndex
    from cacheproxy.tasks import TaskSet

log = logging.getLogger(__name__)

FOLLOW_S: Final = 0.1
FLUSH_S: Final = 0.5
SWEEP_S: Final = 30.0
MOST_COUNTED: Final = 20_000
"""Entries whose hits wait for the store."""
_INDEXED_AT_ONCE: Final = 100
_ROUNDS: Final = 100
"""Of following what happened up to a moment."""


class HitCounts:
    """An observer that counts hits by entry, for eviction. ``dropped`` is called for each that will not be."""

    def __init__(self, dropped: Callable[[], None]) -> None:
        self.unwritten: Outbox[Counter[str]] = Outbox(Counter)
        self._dropped = dropped

    def served(self, event: Served) -> None:
        """Count a hit."""
        if not event.entry_id:
            return
        hits = self.unwritten.waiting
        if event.entry_id in hits or len(self.unwritten) < MOST_COUNTED:
            hits[event.entry_id] += 1
        else:
            self._dropped()

    def audited(self, event: Audited) -> None:
        """Nothing: being checked is no use."""


class Upkeep:
    """The rounds. ``now`` and ``clock`` as in ``World``.

    ``written`` waits until the store has seen what was learnt; ``forget_unstored`` drops what it did not take.
    """

    def __init__(
        self,
        *,
        store: Store,
        index: VectorIndex,
        l1: L1,
        prompts: Prompts,
        ledger: Ledger,
        pools: Pools,
        elsewhere: Elsewhere,
        hits: HitCounts,
        shelter: Shelter,
        written: Callable[[], Awaitable[None]],
        forget_unstored: Callable[[], None],
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._index = index
        self._l1 = l1
        self._prompts = prompts
        self._ledger = ledger
        self._pools = pools
        self._elsewhere = elsewhere
        self._hits = hits
        self._shelter = shelter
        self._written = written
        self._forget_unstored = forget_unstored
        self._now = now
        self._clock = clock
        self._indexing = asyncio.Lock()
        self.entries = 0
        """How many entries the store held when it was last counted."""

    def start(self, tasks: TaskSet) -> None:
        """Begin the rounds, in the background."""
        tasks.start(_every(FOLLOW_S, self.follow), name="follow")
        tasks.start(_every(FOLLOW_S, self._elsewhere.follow), name="elsewhere")
        tasks.start(_every(FLUSH_S, self.flush), name="flush")
        tasks.start(_every(SWEEP_S, self.sweep), name="sweep")

    async def follow(self) -> Sequence[Change] | None:
        """Apply what changed in the store by other hands, or by expiry and eviction; what that was.

        None where the store does not tell.
        """
        asked = self._clock()
        changes = await self._shelter.call("changes", self._store.changes)
        if changes is None:
            return None
        # Memory first, all of it before anything else is waited for: nobody else is told of these changes again.
        if MISSED in changes:
            self._forget_all()
        if any(change.row is None for change in changes):
            self._forget_unstored()  # it may have been meant, too
        ids = [change.entry_id for change in changes]
        self._l1.drop(ids)
        self._prompts.forget(ids)
        self._l1.vouch(asked)
        async with self._indexing:  # else what came might be put in after it went, which another call was told
            for number, change in enumerate(changes):
                if change is MISSED:
                    continue
                if change.row is None:
                    await self._reindex(self._index.remove(change.entry_id, change.scope))
                elif not self._index.shared:
                    await self._reindex(self._index.add(change.row))
                if number % _INDEXED_AT_ONCE == 0:
                    await asyncio.sleep(0)  # a shard that is read anew is many, and requests need not wait for them
        return changes

    def _forget_all(self) -> None:
        self._l1.clear()
        self._prompts.clear()

    async def flush(self) -> None:
        """Write the ledger, the verdicts and the hit counts. None of them waits for the others."""
        await asyncio.gather(
            self._pools.flush(),
            self._shelter.call("flush", self._ledger.flush),
            self._hits.unwritten.send(self._touch),
        )

    async def finish(self, within_s: float) -> None:
        """``flush`` for the last time, however much waits: a store that does not answer must not hold up the end."""
        try:
            async with asyncio.timeout(within_s):
                await self.flush()
        except TimeoutError:
            log.warning("the store took more than %g s: sums, verdicts or counts of hits were not written", within_s)

    async def _touch(self, batch: Batch[Counter[str]]) -> bool:
        touch = partial(self._store.touch, batch.content, self._now(), batch=batch.number)
        return await self._shelter.call("touch", touch) is not None

    async def sweep(self) -> None:
        """Delete what expired or is over the limits."""
        await self._shelter.call("sweep", partial(self._store.sweep, self._now()))
        self.entries = await self._shelter.call("count", self._store.count) or 0

    async def evict(self, selection: Selection) -> None:
        """Remove entries everywhere, at once, as far as the store answers in time."""
        await self._shelter.call("remove", partial(self.purge, selection))

    async def purge(self, selection: Selection) -> int:
        """Remove entries everywhere, at once, those still on their way to the store too; how many there were.

        Takes as long as it takes. Raises ``PortUnavailable``.
        """
        await self._written()
        removed = await self._store.remove(selection)
        self._forget_unstored()
        # The store tells of what went only after it is gone, so that nobody can put it into memory again.
        async for _ in self._caught_up():
            pass
        return removed

    async def expire(self, entry_id: str, at: float) -> bool:
        """Give an entry another time to expire, everywhere, at once. False when it is gone. Raises as ``purge``."""
        await self._written()
        changed = await self._store.expire_at(entry_id, at)
        async for changes in self._caught_up():
            for row in [change.row for change in changes if change.entry_id == entry_id]:
                if row is not None and self._index.shared:  # which drops entries by itself, at the time that it knows
                    await self._reindex(self._index.add(replace(row, expires_at=at)))
        return changed

    async def _caught_up(self) -> AsyncIterator[Sequence[Change]]:
        """Follow until what had happened by now is applied. Others may be so busy that something always has."""
        for _ in range(_ROUNDS):
            changes = await self.follow()
            if changes is None:  # what went is not told, so anything may be gone
                self._forget_all()
            if not changes:
                return
            yield changes

    async def _reindex(self, change: Awaitable[None]) -> None:
        try:
            await change
        except ProxyError as error:
            log.warning("the index could not follow the store: %s", error)


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("a round of upkeep failed")
        await asyncio.sleep(seconds)
