"""The embedded store: entries, vectors and proven credentials in one SQLite file.

A ``put`` is one transaction: after a crash, ``kill -9`` included, an entry is there whole or not at all. A miss is
answered from memory. Rows that no longer decode are deleted, counted and logged, and otherwise as if they were absent.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.model import EVERYTHING, MISSED
from cacheproxy.store import codec, entries, vectors
from cacheproxy.store.batches import forget_batches, is_new
from cacheproxy.store.credentials import SqliteCredentials, forget_credentials
from cacheproxy.store.database import Done, Share, open_database
from cacheproxy.store.entries import StoreLimits
from cacheproxy.store.follower import Follower, trim_log
from cacheproxy.store.readers import Readers
from cacheproxy.store.sqlite_labels import forget_stale
from cacheproxy.store.vectors import EmbeddingName, Placed
from cacheproxy.values import value

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from cacheproxy.model import Change, Entry, IndexRow, Selection, Uses, Vector
    from cacheproxy.store.database import Database, Outcome
    from cacheproxy.store.entries import Condition, Encoded, Held

__all__ = ["EmbeddingName", "SqliteStore", "StoreLimits", "open_sqlite"]

log = logging.getLogger(__name__)

_DELETED_AT_ONCE: Final = 1000
_VECTORS_AT_ONCE: Final = 1000
_LOG_ROWS: Final = 100_000


class _New(NamedTuple):
    """An entry to put, and when it was to be."""

    entry: Entry
    samples: int
    at: float


@value(frozen=True, slots=True)
class _Written:
    """What a transaction did to the table."""

    came: tuple[Held, ...] = ()
    gone: Sequence[Held] = ()
    changed: bool = False


class SqliteStore:
    """A ``Store`` in one file. Made by ``open_sqlite``."""

    def __init__(
        self, database: Database, follower: Follower, *, limits: StoreLimits, clock: Callable[[], float], log_rows: int
    ) -> None:
        self.database = database
        self.corrupt_rows = 0
        """How many rows did not decode since the store was opened."""
        self._credentials = SqliteCredentials(database)
        self._follower = follower
        self._limits = limits
        self._clock = clock
        self._log_rows = log_rows
        self._embedding: EmbeddingName | None = None
        self._readers = Readers()
        self._untold: deque[Sequence[Change]] = deque()
        """Changes on their way from the writer's thread to whoever asks for them."""

    # --- entries

    def may_hold(self, key: bytes) -> bool:
        """See ``Store``. All keys are in memory."""
        return key in self._follower.directory

    async def find(self, key: bytes) -> Sequence[Entry]:
        """See ``Store``. An unknown key costs no I/O."""
        if not self.may_hold(key):
            return ()
        with self._readers.reading() as reading:
            found = await self.database.read(lambda rows: _decode(entries.under_key(rows, key)), doing="find an entry")
            return reading.usable(await self._sound(found))

    async def load(self, ids: Sequence[str]) -> Sequence[Entry]:
        """See ``Store``."""

        def read(connection: sqlite3.Connection) -> _Decoded:
            payloads = entries.by_id(connection, ids)
            return _decode(entries.Encoded(entry_id, payloads[entry_id]) for entry_id in ids if entry_id in payloads)

        with self._readers.reading() as reading:
            return reading.usable(await self._sound(await self.database.read(read, doing="load entries")))

    async def put(self, *given: Entry, samples: int = 1) -> None:
        """See ``Store``. Past the limits, what was not used for longest makes room."""
        now = self._clock()
        fitting = [entry for entry in given if entry.size <= self._limits.max_bytes]
        shares = [
            (Share(self._put_all, _New(entry, samples, now), about=(entry.id, entry.key)), entry.size)
            for entry in fitting
        ]
        await self.database.write_each(shares, doing="store entries", settled=self._settled)
        if len(fitting) < len(given):
            raise PortUnavailable(f"an entry is more than the {self._limits.max_bytes} bytes that the store may hold")

    async def touch(self, hits: Mapping[str, int], at: float, *, batch: int | None = None) -> bool:
        """See ``Store``."""
        counted, writer = dict(hits), self._follower.writer

        def write(connection: sqlite3.Connection) -> bool:
            if not is_new(connection, writer=writer, about="hits", number=batch, at=at):
                return False
            entries.touch(connection, counted, at)
            return True

        return await self.database.write(write, doing="count hits")

    async def uses(self, ids: Sequence[str]) -> Mapping[str, Uses]:
        """See ``Store``."""
        return await self.database.read(lambda rows: entries.uses(rows, ids), doing="look up uses")

    async def expire_at(self, entry_id: str, at: float) -> bool:
        """See ``Store``."""
        writer = self._follower.writer
        written = await self.database.write(
            lambda rows: _Written(changed=entries.expire(rows, entry_id, at, writer=writer)),
            doing="let an entry expire",
            settled=self._settled,
        )
        return written.changed

    async def remove(self, selection: Selection) -> int:
        """See ``Store``. Thousands go in several transactions, so that others are not held up."""
        condition = entries.selected(selection)
        newest = await self.database.follow(entries.last_number, doing="remove entries")
        return await self._delete(entries.up_to(condition, newest), doing="remove entries")

    async def sweep(self, now: float) -> int:
        """See ``Store``. Also trims the log, and forgets what is old: proofs of credentials, verdicts, batches."""
        swept = await self._delete(entries.expired(now), doing="delete expired entries")

        def write(connection: sqlite3.Connection) -> _Written:
            trim_log(connection, keep=self._log_rows)
            forget_credentials(connection, now)
            forget_stale(connection, now)
            forget_batches(connection, now)
            return _Written(gone=entries.make_room(connection, self._limits, now=now, writer=self._follower.writer))

        evicted = await self.database.write(write, doing="make room", settled=self._settled)
        return swept + len(evicted.gone)

    async def browse(self, selection: Selection, *, limit: int, after: str = "") -> Sequence[Entry]:
        """See ``Store``."""
        condition = entries.selected(selection)

        def read(connection: sqlite3.Connection) -> _Decoded:
            pages = _Decoded([], [])
            last = after
            while (missing := limit - len(pages.sound)) > 0:
                rows = entries.page(connection, condition, after=last, limit=missing)
                pages = pages + _decode(rows)
                if len(rows) < missing:
                    break
                last = rows[-1].entry_id
            return pages

        return await self._sound(await self.database.survey(read, doing="list entries"))

    async def count(self, selection: Selection = EVERYTHING) -> int:
        """See ``Store``. Everything is counted already."""
        if selection == EVERYTHING:
            return (await self.database.read(entries.totals, doing="count entries")).entries
        condition = entries.selected(selection)
        return await self.database.survey(lambda rows: entries.count(rows, condition), doing="count entries")

    async def changes(self) -> Sequence[Change]:
        """See ``Store``. At most some thousands at once; the next call goes on from there.

        What a caller did not wait for is told to the next one.
        """
        embedding = self._embedding

        def read(connection: sqlite3.Connection) -> None:
            ours = embedding is not None and vectors.stored_embedding(connection) == embedding
            dimension = embedding.dimension if ours and embedding else None
            self._untold.append(self._follower.changes(connection, dimension=dimension))

        await self.database.follow(read, doing="follow the store's changes")
        told: list[Change] = []
        while self._untold:
            told += self._untold.popleft()
        self._readers.told(None if change is MISSED else change.entry_id for change in told)
        return told

    # --- vectors

    async def claim_embedding(self, model: str, dimension: int) -> None:
        """Say which embeddings this process stores, before ``set_vector``, ``vectors`` and ``changes`` deal in any.

        Raises ``ConfigError`` when the store holds vectors of another model or dimension.
        """
        claimed = EmbeddingName(model, dimension)
        other = await self.database.write(
            lambda rows: vectors.claim(rows, claimed), doing="claim the store's embeddings"
        )
        if other is not None:
            raise ConfigError(
                f"the store holds embeddings of {other}, the settings name {claimed}: "
                "set the stored model, or run `cacheproxy cache re-embed`"
            )
        self._embedding = claimed

    async def stored_embedding(self) -> EmbeddingName | None:
        """Which embeddings the store holds, whoever stored them."""
        return await self.database.read(vectors.stored_embedding, doing="look up the embeddings")

    async def drop_vectors(self) -> None:
        """Delete every vector and forget which embeddings they were; claim the new ones next. Roots are kept."""
        await self.database.write(vectors.drop, doing="delete the vectors")
        self._embedding = None

    async def keep_roots(self, roots: Mapping[str, str]) -> None:
        """Keep the roots, by id, of entries whose vectors are still to be made."""
        kept = dict(roots)
        await self.database.write(lambda rows: vectors.keep_roots(rows, kept), doing="keep roots")

    async def roots(self, ids: Sequence[str]) -> Mapping[str, str]:
        """See ``Store``."""
        return await self.database.read(lambda rows: vectors.roots_of(rows, ids), doing="look up roots")

    async def set_vector(self, entry_id: str, vector: Vector, root: str) -> None:
        """See ``Store``. Refuses a vector that is not of the claimed embeddings, with ``PortUnavailable``."""
        embedding = self._embedding
        if embedding is None or vector.shape != (embedding.dimension,):
            raise PortUnavailable(f"a vector of shape {vector.shape} does not belong to the embeddings {embedding}")
        try:
            encoded = codec.encode_vector(vector)
        except ValueError as error:
            raise PortUnavailable(f"keep a vector: {error}") from error

        share = Share(self._place_all, (Placed(entry_id, encoded, root), embedding), about=(entry_id,))
        await self.database.write(share, doing="keep a vector", weight=len(encoded))

    async def vectors(self) -> AsyncIterator[Sequence[IndexRow]]:
        """See ``Store``. Nothing before embeddings are claimed."""
        if self._embedding is None:
            return
        dimension, now, last = self._embedding.dimension, self._clock(), 0
        while True:
            block = partial(vectors.block, dimension=dimension, now=now, after=last, limit=_VECTORS_AT_ONCE)
            last, rows = await self.database.survey(block, doing="read the vectors")
            if not rows:
                return
            yield rows

    # --- credentials

    async def proven_at(self, credential: str) -> float | None:
        """See ``Store``."""
        return await self._credentials.proven_at(credential)

    async def prove(self, credential: str, at: float) -> None:
        """See ``Store``."""
        await self._credentials.prove(credential, at)

    async def revoke(self, credential: str) -> None:
        """See ``Store``."""
        await self._credentials.revoke(credential)

    async def proofs(self) -> Mapping[str, float]:
        """See ``Store``."""
        return await self._credentials.proofs()

    # --- what is written for many at once, in the writer's thread

    def _put_all(self, connection: sqlite3.Connection, news: Sequence[_New]) -> Sequence[_Written]:
        writer = self._follower.writer
        now = max(new.at for new in news)
        came: list[Held] = []
        gone: list[Held] = []
        for samples, alike in groupby(news, lambda new: new.samples):
            some = [new.entry for new in alike]
            some_came, some_gone = entries.insert(connection, some, samples=samples, used_at=now, writer=writer)
            came += some_came
            gone += some_gone
        spared = [new.entry.id for new in news]
        gone += entries.make_room(connection, self._limits, now=now, writer=writer, spared=spared)
        # Who made what go makes no difference: the last of them answers for it.
        return [*(_Written((held,)) for held in came[:-1]), _Written((came[-1],), gone)]

    def _place_all(
        self, connection: sqlite3.Connection, given: Sequence[tuple[Placed, EmbeddingName]]
    ) -> Sequence[None]:
        stored = vectors.stored_embedding(connection)
        if any(embedding != stored for _, embedding in given):
            raise PortUnavailable(f"the store has changed to the embeddings {stored}: restart to follow")
        vectors.place(connection, [placed for placed, _ in given], writer=self._follower.writer)
        return [None] * len(given)

    # --- bookkeeping

    def _settled(self, outcome: Outcome) -> None:
        """The directory learns of what was committed even when the waiter has left. Runs in the writer's thread."""
        if isinstance(outcome, Done):
            written = outcome.value
            self._follower.committed(written.came, written.gone, changed=written.changed)

    async def _delete(self, condition: Condition, *, doing: str) -> int:
        deleted = 0
        while True:
            written = await self.database.write(
                lambda rows: _Written(
                    gone=entries.delete(rows, condition, writer=self._follower.writer, limit=_DELETED_AT_ONCE)
                ),
                doing=doing,
                settled=self._settled,
            )
            deleted += len(written.gone)
            if len(written.gone) < _DELETED_AT_ONCE:
                return deleted

    async def _sound(self, found: _Decoded) -> Sequence[Entry]:
        """The entries that decoded; the rows that did not are deleted, if that is possible."""
        if found.corrupt:
            self.corrupt_rows += len(found.corrupt)
            log.error("deleting corrupt entries: %s", ", ".join(row.entry_id for row in found.corrupt))
            try:
                for row in found.corrupt:
                    await self._delete(entries.with_payload(row), doing="delete a corrupt entry")
            except PortUnavailable as error:
                log.warning("%s", error)
        return found.sound


@dataclass(frozen=True, slots=True)
class _Decoded:
    sound: Sequence[Entry]
    corrupt: Sequence[Encoded]

    def __add__(self, more: _Decoded) -> _Decoded:
        return _Decoded([*self.sound, *more.sound], [*self.corrupt, *more.corrupt])


def _decode(rows: Iterable[Encoded]) -> _Decoded:
    """Sorts rows into entries and damage; those of a later release are neither."""
    sound: list[Entry] = []
    corrupt: list[Encoded] = []
    for row in rows:
        try:
            entry = codec.decode(row.payload)
        except codec.NewerEntry:
            continue
        except codec.CorruptEntry:
            corrupt.append(row)
            continue
        if entry.id == row.entry_id:
            sound.append(entry)
        else:
            corrupt.append(row)
    return _Decoded(sound, corrupt)


@asynccontextmanager
async def open_sqlite(
    path: Path,
    *,
    clock: Callable[[], float],
    limits: StoreLimits | None = None,
    embedding: EmbeddingName | None = None,
    log_rows: int = _LOG_ROWS,
) -> AsyncIterator[SqliteStore]:
    """Open or create the store at ``path``; leaving the block finishes what was asked and closes it.

    ``clock`` gives seconds since the epoch. With ``embedding``, claims it. ``log_rows`` is how much of the log is kept
    for other processes to follow. Raises ``ConfigError``.
    """
    async with open_database(path, clock=clock) as database:
        writer = secrets.token_hex(8)
        follower = await database.follow(lambda rows: Follower(rows, writer=writer), doing="read the store's keys")
        store = SqliteStore(database, follower, limits=limits or StoreLimits(), clock=clock, log_rows=log_rows)
        if embedding is not None:
            await store.claim_embedding(embedding.model, embedding.dimension)
        yield store
