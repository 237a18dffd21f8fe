"""Follows the logs of a Redis store, one for each shard: what other processes wrote, and what went by whatever hand.

A process keeps its place in each log. The record at that place is read again with those behind it: where it is no
longer the first, the log was trimmed past this process, or lost, and what the shard holds now is told in whole, after
``MISSED``. A place is taken before what it goes with is read, so that nothing comes between.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cacheproxy.model import MISSED, Change, IndexRow
from cacheproxy.store import codec
from cacheproxy.store.readers import Readers
from cacheproxy.store.redis_catalogue import Catalogue
from cacheproxy.store.redis_layout import name_of, text_of
from cacheproxy.store.redis_scripts import BEGIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from cacheproxy.store.redis_catalogue import Listed
    from cacheproxy.store.redis_layout import Layout
    from cacheproxy.store.redis_link import Command, Link
    from cacheproxy.store.vectors import EmbeddingName

_RECORDS_AT_ONCE: Final = 1000
"""Of each shard, in one call of ``changes``; the next goes on from there."""
_OURS_ARE_KNOWN: Final = (b"put", b"vector")
"""What the process that did it need not be told."""


class _Record(NamedTuple):
    entry_id: str
    key: bytes
    scope: bytes


class Follower:
    """Knows what the logs said so far. ``writer`` is this process's name in them."""

    def __init__(self, link: Link, layout: Layout, *, writer: str, log_entries: int) -> None:
        self.writer = writer
        self._link = link
        self._layout = layout
        self._catalogue = Catalogue(link, layout)
        self._log_entries = log_entries
        self._places: list[bytes] = []
        self._placed: list[set[str]] = [set() for _ in range(layout.shards)]
        """The entries of each shard whose vectors this process was told, and so may have in its index."""
        self.readers = Readers()
        self._following = asyncio.Lock()
        self.tells_of_new = True
        """Whether it tells of vectors that came: not where all processes have one index, to which they went already."""

    async def begin(self) -> None:
        """Take a place in every log. Raises ``PortUnavailable``."""
        self._places = await self._link.ask_all([self._begin(shard) for shard in range(self._layout.shards)])

    def placed(self, shard: int, entry_id: str) -> None:
        """This process placed a vector itself."""
        self._placed[shard].add(entry_id)

    async def rows(self, *, dimension: int, now: float) -> AsyncIterator[Sequence[IndexRow]]:
        """Every unexpired entry with a vector, in blocks."""
        for shard in range(self._layout.shards):
            async for rows in self._rows_of(shard, dimension=dimension, now=now):
                self._placed[shard].update(row.entry_id for row in rows)
                yield rows

    async def changes(self, embedding: EmbeddingName | None, *, now: float) -> Sequence[Change]:
        """What changed since the last call: entries that went first, then vectors that came from elsewhere.

        Vectors of other embeddings than these are not told. Raises ``PortUnavailable``, and then tells it the next
        time, as when its caller leaves early. One call at a time: to another the places would seem to be lost.
        """
        async with self._following:
            return await self._changes(embedding, now=now)

    async def _changes(self, embedding: EmbeddingName | None, *, now: float) -> Sequence[Change]:
        shards = range(self._layout.shards)
        commands = [
            ("XRANGE", self._layout.key(shard, "log"), self._places[shard], "+", "COUNT", _RECORDS_AT_ONCE)
            for shard in shards
        ]
        stored, *records = await self._link.ask_all([("HGET", self._layout.key(0, "meta"), "embedding"), *commands])
        ours = embedding is not None and stored == name_of(embedding)
        dimension = embedding.dimension if embedding is not None and ours else None
        logs = dict(zip(shards, records, strict=True))
        lost = [shard for shard, log in logs.items() if not log or log[0][0] != self._places[shard]]
        if lost:
            return await self._resync(lost[0], dimension=dimension, now=now)  # the others are lost the next time, too
        news = {shard: self._of_others(log[1:]) for shard, log in logs.items() if len(log) > 1}
        told = await self._told(news, dimension) if any(news.values()) else []
        for shard in news:
            self._places[shard] = logs[shard][-1][0]
        self._take_note(told)
        self.readers.told(
            record.entry_id for of_shard in news.values() for record, forget in of_shard.items() if forget
        )
        return told

    def _of_others(self, records: Iterable[Any]) -> dict[_Record, bool]:
        """What others did, and what anybody deleted or gave another time to expire, which is told in any case."""
        found: dict[_Record, bool] = {}
        for _, told in records:
            anybodys = told[b"k"] not in _OURS_ARE_KNOWN
            others = self.tells_of_new and told[b"w"] != self.writer.encode()
            if told[b"i"] and (anybodys or others):
                record = _Record(
                    text_of(told[b"i"]), bytes.fromhex(told[b"K"].decode()), bytes.fromhex(told[b"S"].decode())
                )
                found[record] = found.get(record, False) or anybodys
        return found

    async def _told(self, news: dict[int, dict[_Record, bool]], dimension: int | None) -> list[Change]:
        asked = [(record, shard, forget) for shard, records in news.items() for record, forget in records.items()]
        listed = await self._catalogue.listed([(record.entry_id, shard) for record, shard, _ in asked])
        there = {each.entry_id: each for each in listed}
        gone: list[Change] = []
        placed: list[Change] = []
        for record, _, forget in asked:
            found = there.get(record.entry_id)
            if found is None or found.meta is None or found.meta.key != record.key:
                gone.append(Change(*record, None))
            elif place := _changes([found], dimension):
                placed += place
            elif forget:
                gone.append(Change(*record, None))
        return [*gone, *placed]

    async def _resync(self, shard: int, *, dimension: int | None, now: float) -> Sequence[Change]:
        place, before = await self._place(shard), frozenset(self._placed[shard])
        there: list[IndexRow] = []
        if dimension is not None:
            there = [row async for rows in self._rows_of(shard, dimension=dimension, now=now) for row in rows]
        present = {row.entry_id for row in there}
        gone = [Change(entry_id, b"", b"", None) for entry_id in sorted(before - present)]
        self._places[shard] = place
        self._placed[shard] = present | (self._placed[shard] - before)  # and what this process placed meanwhile
        self.readers.told([None])
        return [MISSED, *gone, *(Change(row.entry_id, b"", row.scope, row) for row in there)]

    def _take_note(self, told: Sequence[Change]) -> None:
        for change in told:
            if change.row is not None:
                self._placed[self._layout.shard_of(change.key)].add(change.entry_id)
            else:
                self._placed[self._layout.shard_of(change.key)].discard(change.entry_id)

    async def _place(self, shard: int) -> bytes:
        place: bytes = await self._link.ask(*self._begin(shard))
        return place

    def _begin(self, shard: int) -> Command:
        return BEGIN(self._layout.tag(shard), self.writer, self._log_entries)

    async def _rows_of(self, shard: int, *, dimension: int, now: float) -> AsyncIterator[Sequence[IndexRow]]:
        async for block in self._catalogue.of_shard(shard):
            living = [each for each in block if each.expires_at > now]
            yield [change.row for change in _changes(living, dimension) if change.row is not None]


def _changes(there: Sequence[Listed], dimension: int | None) -> list[Change]:
    """Those that have a vector of this dimension."""
    size = (dimension or 0) * codec.BYTES_PER_NUMBER
    embedded = [
        (each, each.meta, each.vector)
        for each in there
        if each.meta is not None and each.vector is not None and len(each.vector) == size
    ]
    vectors = codec.decode_vectors([vector for _, _, vector in embedded], dimension or 0)
    return [
        Change(
            each.entry_id,
            meta.key,
            meta.scope,
            IndexRow(each.entry_id, meta.scope, row, each.root or each.entry_id, each.expires_at),
        )
        for (each, meta, _), row in zip(embedded, vectors, strict=True)
    ]
