"""Entries as rows: the SQL of the embedded store, as functions of a connection inside somebody's transaction.

Whatever comes or goes is written to the log in the same transaction, under the name of its writer.
"""

from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from cacheproxy.errors import BadRequest, ConfigError
from cacheproxy.model import Uses
from cacheproxy.store import codec
from cacheproxy.store.rows import execute_with_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

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

    def roomy(self) -> StoreLimits:
        """Limits with some room below these."""
        return StoreLimits(
            max_entries=self.max_entries - self.max_entries // _SLACK,
            max_bytes=self.max_bytes - self.max_bytes // _SLACK,
        )


# --- what goes

EVERYTHING: Final = Condition("TRUE")


def among(ids: Sequence[str]) -> Condition:
    """The entries with these ids. One parameter, however many there are."""
    return Condition("id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))


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
        parts.append(among(selection.ids))
    if selection.scope_prefix:
        parts.append(_scope_begins(selection.scope_prefix.lower()))
    if selection.root:
        aliases = "number IN (SELECT number FROM vectors WHERE root = ?)"
        parts.append(Condition(f"(id = ? OR {aliases})", (selection.root, selection.root)))
    given: tuple[tuple[str, object], ...] = (
        ("number IN (SELECT number FROM tags WHERE tag = ?)", selection.tag or None),
        ("namespace = ?", selection.namespace),
        ("created_at < ?", selection.older_than),
        ("hits >= ?", selection.min_hits or None),
        ("number IN (SELECT number FROM about WHERE instr(prompt, ?))", codec.folded(selection.text) or None),
        ("number IN (SELECT number FROM about WHERE model = ?)", codec.named(selection.model) or None),
        ("number IN (SELECT number FROM about WHERE tenant = ?)", codec.named(selection.tenant) or None),
    )
    return _all_of([*parts, *(Condition(sql, (value,)) for sql, value in given if value is not None)])


def delete(connection: sqlite3.Connection, condition: Condition, *, writer: str, limit: int = _NO_LIMIT) -> list[Held]:
    """Delete at most ``limit`` entries; which ones went."""
    rows = connection.execute(
        f"DELETE FROM entries WHERE number IN (SELECT number FROM entries WHERE {condition.sql} LIMIT ?) "  # noqa: S608 - the condition is ours, its values are bound
        "RETURNING key, id, scope",
        (*condition.values, limit),
    )
    gone = [Held(*row) for row in rows]
    _tell_gone(connection, writer, gone)
    return gone


def make_room(
    connection: sqlite3.Connection, limits: StoreLimits, *, now: float, writer: str, spared: Sequence[str] = ()
) -> list[Held]:
    """Past the limits, delete expired entries, then the least recently used; which ones went.

    Of the ``spared`` entries none goes while there are others, and the last never. Then a hundredth more than needed
    goes at once, so that a full store does not evict with every put.
    """
    if limits.hold(totals(connection)):
        return []
    gone = delete(connection, expired(now), writer=writer, limit=_EXPIRED_AT_ONCE)
    for kept in (spared, spared[-1:]):
        held = totals(connection)
        if limits.hold(held):
            break
        oldest = _least_used(connection, limits.roomy(), held, kept=frozenset(kept))
        gone += delete(connection, among(oldest), writer=writer)
    return gone


def _least_used(
    connection: sqlite3.Connection, limits: StoreLimits, held: Totals, *, kept: frozenset[str]
) -> list[str]:
    """The entries without which ``held`` is within the limits, or all but ``kept``."""
    oldest: list[str] = []
    oldest_first = "SELECT id, size FROM entries WHERE expires_at < ? ORDER BY used_at, number"
    with closing(connection.execute(oldest_first, (math.inf,))) as rows:  # pinned entries stay
        for entry_id, size in rows:
            if limits.hold(held):
                break
            if entry_id not in kept:
                oldest.append(entry_id)
                held = Totals(held.entries - 1, held.size - size)
    return oldest


# --- what comes


def insert(
    connection: sqlite3.Connection, entries: Sequence[Entry], *, samples: int, used_at: float, writer: str
) -> tuple[list[Held], list[Held]]:
    """Store entries, which differ in their ids and in their keys: what came, and what went for it.

    What goes are the entries' older selves and all but the newest ``samples`` under each of their keys.
    """
    known = among([entry.id for entry in entries])
    before, some_known = connection.execute(
        f"SELECT (SELECT coalesce(max(number), 0) FROM entries), EXISTS (SELECT 1 FROM entries WHERE {known.sql})",  # noqa: S608 - as above
        known.values,
    ).fetchone()
    replaced = delete(connection, known, writer=writer) if some_known else []
    numbered = list(enumerate(entries, before + 1))
    execute_with_rows(
        connection,
        "INSERT INTO entries (number, id, key, scope, namespace, created_at, expires_at, used_at, size) {rows}",
        [
            (number, new.id, new.key, new.scope, new.namespace, new.created_at, new.expires_at, used_at, new.size)
            for number, new in numbered
        ],
    )
    execute_with_rows(
        connection,
        "INSERT INTO payloads (number, payload) {rows}",
        [(number, codec.encode(entry)) for number, entry in numbered],
    )
    execute_with_rows(
        connection,
        "INSERT INTO about (number, model, tenant, prompt) {rows}",
        [
            (number, codec.named(new.model), codec.named(new.tenant), codec.folded(new.prompt))
            for number, new in numbered
        ],
    )
    execute_with_rows(
        connection,
        "INSERT OR IGNORE INTO tags (tag, number) {rows}",
        [(tag, number) for number, entry in numbered for tag in entry.tags],
    )
    connection.execute(
        "INSERT INTO log (writer, kind, entry_id, key, scope) "
        "SELECT ?, 'put', id, key, scope FROM entries WHERE number > ? ORDER BY number",
        (writer, before),
    )
    surplus = Condition(
        "number IN (SELECT number FROM ("
        "SELECT number, row_number() OVER (PARTITION BY key ORDER BY created_at DESC, number DESC) AS place "
        "FROM entries WHERE key IN (SELECT key FROM entries WHERE number > ?)) WHERE place > ?)",
        (before, max(samples, 1)),
    )
    came = [Held(entry.key, entry.id, entry.scope) for entry in entries]
    still_there = {(held.key, held.entry_id) for held in came}
    gone = [held for held in replaced if (held.key, held.entry_id) not in still_there]
    return came, gone + delete(connection, surplus, writer=writer)


def touch(connection: sqlite3.Connection, hits: Mapping[str, int], at: float) -> None:
    """Count hits. When an entry expires does not depend on how often it is used."""
    connection.executemany(
        "UPDATE entries SET hits = hits + ?, used_at = max(used_at, ?) WHERE id = ?",
        [(count, at, entry_id) for entry_id, count in hits.items()],
    )


def expire(connection: sqlite3.Connection, entry_id: str, at: float, *, writer: str) -> bool:
    """Give an entry another time to expire; False when it is gone or does not decode.

    The log says that it went and that it is there again: whoever follows forgets it, and finds it as it is now.
    """
    row = connection.execute(
        "SELECT number, key, id, scope, payload FROM entries JOIN payloads USING (number) WHERE id = ?", (entry_id,)
    ).fetchone()
    if row is None:
        return False
    number, *held, payload = row
    try:
        changed = codec.encode(replace(codec.decode(payload), expires_at=at))
    except (codec.CorruptEntry, codec.NewerEntry):
        return False
    connection.execute("UPDATE entries SET expires_at = ? WHERE number = ?", (at, number))
    connection.execute("UPDATE payloads SET payload = ? WHERE number = ?", (changed, number))
    _tell_gone(connection, writer, [Held(*held)])
    return True


# --- what is there


def totals(connection: sqlite3.Connection) -> Totals:
    """What the table holds, without counting it."""
    return Totals(*connection.execute("SELECT entries, bytes FROM totals").fetchone())


def count(connection: sqlite3.Connection, condition: Condition) -> int:
    """How many entries there are."""
    sql = f"SELECT count(*) FROM entries WHERE {condition.sql}"  # noqa: S608 - as above
    (number,) = connection.execute(sql, condition.values).fetchone()
    return int(number)


def uses(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Uses]:
    """How these entries were used, in any order."""
    condition = among(ids)
    rows = connection.execute(f"SELECT id, hits, used_at FROM entries WHERE {condition.sql}", condition.values)  # noqa: S608 - as above
    return {entry_id: Uses(hits, used_at) for entry_id, hits, used_at in rows}


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
    condition = among(ids)
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


def _tell_gone(connection: sqlite3.Connection, writer: str, gone: Sequence[Held]) -> None:
    execute_with_rows(
        connection,
        "INSERT INTO log (writer, kind, entry_id, key, scope) {rows}",
        [(writer, "gone", held.entry_id, held.key, held.scope) for held in gone],
    )


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
