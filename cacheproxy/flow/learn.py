"""What becomes of a complete answer: it is read, priced, and kept where it may be kept."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.flow.answers import Answers
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.audit import Auditor
    from cacheproxy.flow.coalesce import Outcome
    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.recall import Recall, Recalled
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import AnswerView, Entry, Vector
    from cacheproxy.ports import Store
    from cacheproxy.tasks import TaskSet


log = logging.getLogger(__name__)

MOST_WAITING: Final = 4096
"""Entries that may wait for the store."""
MOST_WAITING_BYTES: Final = 64 * 1024 * 1024
MOST_UNSTORED: Final = 10_000
"""What these may hold together."""


@dataclass(frozen=True, slots=True)
class KeepRules:
    """What is kept: answers up to ``max_answer_bytes``, ``samples`` of them per key."""

    max_answer_bytes: int = 4 * 1024 * 1024
    samples: int = 1


class Learner:
    """Turns answers into entries."""

    def __init__(
        self,
        *,
        store: Store,
        writes: Shelter,
        l1: L1,
        recall: Recall,
        auditor: Auditor,
        answers: Answers,
        rules: KeepRules,
        tasks: TaskSet,
    ) -> None:
        self._store = store
        self._writes = writes
        self._l1 = l1
        self._recall = recall
        self._auditor = auditor
        self._answers = answers
        self._rules = rules
        self._tasks = tasks
        self._entries: list[Entry] = []
        self._waiting_bytes = 0
        self._unstored: list[str] = []
        """Entries in memory that the store did not take. It tells nobody when they are purged, so they do not stay."""
        self._vectors: list[tuple[str, Vector, str]] = []
        self._written: list[asyncio.Future[None]] = []
        self._writing = False

    @property
    def waiting(self) -> int:
        """Answers that the store has not seen yet."""
        return len(self._entries)

    def learn(
        self,
        asked: Asked,
        answer: JsonObject,
        text: bytes | None,
        *,
        recalled: Recalled | None,
        upstream_ms: float,
        upstream: str,
    ) -> Outcome:
        """Read an answer, and keep it where that is allowed. An equal request finds it as soon as this returns.

        ``text`` is the answer as JSON, where there is one already; ``recalled`` what similarity knew before it came;
        ``upstream`` names who gave it.
        """
        outcome, read = self._answers.read(asked, answer, text, upstream_ms=upstream_ms, upstream=upstream)
        if read is not None and outcome.entry is not None and self._may_keep(asked, outcome.entry, read):
            self._l1.keep((*self._l1.find(outcome.entry.key), outcome.entry)[-self._rules.samples :])
            self._keep(asked, outcome.entry, recalled)
        return outcome

    def _may_keep(self, asked: Asked, entry: Entry, read: AnswerView) -> bool:
        return (
            read.storable
            and asked.bypass is None
            and asked.eligibility.ttl_s > 0
            and len(entry.answer) <= self._rules.max_answer_bytes
        )

    def _keep(self, asked: Asked, entry: Entry, recalled: Recalled | None) -> None:
        if len(self._entries) >= MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES:
            log.warning("the store is behind: an answer is kept in memory only, and for as long as that lasts")
            self._only_in_memory([entry])
        else:
            self._entries.append(entry)
            self._waiting_bytes += entry.size
            self._write_soon()
        if entry.semantic:
            self._recall.expect(entry.scope)
            self._tasks.start(self._place(asked, entry, recalled), name="place")

    def forget_unstored(self) -> None:
        """Drop from memory what is nowhere else: something was purged, or the store takes answers again."""
        unstored, self._unstored = self._unstored, []
        self._l1.drop(unstored)

    def _only_in_memory(self, entries: Sequence[Entry]) -> None:
        self._unstored += [entry.id for entry in entries]
        if len(self._unstored) > MOST_UNSTORED:
            self.forget_unstored()

    async def written(self) -> None:
        """Wait until the store has seen everything that was learnt before this call."""
        if self._writing:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._written.append(waiter)
            await waiter

    async def _place(self, asked: Asked, entry: Entry, recalled: Recalled | None) -> None:
        """Put an entry into the index, under the answer that it turns out to repeat or under its own."""
        try:
            placing = await self._auditor.place(asked, entry, recalled)
            if placing.root is None:
                return
            vector = recalled.vector if recalled is not None else None
            placed = await self._recall.place(entry, vector, placing.root)
        finally:
            self._recall.arrived(entry.scope)
        if placed is not None:
            self._vectors.append((entry.id, placed, placing.root))
            self._write_soon()

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._tasks.start(self._write(), name="write")

    async def _write(self) -> None:
        """Store what waits, all that came while the last of it was written at once."""
        try:
            while self._entries or self._vectors or self._written:
                # A vector comes after its entry, so what is taken together may be written in this order.
                entries, self._entries, self._waiting_bytes = self._entries, [], 0
                vectors, self._vectors = self._vectors, []
                waiters, self._written = self._written, []
                if entries:
                    if await self._writes.call("put", partial(self._put, entries)):
                        self.forget_unstored()
                    else:
                        self._only_in_memory(entries)
                if vectors:
                    await self._writes.call("set_vector", partial(self._set_vectors, vectors))
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)
        finally:
            self._writing = False

    async def _put(self, entries: Sequence[Entry]) -> bool:
        await self._store.put(*entries, samples=self._rules.samples)
        return True

    async def _set_vectors(self, vectors: Sequence[tuple[str, Vector, str]]) -> None:
        await asyncio.gather(*(self._store.set_vector(entry_id, vector, root) for entry_id, vector, root in vectors))
