"""Opens the store in a Redis, with the books beside it, and the secret that its keys are made with."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.store.entries import StoreLimits
from cacheproxy.store.redis import RedisStore
from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_credentials import RedisCredentials
from cacheproxy.store.redis_keys import RedisKeys
from cacheproxy.store.redis_labels import RedisLabels
from cacheproxy.store.redis_layout import VERSION, Layout
from cacheproxy.store.redis_ledger import RedisLedger
from cacheproxy.store.redis_link import LANES_OF_A_TAG, Link, Script, is_away
from cacheproxy.store.redis_url import Dialled
from cacheproxy.tasks import TaskSet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cacheproxy.store.redis_client import Client
    from cacheproxy.store.redis_url import RedisUrl

_SECRET_BYTES: Final = 32
_MORE_CONNECTIONS: Final = 16
"""Of a client of a cluster beyond those that the shards' lanes need, for whoever else uses it."""
LOG_ENTRIES: Final = 10_000

_FIRST_OF_ALL: Final = Script(r"""
redis.call('HSETNX', KEYS[1], 'version', ARGV[1])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
redis.call('HSETNX', KEYS[1], 'secret', ARGV[3])
return redis.call('HMGET', KEYS[1], 'version', 'shards', 'secret')
""")


@dataclass(frozen=True, slots=True)
class RedisKept:
    """What a Redis keeps for all proxies that use it."""

    client: Client
    layout: Layout
    store: RedisStore
    ledger: RedisLedger
    labels: RedisLabels
    keys: RedisKeys
    secret: bytes
    keep_secret: Callable[[bytes], Awaitable[None]]
    """Keep another secret, for who opens the store from now on."""


@asynccontextmanager
async def open_redis(
    url: RedisUrl,
    *,
    clock: Callable[[], float],
    how: Dialled | None = None,
    limits: StoreLimits | None = None,
    prefix: str = "cacheproxy",
    shards: int = 16,
    log_entries: int = LOG_ENTRIES,
) -> AsyncIterator[RedisKept]:
    """Connect to the store that a URL names; leaving the block answers who waits and disconnects.

    ``clock`` gives seconds since the epoch. ``shards`` counts for a store that is begun; later it is what it was then.
    Raises ``ConfigError``, and ``PortUnavailable`` where nobody answers at the moment.
    """
    how = how or Dialled()
    if url.scheme == "redis+cluster":
        # Every shard may be on one node.
        how = replace(how, connections=max(how.connections, shards * LANES_OF_A_TAG + _MORE_CONNECTIONS))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(url, how))
        async with kept_in(
            client,
            name=str(url),
            clock=clock,
            lanes=how.connections,
            limits=limits,
            prefix=prefix,
            shards=shards,
            log_entries=log_entries,
        ) as kept:
            yield kept


@asynccontextmanager
async def kept_in(
    client: Client,
    *,
    name: str,
    clock: Callable[[], float],
    lanes: int = 16,
    limits: StoreLimits | None = None,
    prefix: str = "cacheproxy",
    shards: int = 16,
    log_entries: int = LOG_ENTRIES,
) -> AsyncIterator[RedisKept]:
    """The same with a client that is there. ``name`` is what it is called in errors."""
    async with TaskSet("redis") as tasks:
        link = Link(client, lanes=lanes, tasks=tasks)
        try:
            version, stored_shards, secret = await link.ask(
                *_FIRST_OF_ALL(f"{{{prefix}}}:store", VERSION, shards, secrets.token_bytes(_SECRET_BYTES))
            )
            if int(version) > VERSION:
                raise ConfigError(
                    f"the store at {name} has layout {int(version)}, this release knows up to {VERSION}: "
                    "upgrade cacheproxy, or choose another redis.prefix"
                )
            layout = Layout(prefix, int(stored_shards))
            labels = RedisLabels(link, layout)
            store = RedisStore(
                link,
                layout,
                limits=limits or StoreLimits(),
                credentials=RedisCredentials(link, layout),
                labels=labels,
                clock=clock,
                log_entries=log_entries,
            )
            await store.begin()
        except PortUnavailable as error:
            told = f"cannot use the store at {name}: {error.message}"
            raise (PortUnavailable if is_away(error) else ConfigError)(told) from error
        try:

            async def keep_secret(given: bytes) -> None:
                await link.ask("HSET", f"{{{prefix}}}:store", "secret", given)

            yield RedisKept(
                client,
                layout,
                store,
                RedisLedger(link, layout),
                labels,
                RedisKeys(link, layout),
                secret,
                keep_secret,
            )
        finally:
            link.close()
