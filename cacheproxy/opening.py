"""Opens the parts that settings name by a URL or a model: store, books and embedder, for the proxy and the commands.

What is heavy is imported where it is needed.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cacheproxy import derive
from cacheproxy.core.prior import NO_VERIFIER
from cacheproxy.errors import ConfigError
from cacheproxy.store.entries import StoreLimits
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_keys import SqliteKeys
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.store.sqlite_ledger import SqliteLedger
from cacheproxy.verify.late_interaction import NAME as LATE_INTERACTION
from cacheproxy.verify.late_interaction import LateInteraction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cacheproxy.embed.local import LocalEmbedder
    from cacheproxy.embed.remote import RemoteEmbedder
    from cacheproxy.ports import Keys, Labels, Ledger, Store, Verifier
    from cacheproxy.settings import Settings
    from cacheproxy.store.sqlite import SqliteStore

KEPT_TOKEN_BYTES: Final = 64 * 1024 * 1024
"""Token embeddings of about seven thousand questions, where a verifier wants them."""
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
        token_bytes=KEPT_TOKEN_BYTES if settings.decision.verifier == LATE_INTERACTION else 0,
        on_batch=on_batch,
    )
    try:
        yield embedder
    finally:
        await embedder.aclose()


@asynccontextmanager
async def open_verifier(settings: Settings, embedder: LocalEmbedder | RemoteEmbedder) -> AsyncIterator[Verifier | None]:
    """What compares two questions where a decision is close; None where nothing does. Raises ``ConfigError``."""
    name = settings.decision.verifier
    if name == NO_VERIFIER:
        yield None
    elif name == LATE_INTERACTION:
        from cacheproxy.embed.local import LocalEmbedder  # noqa: PLC0415 - most proxies have no verifier

        if not isinstance(embedder, LocalEmbedder):
            raise ConfigError(f"decision.verifier {name} needs the embedding model in this process: unset embedder.url")
        yield LateInteraction(embedder)
    else:
        from cacheproxy.verify.cross_encoder import open_cross_encoder  # noqa: PLC0415 - likewise

        verifier = await open_cross_encoder(name, device=settings.device)
        try:
            yield verifier
        finally:
            await verifier.aclose()
