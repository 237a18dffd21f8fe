"""Virtual keys in the embedded database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.core.keys import VirtualKey

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from cacheproxy.store.database import Database

_VERSION: Final = "keys_version"


class SqliteKeys:
    """``Keys`` in an open database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: VirtualKey) -> bool:
        """See ``Keys``."""
        row = (key.name, key.tenant, key.digest, key.hint, key.created_at, key.expires_at)
        return await self._change("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING", row)

    async def revoke(self, name: str) -> bool:
        """See ``Keys``."""
        return await self._change("DELETE FROM keys WHERE name = ?", (name,))

    async def every(self) -> Sequence[VirtualKey]:
        """See ``Keys``."""
        rows = await self._database.read(
            lambda rows: rows.execute(
                "SELECT name, tenant, digest, hint, created_at, expires_at FROM keys ORDER BY name"
            ).fetchall(),
            doing="list keys",
        )
        return [VirtualKey(*row) for row in rows]

    async def version(self) -> int:
        """See ``Keys``."""
        row = await self._database.read(
            lambda rows: rows.execute("SELECT value FROM meta WHERE name = ?", (_VERSION,)).fetchone(),
            doing="see whether keys changed",
        )
        return int(row[0]) if row else 0

    async def _change(self, sql: str, values: tuple[object, ...]) -> bool:
        def write(connection: sqlite3.Connection) -> bool:
            if not connection.execute(sql, values).rowcount:
                return False
            connection.execute(
                "INSERT INTO meta VALUES (?, '1') ON CONFLICT (name) DO UPDATE SET value = value + 1", (_VERSION,)
            )
            return True

        return await self._database.write(write, doing="change the keys")
