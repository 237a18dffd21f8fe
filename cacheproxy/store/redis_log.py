"""Follows the logs of a Redis store, one for each shard: what other processes wrote, and what went by whatever hand.

A process keeps its place in each log. The record at that place is read again with those behind it: where it is no
longer the first, the log was trimmed past this process, or lost, and what the shard holds now is told in whole, after
``MISSED``. A place is taken before what it goes with is read, so that nothing comes between.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cacheproxy.model import MISSED, Change, IndexRow
from cacheproxy.store import codec
from cacheproxy.store.redis_layout import bytes_of, decode_meta, text_of
from cacheproxy.store.redis_scripts import BEGIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from cacheproxy.store.redis_layout import Layout
    from cacheproxy.store.redis_link import Link

_RECORDS_AT_ONCE: Final = 1000
"""Of each shard, in one call of ``changes``; the next goes on from there."""
_ROWS_AT_ONCE: Final = 500
_OURS_ARE_KNOWN: Final = (b"put", b"vector")
"""What the process that did it need not be told."""


class _Record(NamedTuple):
    entry_id: str
    key: bytes
    scope: bytes


class _State(NamedTuple):
    """What is there now, whatever the log said: an entry may have come, gone and come again."""

    key: bytes
    scope: bytes
    expires_at: float
    vector: bytes | None
    root: str


class Follower:
    """Knows what the logs said so far. ``writer`` is this process's name in them."""

    def __init__(self, link: Link, layout: Layout, *, writer: str, log_entries: int) -> None:
        self.writer = writer
        self._link = link
        self._layout = layout
        self._log_entries = log_entries
        self._places: list[bytes] = []
        self._placed: list[set[str]] = [set() for _ in range(layout.shards)]
        """The entries of each shard whose vectors this process was told, and so may have in its index."""
        self._reading: list[set[str | None]] = []

    async def begin(self) -> None:
        """Take a place in every log. Raises ``PortUnavailable``."""
        self._places = [await self._place(shard) for shard in range(self._layout.shards)]

    @contextmanager
    def reading(self) -> Iterator[set[str | None]]:
        """The ids that are told to be gone while the block lasts: what was read of them is not to be used.

        Else an entry that was read just before it was purged would be put into memory just after. None is among them
        when anything may be gone.
        """
        gone: set[str | None] = set()
        self._reading.append(gone)
        try:
            yield gone
        finally:
            self._reading.remove(gone)

    def placed(self, shard: int, entry_id: str) -> None:
        """This process placed a vector itself."""
        self._placed[shard].add(entry_id)

    async def rows(self, *, dimension: int, now: float) -> AsyncIterator[Sequence[IndexRow]]:
        """Every unexpired entry with a vector, in blocks."""
        for shard in range(self._layout.shards):
            async for rows in self._rows_of(shard, dimension=dimension, now=now):
                self._placed[shard].update(row.entry_id for row in rows)
                yield rows

    async def changes(self, *, dimension: int | None, now: float) -> Sequence[Change]:
        """What changed since the last call: entries that went first, then vectors that came from elsewhere.

        Raises ``PortUnavailable``, and then tells it the next time, as when its caller leaves early.
        """
        shards = range(self._layout.shards)
        commands = [
            ("XRANGE", self._layout.key(shard, "log"), self._places[shard], "+", "COUNT", _RECORDS_AT_ONCE)
            for shard in shards
        ]
        logs = dict(zip(shards, await self._link.ask_all(commands), strict=True))
        lost = [shard for shard, log in logs.items() if not log or log[0][0] != self._places[shard]]
        if lost:
            return await self._resync(lost[0], dimension=dimension, now=now)  # the others are lost the next time, too
        news = {shard: self._of_others(log[1:]) for shard, log in logs.items() if len(log) > 1}
        told = await self._told(news, dimension) if any(news.values()) else []
        for shard in news:
            self._places[shard] = logs[shard][-1][0]
        self._take_note(told)
        return told

    def _of_others(self, records: Iterable[Any]) -> list[_Record]:
        found: dict[_Record, None] = {}
        for _, fields in records:
            told = dict(zip(fields[::2], fields[1::2], strict=True)) if isinstance(fields, list) else fields
            if told[b"k"] in _OURS_ARE_KNOWN and told[b"w"] == self.writer.encode():
                continue
            if told[b"i"]:
                key, scope = bytes.fromhex(told[b"K"].decode()), bytes.fromhex(told[b"S"].decode())
                found.setdefault(_Record(text_of(told[b"i"]), key, scope))
                if told[b"k"] == b"expiry":
                    found[_Record(text_of(told[b"i"]), key, scope)] = None
        return list(found)

    async def _told(self, news: dict[int, list[_Record]], dimension: int | None) -> list[Change]:
        asked = [(shard, record) for shard, records in news.items() for record in records]
        states = await self._states([(shard, record.entry_id) for shard, record in asked])
        gone: list[Change] = []
        there: list[tuple[str, _State]] = []
        for (_, record), state in zip(asked, states, strict=True):
            if state is None or state.key != record.key:
                gone.append(Change(record.entry_id, record.key, record.scope, None))
            else:
                there.append((record.entry_id, state))
        return [*gone, *_changes(there, dimension)]

    async def _resync(self, shard: int, *, dimension: int | None, now: float) -> Sequence[Change]:
        place = await self._place(shard)
        there: list[IndexRow] = []
        if dimension is not None:
            there = [row async for rows in self._rows_of(shard, dimension=dimension, now=now) for row in rows]
        present = {row.entry_id for row in there}
        gone = [Change(entry_id, b"", b"", None) for entry_id in sorted(self._placed[shard] - present)]
        self._places[shard] = place
        self._placed[shard] = present
        for readers in self._reading:
            readers.add(None)
        return [MISSED, *gone, *(Change(row.entry_id, b"", row.scope, row) for row in there)]

    def _take_note(self, told: Sequence[Change]) -> None:
        for change in told:
            if change.row is not None:
                self._placed[self._layout.shard_of(change.key)].add(change.entry_id)
                continue
            self._placed[self._layout.shard_of(change.key)].discard(change.entry_id)
            for readers in self._reading:
                readers.add(change.entry_id)

    async def _place(self, shard: int) -> bytes:
        place: bytes = await self._link.ask(*BEGIN(self._layout.tag(shard), self.writer, self._log_entries))
        return place

    async def _rows_of(self, shard: int, *, dimension: int, now: float) -> AsyncIterator[Sequence[IndexRow]]:
        catalogue, after = self._layout.key(shard, "c"), b"-"
        while True:
            rows = await self._link.ask("ZRANGEBYLEX", catalogue, after, "+", "LIMIT", 0, _ROWS_AT_ONCE)
            if not rows:
                return
            after = b"(" + rows[-1]
            ids = [text_of(row.rpartition(b"\x01")[0].rpartition(b"\x01")[0]) for row in rows]
            states = await self._states([(shard, entry_id) for entry_id in ids])
            known = [
                (entry_id, state)
                for entry_id, state in zip(ids, states, strict=True)
                if state is not None and state.expires_at > now
            ]
            yield [change.row for change in _changes(known, dimension) if change.row is not None]

    async def _states(self, asked: Sequence[tuple[int, str]]) -> list[_State | None]:
        commands = [("HMGET", self._layout.key(shard, "e", entry_id), "m", "x", "v", "r") for shard, entry_id in asked]
        states: list[_State | None] = []
        for text, expires_at, vector, root in await self._link.ask_all(commands):
            meta = decode_meta(text)
            if meta is None:
                states.append(None)
                continue
            expiry = meta.expires_at if expires_at is None else float(expires_at)
            states.append(_State(meta.key, meta.scope, expiry, vector, text_of(root or b"")))
        return states


def _changes(there: Sequence[tuple[str, _State]], dimension: int | None) -> list[Change]:
    """Those that have a vector of this dimension."""
    if dimension is None:
        return []
    size = dimension * codec.BYTES_PER_NUMBER
    embedded = [(entry_id, state) for entry_id, state in there if state.vector and len(state.vector) == size]
    vectors = codec.decode_vectors([state.vector or b"" for _, state in embedded], dimension)
    return [
        Change(entry_id, state.key, state.scope, IndexRow(entry_id, state.scope, vector, state.root or entry_id))
        for (entry_id, state), vector in zip(embedded, vectors, strict=True)
    ]


__all__ = ["Follower", "bytes_of"]
