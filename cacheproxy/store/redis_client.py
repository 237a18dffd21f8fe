"""Clients of what a Redis URL names (redis_url.py): redis-py's, with pools, time-outs, health checks and retries.

Nothing is connected before the first command.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff

from cacheproxy.store.redis_url import Dialled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cacheproxy.store.redis_url import RedisUrl


Client: TypeAlias = "Redis | RedisCluster"

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5


@asynccontextmanager
async def open_client(url: RedisUrl, how: Dialled | None = None) -> AsyncIterator[Client]:
    """A client for the URL; leaving the block closes its connections."""
    how = how or Dialled()
    # All pauses together stay short of what a failover takes: commands then fail, and callers go on without.
    retry = Retry(ExponentialBackoff(cap=_LONGEST_PAUSE_S, base=_FIRST_PAUSE_S), how.retries)
    timeouts = {
        "socket_timeout": how.answer_s,
        "socket_connect_timeout": how.connect_s,
        "socket_keepalive": True,
        "health_check_interval": how.health_check_s,
        "protocol": 2,  # the same answers from every version of the server, and of fakeredis
    }
    common: dict[str, Any] = {
        **timeouts,
        "username": url.username or how.username,
        "password": url.password or how.password,
    }
    security: dict[str, Any] = {"ssl": True, **url.files} if url.tls else {}
    async with AsyncExitStack() as stack:
        client: Client
        match url.scheme:
            case "redis+cluster":
                client = RedisCluster(
                    startup_nodes=[ClusterNode(host, port) for host, port in url.nodes],
                    max_connections=how.connections,
                    retry=retry,
                    require_full_coverage=False,  # shards whose node is down are missing; the others serve on
                    **common,
                    **security,
                )
            case "redis+sentinel":
                sentinels = Sentinel(  # type: ignore[no-untyped-call]  # redis-py has no types here
                    list(url.nodes),
                    sentinel_kwargs={**timeouts, **security, **url.sentinel_login, "retry": retry},
                    **common,
                )
                for each in sentinels.sentinels:
                    stack.push_async_callback(each.aclose)
                client = sentinels.master_for(
                    url.master, db=url.database, max_connections=how.connections, retry=retry, **security
                )
            case _:
                ((host, port),) = url.nodes
                client = Redis.from_pool(
                    BlockingConnectionPool(
                        max_connections=how.connections,
                        timeout=how.answer_s,
                        connection_class=SSLConnection if url.tls else Connection,
                        host=host,
                        port=port,
                        db=url.database,
                        retry=retry,
                        **common,
                        **dict[str, Any](url.files),
                    )
                )
        stack.push_async_callback(client.aclose)
        yield client
