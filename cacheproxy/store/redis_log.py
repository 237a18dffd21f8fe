"""Follows the logs of a Redis store, one for each shard: what other processes wrote, and what went by whatever hand.

A process keeps its place in each log. The record at that place is read again with those behind it: where it is no
longer the first, the log was trimmed past this process, or lost. Then ``MISSED`` is told, the log is followed from a
new place on, and the shard is read anew beside it (``_Anew``), some pages in each call: meanwhile what the index holds
serves on, and at the end it is told what of it is gone. A place is taken before what it goes with is read, so that
nothing comes between.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cacheproxy.model import MISSED, Change, IndexRow
from cacheproxy.store import codec
from cacheproxy.store.readers import Readers
from cacheproxy.store.redis_catalogue import Catalogue
from cacheproxy.store.redis_layout import name_of, text_of
from cacheproxy.store.redis_scripts import BEGIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from cacheproxy.store.redis_catalogue import Listed, Page
    from cacheproxy.store.redis_layout import Layout
    from cacheproxy.store.redis_link import Command, Link
    from cacheproxy.store.vectors import EmbeddingName

_RECORDS_AT_ONCE: Final = 1000
"""Of each shard, in one call of ``changes``; the next goes on from there."""
_ANEW_AT_ONCE: Final = 2000
"""Entries that are read anew in one call: it has to end in time."""
_OURS_ARE_KNOWN: Final = (b"put", b"vector")
"""What the process that did it need not be told."""


class _Record(NamedTuple):
    entry_id: str
    key: bytes
    scope: bytes


@dataclass(slots=True)
class _Anew:
    """A shard that is being read anew."""

    doubtful: set[str]
    """Of what was told before, what has not been found yet."""
    last: bytes | None = None
    """How far it was read."""


class Follower:
    """Knows what the logs said so far. ``writer`` is this process's name in them."""

    def __init__(self, link: Link, layout: Layout, *, writer: str) -> None:
        self.writer = writer
        self._link = link
        self._layout = layout
        self._catalogue = Catalogue(link, layout)
        self._places: list[bytes] = []
        self._placed: list[set[str]] = [set() for _ in range(layout.shards)]
        """The entries of each shard whose vectors this process was told, and so may have in its index."""
        self._anew: dict[int, _Anew] = {}
        self.readers = Readers()
        self._following = asyncio.Lock()
        self._tells_of_new = True

    async def begin(self, *, tells_of_new: bool = True) -> None:
        """Take a place in every log. Raises ``PortUnavailable``.

        ``tells_of_new`` false: nothing is told of vectors that came, as where all processes have one index, to which
        they went already. Then only the logs of what went are read.
        """
        self._tells_of_new = tells_of_new
        self._places = await self._link.ask_all([self._begin(shard) for shard in range(self._layout.shards)])

    def placed(self, shard: int, entry_id: str) -> None:
        """This process placed a vector itself."""
        self._found(shard, entry_id)

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
            ("XRANGE", self._layout.key(shard, self._log), self._places[shard], "+", "COUNT", _RECORDS_AT_ONCE)
            for shard in shards
        ]
        stored, *records = await self._link.ask_all([("HGET", self._layout.key(0, "meta"), "embedding"), *commands])
        ours = embedding is not None and stored == name_of(embedding)
        dimension = embedding.dimension if embedding is not None and ours else None
        logs = dict(zip(shards, records, strict=True))
        lost = [shard for shard, log in logs.items() if not log or log[0][0] != self._places[shard]]
        found_again = await self._link.ask_all([self._begin(shard) for shard in lost])
        news = {shard: self._of_others(log[1:]) for shard, log in logs.items() if len(log) > 1 and shard not in lost}
        told = await self._told(news, dimension) if any(news.values()) else []
        pages = await self._pages([shard for shard in self._anew if shard not in lost])
        # From here on nothing is waited for: all of it is told, or none.
        for shard in news:
            self._places[shard] = logs[shard][-1][0]
        self._take_note(told)
        self.readers.told(
            record.entry_id for of_shard in news.values() for record, forget in of_shard.items() if forget
        )
        for shard, page in pages:
            told += self._read_anew(shard, page, dimension, now=now)
        if lost:
            told.insert(0, self._lose(dict(zip(lost, found_again, strict=True)), dimension))
        return told

    def _of_others(self, records: Iterable[Any]) -> dict[_Record, bool]:
        """What others did, and what anybody deleted or gave another time to expire, which is told in any case."""
        found: dict[_Record, bool] = {}
        for _, told in records:
            anybodys = told[b"k"] not in _OURS_ARE_KNOWN
            others = self._tells_of_new and told[b"w"] != self.writer.encode()
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

    def _lose(self, places: Mapping[int, bytes], dimension: int | None) -> Change:
        """These logs are followed from new places on: anything may have happened in their shards."""
        for shard, place in places.items():
            self._places[shard] = place
            if self._placed[shard] or (self._tells_of_new and dimension is not None):
                self._anew[shard] = _Anew(set(self._placed[shard]))
        self.readers.told([None])
        return MISSED

    async def _pages(self, shards: Sequence[int]) -> list[tuple[int, Page]]:
        """The next pages of these shards; the last one of a shard says that it ends."""
        pages: list[tuple[int, Page]] = []
        read = 0
        for shard in shards:
            last = self._anew[shard].last
            while read < _ANEW_AT_ONCE:
                page = await self._catalogue.page(shard, last)
                pages.append((shard, page))
                read += len(page.listed)
                last = page.last
                if last is None:
                    break
        return pages

    def _read_anew(self, shard: int, page: Page, dimension: int | None, *, now: float) -> Sequence[Change]:
        """What a page of a shard tells: vectors that are there, and at its end what is nowhere in it.

        An entry whose vector is of other embeddings is there, too: its older vector is searched until a restart.
        """
        anew = self._anew[shard]
        living = [each for each in page.listed if each.expires_at > now]
        anew.doubtful.difference_update(each.entry_id for each in living)
        there = _changes(living, dimension) if self._tells_of_new else []
        self._take_note(there)
        anew.last = page.last
        if anew.last is not None:
            return there
        del self._anew[shard]
        self._placed[shard] -= anew.doubtful
        self.readers.told(anew.doubtful)
        return [*(Change(entry_id, b"", b"", None) for entry_id in sorted(anew.doubtful)), *there]

    def _take_note(self, told: Sequence[Change]) -> None:
        for change in told:
            if change.row is not None:
                self._found(self._layout.shard_of(change.key), change.entry_id)
            else:
                self._placed[self._layout.shard_of(change.key)].discard(change.entry_id)

    def _found(self, shard: int, entry_id: str) -> None:
        self._placed[shard].add(entry_id)
        if (anew := self._anew.get(shard)) is not None:
            anew.doubtful.discard(entry_id)

    def _begin(self, shard: int) -> Command:
        return BEGIN(self._layout.tag(shard), self._log)

    @property
    def _log(self) -> str:
        return "log" if self._tells_of_new else "went"

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
