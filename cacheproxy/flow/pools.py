"""The pools of this process: who belongs to which, labels kept in the store, rules made anew in a thread.

Processes that share a store tell each other their labels and broken promises through it, within a second. Each counts
them all, once, and makes its rules for itself; so they agree but for the labels of the last moment, and look as often
as one process would.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy.core.judge_noise import PAIRS
from cacheproxy.core.labels import LABELS_LIVE_S, LABELS_STORED, Source
from cacheproxy.core.monitor import Monitor
from cacheproxy.core.policy import Found, Serve, audit_rate
from cacheproxy.core.pool import Pool, fits_at
from cacheproxy.flow.outbox import Outbox
from cacheproxy.flow.pairs import JudgedPairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cacheproxy.core.features import Key
    from cacheproxy.core.labels import Label
    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.core.policy import Policy
    from cacheproxy.core.profile import Profile
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.outbox import Batch
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.ports import Labels, News
    from cacheproxy.tasks import TaskSet

DEFAULT: Final = "default"
MOST_POOLS: Final = 1_000
"""Namespaces come from callers: past this many they share the default pool."""
MOST_UNWRITTEN: Final = 10_000
"""Labels that wait for the store, of all pools. Past so many, later ones count in this process alone."""
log = logging.getLogger(__name__)


class LivePool(Pool):
    """A pool with a name, and labels on their way to the store."""

    def __init__(self, name: str, *, budget: float, prior: Likelihood | None, guards_final: bool = True) -> None:
        super().__init__(budget=budget, prior=prior, guards_final=guards_final)
        self.name = name
        self.unwritten: Outbox[list[Label]] = Outbox(list)
        self.keeping = asyncio.Lock()
        """One at a time writes to the store: what is forgotten late must not take newer labels along."""
        self.is_fitting = False
        self.broke_at: float | None = None
        """When its promise broke, until the store has forgotten what it rested on."""
        self.shadowed = 0
        """Hits that there would have been, but for shadow mode ..."""
        self.shadowed_wrong = 0
        """... and those of them that a fresh answer did not confirm."""

    def found(self, asked: Profile, keys: Sequence[Key]) -> Found:
        """What is known near a prompt."""
        roots = {key.root for key in keys}
        return Found(
            asked,
            keys,
            records={root: self.records[root] for root in roots if root in self.records},
            observed={root: self.observed[root] for root in roots if root in self.observed},
            rule=self.rule,
            tripped=self.tripped,
            budget=self.budget,
        )

    def restore(self, labels: Sequence[Label], *, ever: int) -> None:
        """Take up labels of earlier runs, oldest first. What they said of the promise counts, but breaks it no more.

        With them there have been ``ever`` labels, kept or not.

        They would have tripped the pool when they came, if not under a budget that was another one. The traffic of
        those runs is gone; a label stands for as many requests as its inclusion says.
        """
        self.earlier = max(0, ever - self.total - len(labels))
        for label in labels:
            self.labels.append(label)
            self.total += 1
            self.judged(label.root, right=label.right, similarity=label.features.similarity)
            for _ in range(0 if label.source is Source.FEEDBACK else round(1 / label.inclusion)):
                self.saw(label.features)
            if label.source is Source.AUDIT:
                self.monitor = self.monitor.audited(right=label.right, budget=self.budget)
                if self.monitor.alarmed:
                    self.monitor = Monitor()


class Pools:
    """Pools by name. A namespace is a pool; requests without one are in the default pool.

    ``budgets`` are the operator's: for every pool, and for some by name. ``verifier`` is the number of the one that is
    on, 0 without one; ``judge`` names the one that labels come from. ``dropped`` is called for each label that will not
    be written.
    """

    def __init__(
        self,
        *,
        labels: Labels,
        writes: Shelter,
        policy: Policy,
        budget: float,
        budgets: Mapping[str, float],
        prior: Likelihood | None,
        rate: float,
        verifier: float,
        judge: str,
        dropped: Callable[[], None],
        tasks: TaskSet,
        now: Callable[[], float],
    ) -> None:
        self._labels = labels
        self._writes = writes
        self._policy = policy
        self._budget = budget
        self._budgets = budgets
        self._prior = prior
        self._rate = rate
        self._verifier = verifier
        self._dropped = dropped
        self._tasks = tasks
        self._now = now
        self.pairs = JudgedPairs(labels=labels, writes=writes, judge=judge, now=now)
        """Those of the judge, which is one for all pools."""
        self._pools: dict[str, LivePool] = {}
        for name in (DEFAULT, *budgets):
            self.named(name)

    def __iter__(self) -> Iterator[LivePool]:
        return iter(list(self._pools.values()))

    def of(self, asked: Asked) -> LivePool:
        """The pool that a request belongs to."""
        return self.named(asked.controls.namespace or DEFAULT)

    def named(self, name: str) -> LivePool:
        """A pool, made when it is first asked for."""
        pool = self._pools.get(name)
        if pool is None:
            if len(self._pools) >= MOST_POOLS and DEFAULT in self._pools:
                return self._pools[DEFAULT]
            budget = self._budgets.get(name, self._budget)
            pool = self._pools[name] = LivePool(
                name, budget=budget, prior=self._prior, guards_final=self._policy.guards_final
            )
        return pool

    async def load(self) -> None:
        """Take up the labels of earlier runs, and fit the rules that they led to.

        Each from the labels that it was made from, so that no look is taken at others with confidence that was spent.
        """
        since = self._now() - LABELS_LIVE_S
        await self._labels.news()  # from here on others are heard
        for name in await self._labels.broken():
            self.named(name).tripped = True
        for name in await self._labels.pools():
            recent = [label for label in await self._labels.recent(name, LABELS_STORED) if label.at >= since]
            if name == PAIRS:
                for pair in recent:
                    self.pairs.hear(pair)
                continue
            pool, ever = self.named(name), max(len(recent), await self._labels.total(name))
            labels = [label.known_to(self._verifier) for label in recent]
            since_fit = min(len(labels), ever - fits_at(ever))
            pool.restore(labels[: len(labels) - since_fit], ever=ever - since_fit)
            await self._refit(pool)
            pool.restore(labels[len(labels) - since_fit :], ever=ever)
        news = await self._labels.news()  # some of it was among what was read
        unread = ((name, label) for name, label in news.labels if not self._has_read(name, label))
        self.hear(replace(news, labels=tuple(unread)))
        for pool in self:
            await self._refit(pool)

    async def _refit(self, pool: LivePool) -> None:
        if self._policy.keeps_budgets and pool.due and not pool.is_fitting:
            pool.adopt(await asyncio.to_thread(pool.fitting(noise=self.pairs.noise)))

    def _has_read(self, name: str, label: Label) -> bool:
        return name != PAIRS and label.known_to(self._verifier) in self.named(name).labels

    def hear(self, news: News) -> None:
        """Take over what other processes said."""
        for name in news.broken:
            pool = self._pools.get(name)
            if pool is None:
                self.named(name).tripped = True
            elif not (pool.tripped and pool.total == 0):
                log.warning("pool %s: another process found its promise broken", name)
                pool.trip()
                pool.unwritten.clear()
        for name, label in news.labels:
            if name == PAIRS:
                self.pairs.hear(label)
                continue
            pool = self.named(name)
            if pool.name == name:  # else there are too many pools, and its labels are nothing to the default one
                self._learn(pool, label.known_to(self._verifier), own=False)

    def add(self, pool: LivePool, label: Label) -> None:
        """A verdict came in."""
        self._learn(pool, label, own=True)

    def _learn(self, pool: LivePool, label: Label, *, own: bool) -> None:
        trips = pool.monitor.trips
        pool.add(label)
        if pool.monitor.trips > trips:
            log.warning(
                "pool %s: too many of the audited hits were wrong, so similar questions are not answered until new "
                "verdicts say that the budget of %s is kept",
                pool.name,
                pool.budget,
            )
            pool.unwritten.clear()
            pool.broke_at = self._now()
            self._tasks.start(self._keep(pool), name="forget")  # now: a crash must not bring the broken promise back
        elif own and sum(len(each.unwritten) for each in self) >= MOST_UNWRITTEN:
            self._dropped()
        elif own:
            pool.unwritten.waiting.append(label)
        if self._policy.keeps_budgets and pool.due and not pool.is_fitting:
            pool.is_fitting = True
            self._tasks.start(self._fit(pool), name="fit")

    def audit_rate(self, pool: LivePool, decision: Serve, *, affordable: bool) -> float:
        """The chance with which a hit is to be asked again."""
        return audit_rate(decision.stage, pool.hits, self._rate, affordable=affordable)

    async def flush(self) -> None:
        """Write the labels that are not written yet."""
        for pool in self:
            await self._keep(pool)
        await self.pairs.flush()

    async def _keep(self, pool: LivePool) -> None:
        async with pool.keeping:
            while (at := pool.broke_at) is not None:
                if not await self._writes.call("forget", partial(self._forget, pool, at)):
                    return  # what came since would be forgotten with the rest
                if pool.broke_at == at:  # else it broke again meanwhile
                    pool.broke_at = None
            await pool.unwritten.send(partial(self._write, pool.name))

    async def _write(self, name: str, batch: Batch[list[Label]]) -> bool:
        add = partial(self._labels.add, name, batch.content, batch=batch.number)
        return await self._writes.call("label", add) is not None

    async def _forget(self, pool: LivePool, at: float) -> bool:
        await self._labels.forget(pool.name, at)
        return True

    async def _fit(self, pool: LivePool) -> None:
        """Make a rule from what is known now; what comes meanwhile waits for the next one."""
        trips = pool.monitor.trips
        try:
            rule = await asyncio.to_thread(pool.fitting(noise=self.pairs.noise))
        finally:
            pool.is_fitting = False
        if pool.monitor.trips == trips:  # else the promise was broken meanwhile, by the labels that this rests on
            pool.adopt(rule)
            log.info("pool %s: a rule from %d labels, %s", pool.name, rule.labels, rule.stage(pool.budget))
