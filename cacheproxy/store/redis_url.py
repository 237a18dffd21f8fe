"""A Redis by its URL: one server, a cluster, or whichever master the Sentinels name.

    redis://[user:password@]host[:port][/db]
    rediss://...                                                      TLS
    redis+cluster://[user:password@]host[:port][,host[:port]...]      any nodes of a cluster; the others are asked for
    redis+sentinel://[user:password@]host[:port][,...]/MASTER[/db]    Sentinels, and the name that they know a master by

After a ``?``: ``tls=true`` for a cluster or Sentinels, ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile`` (files),
``sentinel_username`` and ``sentinel_password`` where the Sentinels ask for others than the servers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMES: Final = ("redis", "rediss", "redis+cluster", "redis+sentinel")
_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_LOGIN: Final = ("sentinel_username", "sentinel_password")


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


def _node(text: str, default_port: int) -> tuple[str, int]:
    """``host``, ``host:port``, ``[v6]`` or ``[v6]:port``."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:  # whose text may quote a password that was taken for a port
        raise ConfigError("a Redis URL names a node as HOST:PORT; in a password, / and @ are %2F and %40") from None
    if not host:
        raise ConfigError("a Redis URL names at least one node as HOST:PORT")
    return host, port if port is not None else default_port
