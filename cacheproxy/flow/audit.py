"""Verdicts: what a fresh answer says of the cached one. Off the request's path, always.

A miss that had a candidate is judged with the fresh answer at hand. A hit that a coin chose before the decision is
asked again in the background. Either way the verdict becomes a label, and tells where the fresh answer belongs in the
index: as a further key of an answer that says the same, or as one of its own.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy import jsontext
from cacheproxy.core.policy import Serve
from cacheproxy.core.pool import Label, Source
from cacheproxy.model import Checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheproxy.core.features import Group
    from cacheproxy.core.policy import Assessed, Policy
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.pools import LivePool, Pools
    from cacheproxy.flow.recall import Recalled
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.flow.told import Teller
    from cacheproxy.model import Entry, Verdict
    from cacheproxy.ports import Judge, Store, VectorIndex

JUDGED: Final = 3
"""Candidates that a fresh answer is compared with until one says the same."""
AT_ONCE: Final = 2
"""Judges at work. They use the embedding model too, and requests must not wait behind a crowd of them."""
MOST_WAITING: Final = 1_000
"""Fresh answers that wait for a judge; a further one is not judged."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a fresh answer belongs: the root of the group that it joins, None where it stays exact only."""

    root: str | None


class Auditor:
    """Compares fresh answers with cached ones. ``aliases`` bounds the further keys of one answer."""

    def __init__(
        self,
        *,
        judge: Judge,
        pools: Pools,
        policy: Policy,
        index: VectorIndex,
        store: Store,
        l1: L1,
        loading: Shelter,
        judging: Shelter,
        teller: Teller,
        aliases: int,
        now: Callable[[], float],
    ) -> None:
        self._judge = judge
        self._pools = pools
        self._policy = policy
        self._index = index
        self._store = store
        self._l1 = l1
        self._loading = loading
        self._judging = judging
        self._seats = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._teller = teller
        self._aliases = aliases
        self._now = now

    @property
    def waiting(self) -> int:
        """Fresh answers that wait for a judge, or are with one."""
        return self._waiting

    async def place(self, asked: Asked, fresh: Entry, recalled: Recalled | None) -> Placing:
        """Judge a fresh answer against what was near, and say where it belongs."""
        assessed = recalled.decision.assessed if recalled is not None else None
        if recalled is None or assessed is None or not self._policy.learns or self._waiting >= MOST_WAITING:
            return Placing(fresh.id)
        self._waiting += 1
        try:
            async with self._seats:
                return await self._placed(asked, fresh, recalled, assessed)
        finally:
            self._waiting -= 1

    async def _placed(self, asked: Asked, fresh: Entry, recalled: Recalled, assessed: Assessed) -> Placing:
        pool = self._pools.of(asked)
        text = _text(asked, fresh)
        hit = isinstance(recalled.decision, Serve)
        groups = (assessed.group,) if hit else (assessed.group, *assessed.others)[:JUDGED]
        for place, group in enumerate(groups):
            verdict = await self._verdict(asked, group, recalled, text)
            if verdict is None:
                continue  # the entry is gone or the judge broke down: nothing can be said
            self._teller.judged(asked, verdict, _checked(pool, group, recalled, verdict))
            right = verdict.same is True  # who cannot tell has not confirmed it
            if place == 0:
                recalled.finding.verdict = verdict.check
                self._label(asked, pool, assessed, recalled, right=right)
            else:
                pool.judged(group.root, right=right, similarity=group.similarity)
            if right:
                full = await self._index.keys_of(fresh.scope, group.root) > self._aliases
                return Placing(None if full else group.root)
        return Placing(fresh.id)

    async def _verdict(self, asked: Asked, group: Group, recalled: Recalled, fresh: str) -> Verdict | None:
        entry = recalled.entry
        if entry is None:
            nearest = group.keys[0].entry_id
            entry = self._l1.get(nearest)
            if entry is None:
                loaded = await self._loading.call("load", partial(self._store.load, [nearest]))
                entry = loaded[0] if loaded else None
        if entry is None:
            return None
        return await self._judging.call("judge", partial(self._judge.judge, asked.prompt, _text(asked, entry), fresh))

    def _label(self, asked: Asked, pool: LivePool, assessed: Assessed, recalled: Recalled, *, right: bool) -> None:
        hit = isinstance(recalled.decision, Serve)
        pool.shadowed_wrong += recalled.shadowed and not right
        self._pools.add(
            pool,
            Label(
                at=self._now(),
                root=assessed.group.root,
                features=assessed.group.features,
                right=right,
                source=Source.AUDIT if hit else Source.MISS,
                inclusion=recalled.audit or 1.0,
                principal=asked.tenant,
            ),
        )


def _checked(pool: LivePool, group: Group, recalled: Recalled, verdict: Verdict) -> Checked:
    served, arrival = recalled.entry, recalled.finding.arrival
    return Checked(
        pool=pool.name,
        entry_id=group.keys[0].entry_id if served is None else served.id,
        similarity=group.similarity,
        hit=isinstance(recalled.decision, Serve),
        request_id=arrival.id if arrival else "",
        by=verdict.by,
        why=verdict.why,
    )


def _text(asked: Asked, entry: Entry) -> str:
    """The plain text of an answer; its JSON where it cannot be read."""
    try:
        return asked.dialect.read(jsontext.parse(entry.answer)).text
    except ValueError:
        return entry.answer.decode("utf-8", "replace")
