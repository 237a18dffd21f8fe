"""Stores as several processes would open them, and entries for them."""

import hashlib
from dataclasses import replace

import numpy as np

from cacheproxy.model import Entry, Usage
from cacheproxy.opening import Kept
from cacheproxy.store.follower import trim_log
from cacheproxy.store.sqlite import EmbeddingName, open_sqlite
from cacheproxy.store.sqlite_keys import SqliteKeys
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.store.sqlite_ledger import SqliteLedger

NOW = 1_800_000_000.0
EMBEDDING = EmbeddingName("test-model", 4)


class SqliteWorld:
    """Stores that share one file, as several processes would."""

    def __init__(self, folder, stack):
        self.now = NOW
        self._path = folder / "data" / "cache.db"
        self._stack = stack

    async def open(self, limits=None, embedding=EMBEDDING):
        store = open_sqlite(self._path, clock=lambda: self.now, limits=limits, embedding=embedding)
        return await self._stack.enter_async_context(store)

    async def trim_logs(self):
        """Leave little of the log, as a sweep does where much was written."""
        store = await self.open(embedding=None)
        await store.database.write(lambda rows: trim_log(rows, keep=1), doing="trim the log")

    async def kept(self):
        """All that a process opens."""
        store = await self.open(embedding=None)
        database = store.database
        return Kept(store, SqliteLedger(database), SqliteLabels(database), SqliteKeys(database), "sqlite", bytes, None)


def digest(text):
    return hashlib.sha256(text.encode()).digest()


def make_entry(name="a", **changes):
    entry = Entry(
        id=f"id-{name}",
        key=digest(f"key {name}"),
        scope=digest("scope"),
        tenant="tenant",
        dialect="openai-chat",
        upstream="openai",
        model="gpt-4o-mini",
        prompt=f"What is {name}?",
        answer=b'{"answer": "%s"}' % name.encode(),
        usage=Usage(10, 20, 3, 4, estimated=True),
        cost_usd=0.25,
        latency_ms=812.5,
        created_at=NOW,
        expires_at=NOW + 3600,
        semantic=True,
        namespace="",
        tags=("docs-v7", "faq"),
    )
    return replace(entry, **changes)


def direction(*numbers):
    vector = np.array(numbers, dtype=np.float32)
    return vector / np.linalg.norm(vector)


async def embedded(store):
    return {row.entry_id: row async for block in store.vectors() for row in block}
