"""A Redis by its URL: one server, a cluster, or whichever master the Sentinels name.

    redis://[user:password@]host[:port][/db]
    rediss://...                                                      TLS
    redis+cluster://[user:password@]host[:port][,host[:port]...]      any nodes of a cluster; the others are asked for
    redis+sentinel://[user:password@]host[:port][,...]/MASTER[/db]    Sentinels, and the name that they know a master by

After a ``?``: ``tls=true`` for a cluster or Sentinels, ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile`` (files),
``sentinel_username`` and ``sentinel_password`` where the Sentinels ask for others than the servers.

Clients are redis-py's: pooled, with time-outs, health checks, and retries after a pause. Nothing is connected yet.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff

from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

Client: TypeAlias = "Redis | RedisCluster"

SCHEMES: Final = ("redis", "rediss", "redis+cluster", "redis+sentinel")
_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_LOGIN: Final = ("sentinel_username", "sentinel_password")
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Dialled:
    """How nodes are spoken to, in seconds."""

    connections: int = 16
    connect_s: float = 1.0
    answer_s: float = 2.0
    health_check_s: float = 15.0
    retries: int = 3
    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a URL says. ``master`` is the Sentinels' name for it, and empty elsewhere."""

    scheme: str
    nodes: Sequence[tuple[str, int]]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    master: str = ""
    tls: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """The URL without its secrets, for people."""
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        place = f"/{self.master}" if self.master else ""
        return f"{self.scheme}://{nodes}{place}" + (f"/{self.database}" if self.database else "")


def read_url(url: str) -> RedisUrl:
    """What a URL says. Raises ``ConfigError``, never with the URL's password in it."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"a Redis store begins with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    default_port = _SENTINEL_PORT if parts.scheme == "redis+sentinel" else _REDIS_PORT
    nodes = [_node(host, default_port) for host in hosts.split(",")]
    if len(nodes) > 1 and "+" not in parts.scheme:
        raise ConfigError("redis:// names one server; several are redis+cluster:// or redis+sentinel://")
    path = [unquote(part) for part in parts.path.split("/") if part]
    master = path.pop(0) if parts.scheme == "redis+sentinel" and path else ""
    if parts.scheme == "redis+sentinel" and not master:
        raise ConfigError("redis+sentinel://HOST:PORT/MASTER needs the name that the Sentinels know the master by")
    if len(path) > 1 or (path and (not path[0].isdecimal() or parts.scheme == "redis+cluster")):
        raise ConfigError("the path of a Redis URL is the number of a database, and a cluster has none")
    options = dict(parse_qsl(parts.query))
    if unknown := options.keys() - {"tls", *_FILES, *_SENTINEL_LOGIN}:
        raise ConfigError(f"a Redis URL has no option {', '.join(sorted(unknown))}")
    return RedisUrl(
        scheme=parts.scheme,
        nodes=nodes,
        username=unquote(username) or None,
        password=unquote(password) or None,
        database=int(path[0]) if path else 0,
        master=master,
        tls=parts.scheme == "rediss" or options.get("tls") == "true",
        files={name: options[name] for name in _FILES if name in options},
        sentinel_login={name.removeprefix("sentinel_"): options[name] for name in _SENTINEL_LOGIN if name in options},
    )


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
                    list(url.nodes), sentinel_kwargs={**timeouts, **security, **url.sentinel_login}, **common
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


def _node(text: str, default_port: int) -> tuple[str, int]:
    """``host``, ``host:port``, ``[v6]`` or ``[v6]:port``."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"a Redis URL names a node as HOST:PORT: {error}") from None
    if not host:
        raise ConfigError("a Redis URL names at least one node as HOST:PORT")
    return host, port if port is not None else default_port
