"""The errors that this project raises. Each knows the HTTP status and the code that a caller sees.

Foreign exceptions (sqlite3, aiohttp, torch ...) are translated into these where they enter, by ``translating``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class ProxyError(Exception):
    """Anything that went wrong here. ``str(error)`` is one sentence that a user can act on."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "cacheproxy_internal_error"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class BadRequest(ProxyError):
    """The caller sent something that cannot be understood, for instance invalid JSON."""

    status = 400
    code = "cacheproxy_bad_request"


class Unauthorized(ProxyError):
    """The caller showed none of the keys that this proxy asks for."""

    status = 401
    code = "cacheproxy_unauthorized"


class RequestTimeout(ProxyError):
    """The rest of a request's body did not come in time."""

    status = 408
    code = "cacheproxy_request_timeout"


class TooLarge(ProxyError):
    """A body over its size limit."""

    status = 413
    code = "cacheproxy_body_too_large"


class UnknownUpstream(ProxyError):
    """The path's first segment names no configured upstream."""

    status = 404
    code = "cacheproxy_unknown_upstream"


class UnknownEntry(ProxyError):
    """There is no such entry, or it is somebody else's."""

    status = 404
    code = "cacheproxy_unknown_entry"


class NotCached(ProxyError):
    """``only-if-cached`` was asked and there is nothing to serve."""

    status = 504
    code = "cacheproxy_not_cached"


class Overloaded(ProxyError):
    """A queue is full: try again later."""

    status = 503
    code = "cacheproxy_overloaded"


class UpstreamUnreachable(ProxyError):
    """The upstream refused the connection, reset it, or answered something that is no answer."""

    status = 502
    code = "cacheproxy_upstream_unreachable"


class UpstreamTimeout(ProxyError):
    """The upstream did not answer in time."""

    status = 504
    code = "cacheproxy_upstream_timeout"


class PortUnavailable(ProxyError):
    """A store, index or embedder failed or is full. The flow turns it into a miss.

    It reaches a caller only where the keys that open the door have never been read.
    """

    status = 503
    code = "cacheproxy_port_unavailable"


class TurnTooLong(ProxyError):
    """A text does not fit the embedder's window whole. The flow turns it into a miss."""

    status = 400
    code = "cacheproxy_turn_too_long"


class ConfigError(ProxyError):
    """Settings or stored state that this process must not start with. The message names the remedy."""

    code = "cacheproxy_config_error"


@contextmanager
def translating(table: Mapping[type[BaseException], type[ProxyError]], doing: str) -> Iterator[None]:
    """Raise the table's error in place of a foreign one, the first match winning; ``doing`` says what was tried."""
    try:
        yield
    except ProxyError:
        raise
    except tuple(table) as foreign:
        ours = next(ours for theirs, ours in table.items() if isinstance(foreign, theirs))
        raise ours(f"{doing}: {str(foreign) or type(foreign).__name__}") from foreign
