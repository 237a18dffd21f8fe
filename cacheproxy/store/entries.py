"""Entries as rows: the SQL of the embedded store, as functions of a connection inside somebody's transaction.

Whatever comes or goes is written to the log in the same transaction, under the name of its writer.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cacheproxy.errors import BadRequest, ConfigError
from cacheproxy.model import IndexRow
from cacheproxy.store import codec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from cacheproxy.model import Entry, Selection

_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_NO_LIMIT: Final = -1
_EXPIRED_AT_ONCE: Final = 1000
_SLACK: Final = 100
"""What part of the limits is freed beyond need: one in so many."""


class Held(NamedTuple):
    """Where an entry is found: what the directory keeps and the log tells."""

    key: bytes
    entry_id: str
    scope: bytes


class Encoded(NamedTuple):
    """An entry's bytes as they are stored."""

    entry_id: str
    payload: bytes


class Condition(NamedTuple):
    """A condition on ``entries`` with its values."""

    sql: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """What the store holds: how many entries, and their sizes in bytes together."""

    entries: int
    size: int


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much a store may hold. Raises ``ConfigError`` for limits under which it could hold nothing."""

    max_entries: int = 100_000
    max_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        if self.max_entries < 1 or self.max_bytes < 1:
            raise ConfigError("a store must be allowed at least one entry and one byte; mode off stores nothing")

    def hold(self, totals: Totals) -> bool:
        """Whether this much is within the limits."""
        return totals.entries <= self.max_entries and totals.size <= self.max_bytes


# --- what goes

EVERYTHING: Final = Condition("TRUE")


def expired(now: float) -> Condition:
    """Entries that may no longer be served: ``expires_at`` is the first moment at which they may not."""
    return Condition("expires_at <= ?", (now,))


def with_payload(row: Encoded) -> Condition:
    """This very row: not another that has taken its id since."""
    stored_so = "number IN (SELECT number FROM payloads WHERE payload = ? AND number = entries.number)"
    return Condition(f"id = ? AND {stored_so}", (row.entry_id, row.payload))


def selected(selection: Selection) -> Condition:
    """The entries that a selection means. Raises ``BadRequest`` for a scope prefix that is not hexadecimal."""
    parts = [EVERYTHING]
    if selection.ids:
        parts.append(_among(selection.ids))
    if selection.scope_prefix:
        parts.append(_scope_begins(selection.scope_prefix.lower()))
    if selection.tag:
        parts.append(Condition("number IN (SELECT number FROM tags WHERE tag = ?)", (selection.tag,)))
    if selection.namespace is not None:
        parts.append(Condition("namespace = ?", (selection.namespace,)))
    if selection.older_than is not None:
        parts.append(Condition("created_at < ?", (selection.older_than,)))
    return _all_of(parts)


def delete(connection: sqlite3.Connection, condition: Condition, *, writer: str, limit: int = _NO_LIMIT) -> list[Held]:
    """Delete at most ``limit`` entries; which ones went."""
    rows = connection.execute(
        f"DELETE FROM entries WHERE number IN (SELECT number FROM entries WHERE {condition.sql} LIMIT ?) "  # noqa: S608 - the condition is ours, its values are bound
        "RETURNING key, id, scope",
        (*condition.values, limit),
    )
    gone = [Held(*row) for row in rows]
    _tell(connection, writer, "gone", gone)
    return gone


def make_room(
    connection: sqlite3.Connection, limits: StoreLimits, *, now: float, writer: str, spared: str = ""
) -> list[Held]:
    """Past the limits, delete expired entries, then the least recently used (never ``spared``); which ones went.

    Then a hundredth more than needed goes at once, so that a full store does not evict with every put.
    """
    if limits.hold(totals(connection)):
        return []
    gone = delete(connection, expired(now), writer=writer, limit=_EXPIRED_AT_ONCE)
    held = totals(connection)
    if limits.hold(held):
        return gone
    roomy = StoreLimits(
        max_entries=limits.max_entries - limits.max_entries // _SLACK,
        max_bytes=limits.max_bytes - limits.max_bytes // _SLACK,
    )
    oldest: list[str] = []
    rows = connection.execute("SELECT id, size FROM entries WHERE id <> ? ORDER BY used_at, number", (spared,))
    with closing(rows):
        for entry_id, size in rows:
            if roomy.hold(held):
                break
            oldest.append(entry_id)
            held = Totals(held.entries - 1, held.size - size)
    return gone + delete(connection, _among(oldest), writer=writer)


# --- what comes


def insert(
    connection: sqlite3.Connection, entry: Entry, *, samples: int, used_at: float, writer: str
) -> tuple[Held, list[Held]]:
    """Store an entry: what came, and what went for it (its older self, and all but the newest samples of its key)."""
    replaced = delete(connection, Condition("id = ?", (entry.id,)), writer=writer)
    number = connection.execute(
        "INSERT INTO entries (id, key, scope, namespace, created_at, expires_at, used_at, size) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.id,
            entry.key,
            entry.scope,
            entry.namespace,
            entry.created_at,
            entry.expires_at,
            used_at,
            entry.size,
        ),
    ).lastrowid
    connection.execute("INSERT INTO payloads (number, payload) VALUES (?, ?)", (number, codec.encode(entry)))
    connection.executemany("INSERT OR IGNORE INTO tags (tag, number) VALUES (?, ?)", [(t, number) for t in entry.tags])
    came = Held(entry.key, entry.id, entry.scope)
    gone = [held for held in replaced if held.key != entry.key]
    _tell(connection, writer, "put", [came])
    surplus = Condition(
        "number IN (SELECT number FROM entries WHERE key = ? ORDER BY created_at DESC, number DESC LIMIT -1 OFFSET ?)",
        (entry.key, max(samples, 1)),
    )
    return came, gone + delete(connection, surplus, writer=writer)


def set_vector(connection: sqlite3.Connection, entry_id: str, vector: bytes, *, writer: str) -> None:
    """Keep a vector beside its entry, if that is there."""
    row = connection.execute("SELECT number, key, id, scope FROM entries WHERE id = ?", (entry_id,)).fetchone()
    if row is not None:
        number, *held = row
        connection.execute("INSERT OR REPLACE INTO vectors (number, vector) VALUES (?, ?)", (number, vector))
        _tell(connection, writer, "vector", [Held(*held)])


def touch(connection: sqlite3.Connection, hits: Mapping[str, int], at: float) -> None:
    """Count hits. When an entry expires does not depend on how often it is used."""
    connection.executemany(
        "UPDATE entries SET hits = hits + ?, used_at = max(used_at, ?) WHERE id = ?",
        [(count, at, entry_id) for entry_id, count in hits.items()],
    )


# --- what is there


def totals(connection: sqlite3.Connection) -> Totals:
    """What the table holds, without counting it."""
    return Totals(*connection.execute("SELECT entries, bytes FROM totals").fetchone())


def last_number(connection: sqlite3.Connection) -> int:
    """The number of the newest entry."""
    (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()
    return int(number)


def up_to(condition: Condition, number: int) -> Condition:
    """The condition, on entries no newer than ``number``."""
    return _all_of([condition, Condition("number <= ?", (number,))])


def under_key(connection: sqlite3.Connection, key: bytes) -> list[Encoded]:
    """The entries under an exact key, oldest first."""
    rows = connection.execute(
        "SELECT id, payload FROM entries JOIN payloads USING (number) WHERE key = ? ORDER BY created_at, number", (key,)
    )
    return [Encoded(*row) for row in rows]


def by_id(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, bytes]:
    """The payloads of these entries, in any order."""
    condition = _among(ids)
    rows = connection.execute(
        f"SELECT id, payload FROM entries JOIN payloads USING (number) WHERE {condition.sql}",  # noqa: S608 - as above
        condition.values,
    )
    return dict(rows)


def page(connection: sqlite3.Connection, condition: Condition, *, after: str, limit: int) -> list[Encoded]:
    """Entries in the order of their ids."""
    rows = connection.execute(
        f"SELECT id, payload FROM entries JOIN payloads USING (number) WHERE id > ? AND {condition.sql} "  # noqa: S608 - as above
        "ORDER BY id LIMIT ?",
        (after, *condition.values, limit),
    )
    return [Encoded(*row) for row in rows]


def vectors(
    connection: sqlite3.Connection, *, dimension: int, now: float, after: int, limit: int
) -> tuple[int, list[IndexRow]]:
    """A block of unexpired entries that have a vector, and the number of its last, to go on from."""
    rows = connection.execute(
        "SELECT number, id, scope, vector FROM vectors JOIN entries USING (number) "
        "WHERE number > ? AND expires_at > ? AND length(vector) = ? ORDER BY number LIMIT ?",
        (after, now, dimension * codec.BYTES_PER_NUMBER, limit),
    ).fetchall()
    if not rows:
        return after, []
    block = codec.decode_vectors([row[3] for row in rows], dimension)
    return rows[-1][0], [IndexRow(row[1], row[2], vector) for row, vector in zip(rows, block, strict=True)]


def _tell(connection: sqlite3.Connection, writer: str, kind: str, entries: Iterable[Held]) -> None:
    connection.executemany(
        "INSERT INTO log (writer, kind, entry_id, key, scope) VALUES (?, ?, ?, ?, ?)",
        [(writer, kind, held.entry_id, held.key, held.scope) for held in entries],
    )


def _among(ids: Sequence[str]) -> Condition:
    # One parameter, however many ids there are.
    return Condition("id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))


def _all_of(parts: Sequence[Condition]) -> Condition:
    return Condition(" AND ".join(part.sql for part in parts), tuple(value for part in parts for value in part.values))


def _scope_begins(prefix: str) -> Condition:
    """Scopes from the prefix filled up with zeros to before its successor; a range, so that the index serves it."""
    if not _HEX_DIGITS.issuperset(prefix):
        raise BadRequest(f"a scope is written in hexadecimal digits, which {prefix!r} is not")
    first = Condition("scope >= ?", (_left_aligned(prefix),))
    successor = f"{int(prefix, 16) + 1:0{len(prefix)}x}"
    if len(successor) > len(prefix):
        return first
    return _all_of([first, Condition("scope < ?", (_left_aligned(successor),))])


def _left_aligned(digits: str) -> bytes:
    return bytes.fromhex(digits + "0" * (len(digits) % 2))
