"""Verdicts: what a fresh answer says of the cached one. Off the request's path, always.

A miss that had a candidate is judged with the fresh answer at hand. A hit that a coin chose before the decision is
asked again in the background. Either way the verdict becomes a label, and tells where the fresh answer belongs in the
index: as a further key of an answer that says the same, or as one of its own. A verdict that surprises is asked for
once more, with a second fresh answer: judges err, and so do answers.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy.core.judge_noise import PAIRS_WANTED
from cacheproxy.core.labels import Label, Source
from cacheproxy.core.policy import SURPRISING, Serve
from cacheproxy.events import Checked
from cacheproxy.flow.answers import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheproxy.core.features import Group
    from cacheproxy.core.policy import Assessed, Policy
    from cacheproxy.flow.again import Again
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
"""Judges at work. They use the embedding model too, and a crowd of them would only wait for each other."""
MOST_WAITING: Final = 1_000
"""Fresh answers that wait for a judge; a further one is not judged."""
REPEATED: Final = 0.1
"""The share of audits that ask for two answers, to see how often the judge calls these different."""
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
        again: Again,
        teller: Teller,
        aliases: int,
        now: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._judge = judge
        self._pools = pools
        self._policy = policy
        self._index = index
        self._store = store
        self._l1 = l1
        self._loading = loading
        self._judging = judging
        self._again = again
        self._seats = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._teller = teller
        self._aliases = aliases
        self._now = now
        self._draw = draw

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
            return await self._placed(asked, fresh, recalled, assessed)
        finally:
            self._waiting -= 1

    async def recheck(self, asked: Asked, recalled: Recalled) -> bool:
        """Ask again for a hit that somebody complained of; whether the fresh answer says the same as the cached one.

        The verdict is a label that no certificate counts.
        """
        fresh, cached = await self._again.ask(asked), recalled.entry
        if fresh is None or cached is None:
            return False
        verdict = await self._judged(asked, cached, fresh)
        if verdict is None:
            return False
        assessed = recalled.decision.assessed
        told = None if assessed is None else _checked(self._pools.of(asked), assessed.group, recalled, verdict)
        self._teller.judged(asked, verdict, told)
        right = verdict.same is True
        if assessed is not None and self._policy.learns:
            self._label(asked, assessed, right=right, source=Source.FEEDBACK)
        return right

    async def _placed(self, asked: Asked, fresh: Entry, recalled: Recalled, assessed: Assessed) -> Placing:
        pool = self._pools.of(asked)
        hit = isinstance(recalled.decision, Serve)
        groups = (assessed.group,) if hit else (assessed.group, *assessed.others)[:JUDGED]
        for place, group in enumerate(groups):
            cached = recalled.entry or await self._load(group.keys[0].entry_id)
            verdict = None if cached is None else await self._judged(asked, cached, fresh)
            if cached is None or verdict is None:
                continue  # the entry is gone or the judge broke down: nothing can be said
            if place == 0 and verdict.same is not True and assessed.chance >= SURPRISING:
                verdict = await self._judged_again(asked, cached, fresh, verdict)
            self._teller.judged(asked, verdict, _checked(pool, group, recalled, verdict))
            right = verdict.same is True  # who cannot tell has not confirmed it
            if place == 0:
                recalled.finding.verdict = verdict.check
                pool.shadowed_wrong += recalled.shadowed and not right
                source = Source.AUDIT if hit else Source.MISS
                self._label(asked, assessed, right=right, source=source, inclusion=recalled.audit or 1.0)
                if hit:
                    await self._measure_judge(asked, fresh)
            else:
                pool.judged(group.root, right=right, similarity=group.similarity)
            if right:
                return await self._joining(asked, fresh, group, cached)
        return Placing(fresh.id)

    async def _judged_again(self, asked: Asked, cached: Entry, fresh: Entry, first: Verdict) -> Verdict:
        """The verdict on a second fresh answer, where the one on the first was a surprise; else that one."""
        second = await self._again.ask(asked) if self._again.affords(fresh) else None
        verdict = None if second is None else await self._judged(asked, cached, second)
        if verdict is None:
            return first
        self._teller.judged(asked, first, None)
        return verdict

    async def _measure_judge(self, asked: Asked, fresh: Entry) -> None:
        """By a coin, ask for a second answer to the same question and see whether the judge calls the two different."""
        if self._draw() >= REPEATED or self._pools.pairs.noise.pairs >= PAIRS_WANTED or not self._again.affords(fresh):
            return
        second = await self._again.ask(asked)
        verdict = None if second is None else await self._compare(asked, fresh, second)
        if verdict is not None:
            self._pools.pairs.measured(agreed=verdict.same is True)

    async def _joining(self, asked: Asked, fresh: Entry, group: Group, cached: Entry) -> Placing:
        """Where an answer belongs that says the same as one of a group's: into it, if it agrees with its root as well.

        Small differences would add up along a chain of answers that were each held against the last one only. Where
        the root is gone, the oldest of the group's entries nearby stands for it.
        """
        if await self._index.keys_of(fresh.scope, group.root) > self._aliases:
            return Placing(None)
        root = await self._load(group.root) or await self._load(min(key.entry_id for key in group.keys))
        if root is None or root.id == cached.id:
            return Placing(group.root)
        verdict = await self._compare(asked, root, fresh)
        return Placing(group.root if verdict is not None and verdict.same is True else fresh.id)

    async def _load(self, entry_id: str) -> Entry | None:
        entry = self._l1.get(entry_id)
        if entry is not None:
            return entry
        loaded = await self._loading.call("load", partial(self._store.load, [entry_id]))
        return loaded[0] if loaded else None

    async def _compare(self, asked: Asked, cached: Entry, fresh: Entry) -> Verdict | None:
        """The judge's verdict, which is on no hit: only its cost is told."""
        verdict = await self._judged(asked, cached, fresh)
        if verdict is not None:
            self._teller.judged(asked, verdict, None)
        return verdict

    async def _judged(self, asked: Asked, cached: Entry, fresh: Entry) -> Verdict | None:
        """The judge's verdict; None where it broke down."""
        texts = text_of(asked, cached), text_of(asked, fresh)
        async with self._seats:
            return await self._judging.call(
                "judge", partial(self._judge.judge, asked.prompt, *texts, trace=asked.arrival.trace)
            )

    def _label(self, asked: Asked, assessed: Assessed, *, right: bool, source: Source, inclusion: float = 1.0) -> None:
        label = Label(
            at=self._now(),
            root=assessed.group.root,
            features=assessed.group.features,
            right=right,
            source=source,
            inclusion=inclusion,
            principal=asked.tenant,
        )
        self._pools.add(self._pools.of(asked), label)


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
