"""Verdicts in the embedded database: labels, suspended entries, and pairs that must not be served again.

Everything here is bounded, and goes when it means nothing any more: labels that aged out, marks on entries that are
gone (``forget_stale``, which the store's sweep calls).
"""

from __future__ import annotations

import logging
import math
import secrets
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.core.features import FEATURE_NAMES, Features
from cacheproxy.core.labels import LABELS_LIVE_S, LABELS_STORED, Label, Source
from cacheproxy.core.likelihood import VERSION
from cacheproxy.ports import News
from cacheproxy.store.batches import is_new
from cacheproxy.store.stamps import stamp, stamps

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
_READ: Final = "at, root, features, is_right, source, inclusion, principal"
_BROKEN_ELSEWHERE: Final = "SELECT pool FROM broken WHERE stamp > ? AND stamp <= ? AND writer <> ? ORDER BY stamp"
_LABELLED_ELSEWHERE: Final = (
    f"SELECT pool, {_READ} FROM labels WHERE stamp > ? AND stamp <= ? AND writer <> ? AND version = ? ORDER BY number"  # noqa: S608 - names of ours
)


class SqliteLabels:
    """``Labels`` in an open database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = secrets.token_hex(8)
        self._seen: Mapping[str, int] | None = None
        self._unheard: deque[News] = deque()
        self.skipped = 0
        """How many labels could not be read, over all readings: other features than this release's, or damage."""

    async def add(self, pool: str, labels: Sequence[Label], *, batch: int | None = None) -> bool:
        """See ``Labels``."""
        rows = [
            (
                pool,
                VERSION,
                label.at,
                label.root,
                _FEATURES.pack(*label.features),
                label.right,
                label.source.value,
                label.inclusion,
                label.principal,
                self._writer,
            )
            for label in labels
        ]
        if not rows:
            return False
        at = self._database.clock()

        def write(connection: sqlite3.Connection) -> bool:
            if not is_new(connection, writer=self._writer, about=f"labels of {pool}", number=batch, at=at):
                return False
            since = -math.inf if batch is None else _forgotten_at(connection, pool)
            counting = [row for row, label in zip(rows, labels, strict=True) if label.at >= since]
            if not counting:
                return True
            written = stamp(connection, "labels")
            connection.executemany(
                f"INSERT INTO labels (pool, version, {_READ}, writer, stamp) "  # noqa: S608 - names of ours
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*row, written) for row in counting],
            )
            connection.execute(
                "INSERT INTO totals_of_pools VALUES (?, ?) "
                "ON CONFLICT (pool) DO UPDATE SET labels = labels + excluded.labels",
                (pool, len(counting)),
            )
            connection.execute(
                "DELETE FROM labels WHERE pool = ? AND number <= "
                "(SELECT number FROM labels WHERE pool = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (pool, pool, LABELS_STORED),
            )
            return True

        return await self._database.write(write, doing="keep labels")

    async def recent(self, pool: str, limit: int) -> Sequence[Label]:
        """See ``Labels``. What cannot be read is left out and counted."""

        def read(connection: sqlite3.Connection) -> tuple[list[tuple[Any, ...]], int]:
            rows = connection.execute(
                f"SELECT {_READ} FROM labels WHERE pool = ? AND version = ? ORDER BY number DESC LIMIT ?",  # noqa: S608 - names of ours
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

    async def total(self, pool: str) -> int:
        """See ``Labels``."""
        row = await self._database.read(
            lambda rows: rows.execute("SELECT labels FROM totals_of_pools WHERE pool = ?", (pool,)).fetchone(),
            doing="count labels",
        )
        return 0 if row is None else int(row[0])

    async def pools(self) -> Sequence[str]:
        """See ``Labels``."""
        rows = await self._database.read(
            lambda rows: rows.execute("SELECT DISTINCT pool FROM labels ORDER BY pool").fetchall(), doing="list pools"
        )
        return [pool for (pool,) in rows]

    async def forget(self, pool: str, at: float) -> None:
        """See ``Labels``."""

        def write(connection: sqlite3.Connection) -> None:
            if _forgotten_at(connection, pool) >= at:
                return
            connection.execute("DELETE FROM labels WHERE pool = ?", (pool,))
            connection.execute("DELETE FROM totals_of_pools WHERE pool = ?", (pool,))
            connection.execute(
                "INSERT OR REPLACE INTO broken VALUES (?, ?, ?, ?)",
                (pool, at, self._writer, stamp(connection, "labels")),
            )

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
            stamp(connection, "marks")
            connection.execute("INSERT OR REPLACE INTO suspended VALUES (?, ?, ?)", (entry_id, at, shortened))
            connection.execute(
                "DELETE FROM suspended WHERE entry_id IN "
                "(SELECT entry_id FROM suspended ORDER BY at DESC LIMIT -1 OFFSET ?)",
                (MARKS_KEPT,),
            )

        await self._database.write(write, doing="suspend an entry")

    async def lift(self, entry_id: str) -> None:
        """See ``Labels``."""

        def write(connection: sqlite3.Connection) -> None:
            stamp(connection, "marks")
            connection.execute("DELETE FROM suspended WHERE entry_id = ?", (entry_id,))

        await self._database.write(write, doing="lift a suspension")

    async def suspended(self) -> Mapping[str, str]:
        """See ``Labels``."""
        rows = await self._database.read(
            lambda rows: rows.execute("SELECT entry_id, note FROM suspended").fetchall(), doing="list suspended entries"
        )
        return dict(rows)

    async def block(self, prompt_hash: bytes, root: str, at: float) -> None:
        """See ``Labels``."""

        def write(connection: sqlite3.Connection) -> None:
            stamp(connection, "marks")
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

    async def news(self) -> News:
        """See ``Labels``. What a caller did not wait for is told to the next one."""

        def read(connection: sqlite3.Connection) -> None:
            now = stamps(connection)
            seen, self._seen = self._seen or now, now
            if now == seen:
                return
            others = (seen["labels"], now["labels"], self._writer)
            self._unheard.append(
                News(
                    broken=tuple(pool for (pool,) in connection.execute(_BROKEN_ELSEWHERE, others)),
                    labels=tuple(
                        (pool, label)
                        for pool, *row in connection.execute(_LABELLED_ELSEWHERE, (*others, VERSION))
                        if (label := _label(*row)) is not None
                    ),
                    marks=now["marks"] != seen["marks"],
                )
            )

        await self._database.read(read, doing="read what other processes said")
        heard = News()
        while self._unheard:
            more = self._unheard.popleft()
            heard = News(
                (*heard.broken, *more.broken),
                (*(each for each in heard.labels if each[0] not in more.broken), *more.labels),
                heard.marks or more.marks,
            )
        return heard


def _forgotten_at(connection: sqlite3.Connection, pool: str) -> float:
    row = connection.execute("SELECT at FROM broken WHERE pool = ?", (pool,)).fetchone()
    return -math.inf if row is None else float(row[0])


def forget_stale(connection: sqlite3.Connection, now: float) -> None:
    """Delete labels that aged out, and marks on entries that are gone. A root is gone when its last alias is."""
    connection.execute("DELETE FROM labels WHERE at < ?", (now - LABELS_LIVE_S,))
    connection.execute("DELETE FROM broken WHERE at < ?", (now - LABELS_LIVE_S,))
    connection.execute(
        "DELETE FROM totals_of_pools WHERE NOT EXISTS (SELECT 1 FROM labels WHERE labels.pool = totals_of_pools.pool)"
    )
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
