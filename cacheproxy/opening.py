"""Opens the parts that settings name by a URL or a model: store, books and embedder, for the proxy and the commands.

What is heavy is imported where it is needed.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cacheproxy import derive
from cacheproxy.store.entries import StoreLimits
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_keys import SqliteKeys
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.store.sqlite_ledger import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cacheproxy.embed.local import LocalEmbedder
    from cacheproxy.embed.remote import RemoteEmbedder
    from cacheproxy.ports import Keys, Labels, Ledger, Store
    from cacheproxy.settings import Settings
    from cacheproxy.store.sqlite import SqliteStore

now: Final = time.time  # noqa: TID251 - the clock's one home


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives the process, all in one database."""

    store: SqliteStore
    ledger: SqliteLedger
    labels: SqliteLabels
    keys: Keys
    name: str
    """The database, for people."""


@asynccontextmanager
async def open_kept(settings: Settings) -> AsyncIterator[Kept]:
    """The database that the settings name. Raises ``ConfigError``."""
    limits = StoreLimits(settings.cache.max_entries, settings.cache.max_bytes)
    async with open_sqlite(settings.database, clock=now, limits=limits) as store:
        database = store.database
        name = f"sqlite {settings.database}"
        yield Kept(store, SqliteLedger(database), SqliteLabels(database), SqliteKeys(database), name)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[SqliteStore]:
    """The entries alone."""
    async with open_kept(settings) as kept:
        yield kept.store


@asynccontextmanager
async def open_books(settings: Settings) -> AsyncIterator[tuple[Ledger, Labels]]:
    """The ledger and the verdicts."""
    async with open_kept(settings) as kept:
        yield kept.ledger, kept.labels


@asynccontextmanager
async def open_judged(settings: Settings) -> AsyncIterator[tuple[Store, Labels]]:
    """The entries, and the verdicts on them."""
    async with open_kept(settings) as kept:
        yield kept.store, kept.labels


@asynccontextmanager
async def open_keys(settings: Settings) -> AsyncIterator[Keys]:
    """The virtual keys."""
    async with open_kept(settings) as kept:
        yield kept.keys


@asynccontextmanager
async def open_embedder(
    settings: Settings, on_batch: Callable[[int, float], None] | None = None
) -> AsyncIterator[LocalEmbedder | RemoteEmbedder]:
    """The embedding model, here or elsewhere. Raises ``PortUnavailable`` when there is none to be had."""
    remote = settings.embedder
    if remote.url is not None:
        from cacheproxy.embed.remote import open_remote  # noqa: PLC0415 - most proxies have none

        async with await open_remote(
            remote.url,
            settings.embedding_model,
            key=derive.plain(remote.api_key),
            window_tokens=remote.window_tokens,
            max_waiting=settings.batching.max_queue,
        ) as elsewhere:
            yield elsewhere
        return
    from cacheproxy.embed.local import open_local  # noqa: PLC0415 - torch takes seconds, and not everything needs it

    batching = settings.batching
    embedder = await open_local(
        settings.embedding_model,
        device=settings.device,
        max_items=batching.max_items,
        max_padded_tokens=batching.max_padded_tokens,
        max_waiting=batching.max_queue,
        max_wait_s=batching.max_wait_ms / 1000,
        on_batch=on_batch,
    )
    try:
        yield embedder
    finally:
        await embedder.aclose()
