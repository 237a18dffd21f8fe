"""Vectors that wait in a file until there are all of them: see reembedding.py."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.errors import ConfigError, translating

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping
    from pathlib import Path

    from cacheproxy.model import Vector

_NUMBERS: Final = np.dtype("<f4")


class FileShelf:
    """A ``Shelf`` in a file of its own for each store and model. Made by ``open_shelf``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    async def known(self, ids: Collection[str]) -> Collection[str]:
        """See ``Shelf``."""
        return (await self.take(ids)).keys()

    async def keep(self, vectors: Mapping[str, Vector | None]) -> None:
        """See ``Shelf``. They are there when this returns, whatever happens next."""
        rows = [
            (entry_id, None if vector is None else vector.astype(_NUMBERS).tobytes())
            for entry_id, vector in vectors.items()
        ]

        def write() -> None:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

        await asyncio.to_thread(write)

    async def take(self, ids: Collection[str]) -> Mapping[str, Vector | None]:
        """See ``Shelf``."""

        def read() -> list[tuple[str, bytes | None]]:
            sql = "SELECT id, vector FROM vectors WHERE id IN (SELECT value FROM json_each(?))"
            return self._connection.execute(sql, (json.dumps(list(ids)),)).fetchall()

        rows = await asyncio.to_thread(read)
        return {
            entry_id: None if vector is None else np.frombuffer(vector, _NUMBERS).astype(np.float32)
            for entry_id, vector in rows
        }

    async def clear(self) -> None:
        """See ``Shelf``. The file goes."""
        await asyncio.to_thread(self._path.unlink, missing_ok=True)


@asynccontextmanager
async def open_shelf(folder: Path, *, store: str, model: str) -> AsyncIterator[FileShelf]:
    """The shelf for a store's entries under a model, with what was left on it. Raises ``ConfigError``."""
    name = hashlib.sha256(f"{store}\n{model}".encode()).hexdigest()[:16]
    path = folder / f"re-embedding-{name}.sqlite3"

    def open_file() -> sqlite3.Connection:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.execute("CREATE TABLE IF NOT EXISTS vectors (id TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        return connection

    with translating({sqlite3.Error: ConfigError, OSError: ConfigError}, doing=f"keep vectors in {path}"):
        connection = await asyncio.to_thread(open_file)
    try:
        yield FileShelf(path, connection)
    finally:
        connection.close()
