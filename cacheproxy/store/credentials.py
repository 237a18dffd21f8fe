"""When credentials were last accepted, in the embedded database: by their hashes, never themselves.

A refused one stays as a row for a while, so that other processes learn of it.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Final

from cacheproxy.store.stamps import stamp, stamps

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from cacheproxy.store.database import Database

_KIND: Final = "credentials"
_KEPT_S: Final = 30 * 86_400.0
"""Far longer than any proof is good for."""


class SqliteCredentials:
    """The part of ``Store`` that is about credentials, in an open database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = secrets.token_hex(8)
        self._seen: int | None = None
        self._unheard: deque[Mapping[str, float]] = deque()

    async def proven_at(self, credential: str) -> float | None:
        """See ``Store``."""

        def read(connection: sqlite3.Connection) -> float | None:
            row = connection.execute(
                "SELECT proven_at FROM credentials WHERE credential = ? AND NOT refused", (credential,)
            ).fetchone()
            return None if row is None else float(row[0])

        return await self._database.read(read, doing="look up a credential")

    async def prove(self, credential: str, at: float) -> None:
        """See ``Store``."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO credentials (credential, proven_at, writer, stamp) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (credential) DO UPDATE SET refused = 0, writer = excluded.writer, stamp = excluded.stamp, "
                "proven_at = CASE WHEN refused THEN excluded.proven_at ELSE max(proven_at, excluded.proven_at) END",
                (credential, at, self._writer, stamp(connection, _KIND)),
            )

        await self._database.write(write, doing="remember a credential")

    async def revoke(self, credential: str) -> None:
        """See ``Store``. One that was never proven leaves no trace: made-up keys are many."""

        def write(connection: sqlite3.Connection) -> None:
            refused = connection.execute(
                "UPDATE credentials SET refused = 1 WHERE credential = ? AND NOT refused", (credential,)
            ).rowcount
            if refused:
                connection.execute(
                    "UPDATE credentials SET writer = ?, stamp = ? WHERE credential = ?",
                    (self._writer, stamp(connection, _KIND), credential),
                )

        await self._database.write(write, doing="revoke a credential")

    async def proofs(self) -> Mapping[str, float]:
        """See ``Store``. What a caller did not wait for is told to the next one."""

        def read(connection: sqlite3.Connection) -> None:
            now = stamps(connection)[_KIND]
            seen, self._seen = now if self._seen is None else self._seen, now
            if now != seen:
                rows = connection.execute(
                    "SELECT credential, CASE WHEN refused THEN 0.0 ELSE proven_at END FROM credentials "
                    "WHERE stamp > ? AND stamp <= ? AND writer <> ?",
                    (seen, now, self._writer),
                )
                self._unheard.append(dict(rows.fetchall()))

        await self._database.read(read, doing="read what other processes learnt of credentials")
        heard: dict[str, float] = {}
        while self._unheard:
            heard |= self._unheard.popleft()
        return heard


def forget_credentials(connection: sqlite3.Connection, now: float) -> None:
    """Delete what is so old that it proves nothing."""
    connection.execute("DELETE FROM credentials WHERE proven_at < ?", (now - _KEPT_S,))
