"""A complete reply in one write.

aiohttp's own response is made for everything that a response can be. A whole reply needs a status line, its headers
and its body: put together here it costs less, and replies are most of what a cache does.
"""

from __future__ import annotations

from email.utils import formatdate
from functools import cache, lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion10, web

if TYPE_CHECKING:
    from cacheproxy.flow.messages import Whole

_NO_BODY: Final = frozenset({204, 304})
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_DATED: Final = frozenset({"date", "server"})


class WholeResponse(web.StreamResponse):
    """What aiohttp's server asks of a response, for one ``Whole``. ``now`` is the time, in seconds since the epoch.

    After the ``last`` reply the connection is closed.
    """

    def __init__(self, reply: Whole, *, now: float, last: bool = False) -> None:
        # Deliberately not the parent's: of its state the server looks at ``keep_alive`` alone.
        self._reply = reply
        self._now = now
        self._last = last
        self._keep_alive = None

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open."""
        return self._keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write everything."""
        self._keep_alive = request.keep_alive and not self._last
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the caller left")
        self._protocol, self._writer = request.protocol, request.writer
        transport.write(self._bytes(request))

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - the parent's signature
        """Wait for a caller that reads slowly, so that replies to requests sent ahead do not pile up for it."""
        if self._protocol.writing_paused:
            await self._writer.drain()

    def _bytes(self, request: web.BaseRequest) -> bytes:
        reply, body = self._reply, self._reply.body
        status = reply.status
        lines = [_status_line(status)]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        given = {name.lower() for name, _ in reply.headers}
        if status not in _NO_BODY:
            lines.append(f"Content-Length: {len(body)}")
        if not given >= _DATED:
            if "date" not in given:
                lines.append(_date(int(self._now)))
            if "server" not in given:
                lines.append("Server: cacheproxy")
        if not self._keep_alive:
            lines.append("Connection: close")
        elif request.version == HttpVersion10:
            lines.append("Connection: keep-alive")
        if "\n" in (unbroken := "".join(lines)) or "\r" in unbroken:
            broken = next(name for name, value in reply.headers if "\n" in value or "\r" in value)
            raise ValueError(f"a header value with a line break: {broken}")
        head = "\r\n".join(lines).encode("utf-8", "surrogateescape")
        if request.method == "HEAD" or status in _NO_BODY:
            body = b""
        return b"%b\r\n\r\n%b" % (head, body)


@cache
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {_REASONS.get(status, '')}"


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}"
