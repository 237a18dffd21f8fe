"""Verdicts in the embedded database: labels, suspended entries, and pairs that must not be served again.

Everything here is bounded, and goes when it means nothing any more: labels that aged out, marks on entries that are
gone (``forget_stale``, which the store's sweep calls).
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.core.features import FEATURE_NAMES, Features
from cacheproxy.core.likelihood import VERSION
from cacheproxy.core.pool import LABELS_KEPT, LABELS_LIVE_S, Label, Source

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from cacheproxy.store.database import Database

log = logging.getLogger(__name__)

MARKS_KEPT: Final = 10_000
"""Suspended entries, and likewise blocked pairs: past this many the oldest go."""
_LONGEST_NOTE: Final = 1_000
_UNSETTLED_S: Final = 3600.0
"""An entry may be judged before it is stored, which takes a while where the store is behind."""
_FEATURES: Final = struct.Struct(f"<{len(FEATURE_NAMES)}d")
"""Whole doubles: the same labels must lead to the same rule after a restart."""
_SOURCES: Final = frozenset(Source)


class SqliteLabels:
    """``Labels`` in an open database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.skipped = 0
        """How many labels could not be read, over all readings: other features than this release's, or damage."""

    async def add(self, pool: str, labels: Sequence[Label]) -> None:
        """See ``Labels``."""
        rows = [
            (
                pool,
                label.at,
                label.root,
                VERSION,
                _FEATURES.pack(*label.features),
                label.right,
                label.source.value,
                label.inclusion,
                label.principal,
            )
            for label in labels
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO labels (pool, at, root, version, features, is_right, source, inclusion, principal) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            connection.execute(
                "DELETE FROM labels WHERE pool = ? AND number <= "
                "(SELECT number FROM labels WHERE pool = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (pool, pool, LABELS_KEPT),
            )

        await self._database.write(write, doing="keep labels")

    async def recent(self, pool: str, limit: int) -> Sequence[Label]:
        """See ``Labels``. What cannot be read is left out and counted."""

        def read(connection: sqlite3.Connection) -> tuple[list[tuple[Any, ...]], int]:
            rows = connection.execute(
                "SELECT at, root, features, is_right, source, inclusion, principal FROM labels "
                "WHERE pool = ? AND version = ? ORDER BY number DESC LIMIT ?",
                (pool, VERSION, limit),
            ).fetchall()
            (others,) = connection.execute(
                "SELECT count(*) FROM labels WHERE pool = ? AND version <> ?", (pool, VERSION)
            ).fetchone()
            return rows, others

        rows, others = await self._database.read(read, doing="read labels")
        labels = [_label(*row) for row in reversed(rows)]
        known = [label for label in labels if label is not None]
        if skipped := others + len(labels) - len(known):
            self.skipped += skipped
            log.warning("%d labels of pool %s are not of this release's features, and count no more", skipped, pool)
        return known

    async def pools(self) -> Sequence[str]:
        """See ``Labels``."""
        rows = await self._database.read(
            lambda rows: rows.execute("SELECT DISTINCT pool FROM labels ORDER BY pool").fetchall(), doing="list pools"
        )
        return [pool for (pool,) in rows]

    async def forget(self, pool: str, at: float) -> None:
        """See ``Labels``."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM labels WHERE pool = ?", (pool,))
            connection.execute("INSERT OR REPLACE INTO broken VALUES (?, ?)", (pool, at))

        await self._database.write(write, doing="forget labels")

    async def broken(self) -> Collection[str]:
        """See ``Labels``."""
        rows = await self._database.read(
            lambda rows: rows.execute("SELECT pool FROM broken ORDER BY pool").fetchall(), doing="list broken promises"
        )
        return [pool for (pool,) in rows]

    async def suspend(self, entry_id: str, at: float, note: str) -> None:
        """See ``Labels``."""
        shortened = note[:_LONGEST_NOTE].encode("utf-8", "replace").decode()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO suspended VALUES (?, ?, ?)", (entry_id, at, shortened))
            connection.execute(
                "DELETE FROM suspended WHERE entry_id IN "
                "(SELECT entry_id FROM suspended ORDER BY at DESC LIMIT -1 OFFSET ?)",
                (MARKS_KEPT,),
            )

        await self._database.write(write, doing="suspend an entry")

    async def lift(self, entry_id: str) -> None:
        """See ``Labels``."""
        await self._write("DELETE FROM suspended WHERE entry_id = ?", (entry_id,), doing="lift a suspension")

    async def suspended(self) -> Mapping[str, str]:
        """See ``Labels``."""
        rows = await self._database.read(
            lambda rows: rows.execute("SELECT entry_id, note FROM suspended").fetchall(), doing="list suspended entries"
        )
        return dict(rows)

    async def block(self, prompt_hash: bytes, root: str, at: float) -> None:
        """See ``Labels``."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO blocked VALUES (?, ?, ?)", (prompt_hash, root, at))
            connection.execute(
                "DELETE FROM blocked WHERE (root, prompt_hash) IN "
                "(SELECT root, prompt_hash FROM blocked ORDER BY at DESC LIMIT -1 OFFSET ?)",
                (MARKS_KEPT,),
            )

        await self._database.write(write, doing="block a pair")

    async def blocked(self) -> Collection[tuple[bytes, str]]:
        """See ``Labels``."""
        rows = await self._database.read(
            lambda rows: rows.execute("SELECT prompt_hash, root FROM blocked").fetchall(), doing="list blocked pairs"
        )
        return {(prompt_hash, root) for prompt_hash, root in rows}

    async def _write(self, sql: str, values: tuple[object, ...], *, doing: str) -> None:
        await self._database.write(lambda rows: rows.execute(sql, values).rowcount, doing=doing)


def forget_stale(connection: sqlite3.Connection, now: float) -> None:
    """Delete labels that aged out, and marks on entries that are gone. A root is gone when its last alias is."""
    connection.execute("DELETE FROM labels WHERE at < ?", (now - LABELS_LIVE_S,))
    connection.execute("DELETE FROM broken WHERE at < ?", (now - LABELS_LIVE_S,))
    settled = (now - _UNSETTLED_S,)
    connection.execute(
        "DELETE FROM suspended WHERE at < ? AND NOT EXISTS (SELECT 1 FROM entries WHERE id = suspended.entry_id)",
        settled,
    )
    connection.execute(
        "DELETE FROM blocked WHERE at < ? AND NOT EXISTS (SELECT 1 FROM entries WHERE id = blocked.root) "
        "AND NOT EXISTS (SELECT 1 FROM vectors WHERE vectors.root = blocked.root)",
        settled,
    )


def _label(
    at: float, root: str, features: bytes, is_right: int, source: str, inclusion: float, principal: str
) -> Label | None:
    """The label of a row; None for one that this release cannot have written."""
    if len(features) != _FEATURES.size or source not in _SOURCES or not 0 < inclusion <= 1:
        return None
    return Label(
        at=at,
        root=root,
        features=Features(*_FEATURES.unpack(features)),
        right=bool(is_right),
        source=Source(source),
        inclusion=inclusion,
        principal=principal,
    )
