"""Vectors as rows: which embeddings a store holds, and where in the index its entries belong.

Functions of a connection inside somebody's transaction, as in entries.py. A row keeps an entry's root too, and may keep
that alone: with a vector of no bytes, which is still to be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cacheproxy.model import IndexRow
from cacheproxy.store import codec
from cacheproxy.store.entries import among
from cacheproxy.store.rows import execute_with_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class EmbeddingName:
    """Which embeddings a store holds."""

    model: str
    dimension: int

    def __str__(self) -> str:
        return f"{self.model} ({self.dimension})"


class Placed(NamedTuple):
    """An entry's place in the index: its encoded vector, and its root."""

    entry_id: str
    vector: bytes
    root: str


# --- which embeddings


def stored_embedding(connection: sqlite3.Connection) -> EmbeddingName | None:
    """The embeddings that were claimed last."""
    stored = dict(connection.execute("SELECT name, value FROM meta WHERE name LIKE 'embedding_%'"))
    if "embedding_model" not in stored:
        return None
    return EmbeddingName(stored["embedding_model"], int(stored["embedding_dimension"]))


def claim(connection: sqlite3.Connection, claimed: EmbeddingName) -> EmbeddingName | None:
    """Store these embeddings from now on; where there are vectors of others, their name and nothing is changed."""
    stored = stored_embedding(connection)
    if stored == claimed:
        return None
    if stored is not None and connection.execute("SELECT 1 FROM vectors WHERE vector <> x'' LIMIT 1").fetchone():
        return stored
    connection.executemany(
        "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)",
        [("embedding_model", claimed.model), ("embedding_dimension", str(claimed.dimension))],
    )
    return None


def drop(connection: sqlite3.Connection) -> None:
    """Forget every vector and which embeddings they were. Roots stay: they do not depend on the model."""
    connection.execute("DELETE FROM vectors WHERE root IS NULL")
    connection.execute("UPDATE vectors SET vector = x''")
    connection.execute("DELETE FROM meta WHERE name IN ('embedding_model', 'embedding_dimension')")


# --- rows


def place(connection: sqlite3.Connection, placed: Sequence[Placed], *, writer: str) -> None:
    """Keep vectors and roots beside the entries with these ids, as far as those are there."""
    execute_with_rows(
        connection,
        # CROSS JOIN: SQLite keeps the order of such a join, and finds each entry by its id.
        "WITH given (id, vector, root) AS ({rows}) INSERT OR REPLACE INTO vectors (number, vector, root) "
        "SELECT entries.number, given.vector, nullif(given.root, given.id) "
        "FROM given CROSS JOIN entries ON entries.id = given.id",
        placed,
    )
    there = among([each.entry_id for each in placed])
    connection.execute(
        "INSERT INTO log (writer, kind, entry_id, key, scope) "  # noqa: S608 - the condition is ours, its values are bound
        f"SELECT ?, 'vector', id, key, scope FROM entries WHERE {there.sql}",
        (writer, *there.values),
    )


def keep_roots(connection: sqlite3.Connection, roots: Mapping[str, str]) -> None:
    """Keep the roots of entries that have no vector yet."""
    execute_with_rows(
        connection,
        "WITH given (id, root) AS ({rows}) INSERT OR IGNORE INTO vectors (number, vector, root) "
        "SELECT entries.number, x'', given.root "
        "FROM given CROSS JOIN entries ON entries.id = given.id WHERE given.root <> given.id",
        list(roots.items()),
    )


def roots_of(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, str]:
    """The roots of those of these entries that have one."""
    condition = among(ids)
    rows = connection.execute(
        f"SELECT id, coalesce(root, id) FROM entries JOIN vectors USING (number) WHERE {condition.sql}",  # noqa: S608 - as above
        condition.values,
    )
    return dict(rows)


def block(
    connection: sqlite3.Connection, *, dimension: int, now: float, after: int, limit: int
) -> tuple[int, list[IndexRow]]:
    """A block of unexpired entries that have a vector, and the number of its last, to go on from."""
    rows = connection.execute(
        "SELECT number, id, scope, coalesce(root, id), vector FROM vectors JOIN entries USING (number) "
        "WHERE number > ? AND expires_at > ? AND length(vector) = ? ORDER BY number LIMIT ?",
        (after, now, dimension * codec.BYTES_PER_NUMBER, limit),
    ).fetchall()
    if not rows:
        return after, []
    decoded = codec.decode_vectors([row[-1] for row in rows], dimension)
    index_rows = [
        IndexRow(entry_id, scope, vector, root)
        for (_, entry_id, scope, root, _), vector in zip(rows, decoded, strict=True)
    ]
    return rows[-1][0], index_rows
