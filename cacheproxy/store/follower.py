"""Follows the log of a shared database: what other processes wrote, and what went without being named.

State of the writer's thread: every method runs there, between the transactions, so that what is told never lags
behind what this process wrote itself. Keeps the directory true.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from cacheproxy.model import MISSED, Change, IndexRow
from cacheproxy.store import codec
from cacheproxy.store.directory import Directory
from cacheproxy.store.entries import Held

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

_ROWS_AT_ONCE: Final = 10_000
"""Log rows told by one call: bounds the vectors in memory; the next call goes on from there."""


class _Position(NamedTuple):
    sequence: int
    data_version: int
    """SQLite's counter of commits by other connections, as this connection sees it."""


class _There(NamedTuple):
    """An entry that is there, and its place in the index."""

    held: Held
    vector: bytes | None
    root: str | None
    went: bool
    """It was another one before, or it may have been."""


class Follower:
    """Knows what the log said so far. ``writer`` is this process's name in it."""

    def __init__(self, connection: sqlite3.Connection, *, writer: str) -> None:
        self.writer = writer
        with _snapshot(connection):
            self.directory = Directory(connection.execute("SELECT key, id FROM entries"))
            self._position = _end_of_log(connection)
        self._untold = False

    def committed(self, came: Iterable[Held], gone: Sequence[Held], *, changed: bool = False) -> None:
        """A transaction of this process put and deleted these entries, in this order, or changed some otherwise."""
        for held in came:
            self.directory.add(held.key, held.entry_id)
        for held in gone:
            self.directory.discard(held.key, held.entry_id)
        self._untold = self._untold or bool(gone) or changed

    def changes(self, connection: sqlite3.Connection, *, dimension: int | None) -> Sequence[Change]:
        """What changed since the last call: entries that went first, then vectors that came from elsewhere.

        A vector is told if it has ``dimension`` numbers. A follower whose place in the log was trimmed away is told
        ``MISSED``, what it knew that is there no more, its scope empty, and every vector.
        """
        with _snapshot(connection):
            end = _end_of_log(connection)
            if end.data_version == self._position.data_version and not self._untold:
                self._position = end
                return ()
            (first,) = connection.execute("SELECT coalesce(min(sequence), ?) FROM log", (end.sequence + 1,)).fetchone()
            if first > self._position.sequence + 1:
                told, reached = self._resync(connection, dimension), end.sequence
            else:
                reached = min(self._position.sequence + _ROWS_AT_ONCE, end.sequence)
                told = self._read_log(connection, reached, dimension)
        self._untold = reached < end.sequence
        self._position = _Position(reached, end.data_version)
        return told

    def _read_log(self, connection: sqlite3.Connection, reached: int, dimension: int | None) -> Sequence[Change]:
        # What the log says happened matters less than what is there now: an entry may have come, gone and come again.
        rows = connection.execute(
            "SELECT log.key, log.entry_id, log.scope, entries.id IS NOT NULL, vectors.vector, vectors.root, went "
            "FROM (SELECT key, entry_id, scope, max(kind = 'gone') AS went FROM log "
            "      WHERE sequence > ? AND sequence <= ? AND (writer <> ? OR kind = 'gone') "
            "      GROUP BY key, entry_id, scope) AS log "
            "LEFT JOIN entries ON entries.id = log.entry_id AND entries.key = log.key "
            "LEFT JOIN vectors USING (number)",
            (self._position.sequence, reached, self.writer),
        ).fetchall()
        gone = [Held(*row[:3]) for row in rows if not row[3]]
        there = [_There(Held(*row[:3]), *row[4:]) for row in rows if row[3]]
        return self._tell(gone, there, dimension)

    def _resync(self, connection: sqlite3.Connection, dimension: int | None) -> Sequence[Change]:
        rows = connection.execute(
            "SELECT key, id, scope, vector, root, 0 FROM entries LEFT JOIN vectors USING (number)"
        )
        there = [_There(Held(*row[:3]), *row[3:]) for row in rows]
        present = {(held.key, held.entry_id) for held, *_ in there}
        gone = [Held(key, entry_id, b"") for key, entry_id in self.directory if (key, entry_id) not in present]
        return [MISSED, *self._tell(gone, there, dimension)]

    def _tell(self, gone: Sequence[Held], there: Sequence[_There], dimension: int | None) -> Sequence[Change]:
        for held in gone:
            self.directory.discard(held.key, held.entry_id)
        for held, *_ in there:
            self.directory.add(held.key, held.entry_id)
        size = (dimension or 0) * codec.BYTES_PER_NUMBER
        embedded = [(held, vector, root) for held, vector, root, _ in there if vector and len(vector) == size]
        changed = [held for held, vector, _, went in there if went and not (vector and len(vector) == size)]
        told = [Change(held.entry_id, held.key, held.scope, None) for held in (*gone, *changed)]
        if dimension is not None:
            block = codec.decode_vectors([vector for _, vector, _ in embedded], dimension)
            told += [
                Change(
                    held.entry_id,
                    held.key,
                    held.scope,
                    IndexRow(held.entry_id, held.scope, row, root or held.entry_id),
                )
                for (held, _, root), row in zip(embedded, block, strict=True)
            ]
        return told


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Reads inside see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _end_of_log(connection: sqlite3.Connection) -> _Position:
    # The table's sequence and not its last row: that may have been trimmed. Reading it fixes the snapshot, whose data
    # version is asked after it.
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
    (data_version,) = connection.execute("PRAGMA data_version").fetchone()
    return _Position(0 if row is None else row[0], data_version)


def trim_log(connection: sqlite3.Connection, *, keep: int) -> None:
    """Forget all but the newest ``keep`` rows of the log."""
    end = _end_of_log(connection).sequence
    connection.execute("DELETE FROM log WHERE sequence <= ?", (end - keep,))
