"""Opens the parts that settings name by a URL or a model: store, books and embedder, for the proxy and the commands.

What is heavy is imported where it is needed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from cacheproxy import derive
from cacheproxy.core.prior import NO_VERIFIER
from cacheproxy.embed.shared import SharedEmbedder
from cacheproxy.errors import ConfigError
from cacheproxy.reembedding import Reembeddable
from cacheproxy.settings import IndexName
from cacheproxy.store.entries import StoreLimits
from cacheproxy.store.redis_url import read_url
from cacheproxy.store.secret import keep_secret, server_secret
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_keys import SqliteKeys
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.store.sqlite_ledger import SqliteLedger
from cacheproxy.verify.late_interaction import NAME as LATE_INTERACTION
from cacheproxy.verify.late_interaction import LateInteraction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from cacheproxy.embed.local import LocalEmbedder
    from cacheproxy.embed.remote import RemoteEmbedder
    from cacheproxy.index.redis import RedisIndex
    from cacheproxy.ports import Embedder, Keys, Labels, Ledger, SharedFlights, Store, VectorIndex, Verifier
    from cacheproxy.settings import Settings
    from cacheproxy.store.redis_opening import RedisKept
    from cacheproxy.store.redis_url import RedisUrl

log = logging.getLogger(__name__)

KEPT_TOKEN_BYTES: Final = 64 * 1024 * 1024
"""Token embeddings of about seven thousand questions, where a verifier wants them."""
MOST_IN_A_REPLICA: Final = 1_000_000
"""Entries whose vectors each process is to keep in its memory, unless it is told to: about 1.8 GB of them."""
now: Final = time.time  # noqa: TID251 - the clock's one home


class EntryStore(Reembeddable, Protocol):
    """A store, with what moves entries into it and gives them other vectors."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives the process, all in one database."""

    store: EntryStore
    ledger: Ledger
    labels: Labels
    keys: Keys
    name: str
    """The database, for people."""
    secret: Callable[[], bytes]
    """What keys and tenants are hashed with. Whoever shares the entries has the same one."""
    keep_secret: Callable[[bytes], Awaitable[None]]
    """Take over the secret of the entries that come. Raises ``ConfigError`` where there is another already in use."""
    redis: RedisKept | None = None
    """The Redis that keeps it, where one does."""


@asynccontextmanager
async def open_kept(settings: Settings) -> AsyncIterator[Kept]:
    """The database that the settings name. Raises ``ConfigError``."""
    limits = StoreLimits(settings.cache.max_entries, settings.cache.max_bytes)
    if settings.redis_url is not None:
        async with _open_redis(settings, read_url(settings.redis_url), limits) as shared:
            yield shared
        return
    async with open_sqlite(settings.database, clock=now, limits=limits) as store:
        database = store.database
        yield Kept(
            store,
            SqliteLedger(database),
            SqliteLabels(database),
            SqliteKeys(database),
            f"sqlite {settings.database}",
            lambda: server_secret(settings.data_dir),
            partial(_keep_in_file, settings.data_dir),
        )


@asynccontextmanager
async def _open_redis(settings: Settings, url: RedisUrl, limits: StoreLimits) -> AsyncIterator[Kept]:
    from cacheproxy.store.redis_opening import open_redis  # noqa: PLC0415 - redis-py takes a while, and most have none

    own = settings.redis
    async with open_redis(
        url, how=derive.dialled(own), clock=now, limits=limits, prefix=own.prefix, shards=own.shards,
        log_entries=own.log_entries,
    ) as kept:  # fmt: skip
        secret = derive.given_secret(settings) or kept.secret
        yield Kept(
            kept.store,
            kept.ledger,
            kept.labels,
            kept.keys,
            f"redis {url}",
            lambda: secret,
            partial(_keep_in_redis, kept, secret),
            kept,
        )


async def _keep_in_file(data_dir: Path, given: bytes) -> None:
    await asyncio.to_thread(keep_secret, data_dir, given)


async def _keep_in_redis(kept: RedisKept, secret: bytes, given: bytes) -> None:
    if given == secret:
        return
    if await kept.store.count():
        raise ConfigError("the Redis has entries with another secret than those that come: choose another redis.prefix")
    await kept.keep_secret(given)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[EntryStore]:
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


async def open_index(settings: Settings, kept: Kept, embedder: Embedder | None) -> VectorIndex:
    """The index that the settings name, with what the store holds in it.

    Raises ``ConfigError``, and ``PortUnavailable`` where the store goes meanwhile.
    """
    in_redis = await _vector_sets(settings, kept, embedder)
    index: VectorIndex
    if in_redis is not None:
        index = in_redis
        filled = await in_redis.is_filled()
    else:
        from cacheproxy.index.faiss import FaissIndex, search_on_one_thread  # noqa: PLC0415 - loads a large library, which the commands do not need

        search_on_one_thread()
        index, filled = FaissIndex(), False
    if embedder is not None and not filled:
        async for rows in kept.store.vectors():
            for row in rows:
                await index.add(row)
        if in_redis is not None:
            await in_redis.mark_filled()
    if in_redis is not None and kept.redis is not None:
        await kept.redis.store.index_is_shared()
    return index


async def _vector_sets(settings: Settings, kept: Kept, embedder: Embedder | None) -> RedisIndex | None:
    """The index in the store's Redis, where it is wanted and can be had."""
    if settings.index is IndexName.FAISS or embedder is None:
        return None
    if kept.redis is None:
        if settings.index is IndexName.REDIS:
            raise ConfigError("index redis needs a store on Redis, too: set store to redis://..., or index to faiss")
        return None
    if settings.index is IndexName.AUTO and settings.cache.max_entries <= MOST_IN_A_REPLICA:
        return None
    from cacheproxy.index.redis import RedisIndex  # noqa: PLC0415 - most proxies have none

    index = RedisIndex(
        kept.redis.client,
        now=now,
        model=embedder.model,
        dimension=embedder.dimension,
        quantised=settings.redis.vector_numbers == "q8",
        prefix=settings.redis.prefix,
    )
    try:
        await index.prepare()
    except ConfigError as error:
        if settings.index is IndexName.REDIS:
            raise
        log.warning("every process keeps all vectors in its memory: %s", error)
        return None
    return index


@asynccontextmanager
async def open_shared_flights(settings: Settings, kept: Kept) -> AsyncIterator[SharedFlights | None]:
    """What lets processes share upstream calls; None where the store is one machine's, or the settings say no."""
    if kept.redis is None or not settings.redis.coalesce:
        yield None
        return
    from cacheproxy.store.redis_leases import open_flights  # noqa: PLC0415 - most proxies have none

    async with open_flights(kept.redis.client, prefix=settings.redis.prefix) as flights:
        yield flights


@asynccontextmanager
async def open_verifier(
    settings: Settings, embedder: LocalEmbedder | RemoteEmbedder | SharedEmbedder
) -> AsyncIterator[Verifier | None]:
    """What compares two questions where a decision is close; None where nothing does. Raises ``ConfigError``."""
    name = settings.decision.verifier
    if isinstance(embedder, SharedEmbedder):
        yield embedder.verifier
    elif name == NO_VERIFIER:
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
