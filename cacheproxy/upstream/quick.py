"""A small request in one write, on aiohttp's own connections.

aiohttp's session is made for everything that a request can be: redirects, cookies, uploads in a task of their own. What
a cache forwards is nearly always a body of some kilobytes that is here already, and its way through the session takes
a fifth of the time of a miss. Here it is a connection, one write and the parser. Pool, names, TLS,
reading, flow control and failures are aiohttp's, as for every other request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from yarl import URL

    from cacheproxy.ports import UpstreamRequest

LARGEST: Final = 32 * 1024
"""Up to this size a body goes out in one write, which cannot stall."""
_FINAL: Final = 200
_SWITCHING: Final = 101


class QuickAnswer:
    """An answer whose head has arrived: the part of ``aiohttp.ClientResponse`` that forwarding needs."""

    __slots__ = ("connection", "content", "raw_headers", "reason", "status")

    def __init__(self, connection: Connection, message: RawResponseMessage, content: aiohttp.StreamReader) -> None:
        self.status = message.code
        self.reason = message.reason
        self.raw_headers = message.raw_headers
        self.content = content
        self.connection: Connection | None = connection
        """None once the whole answer has come: then another request may have it."""
        content.on_eof(self._ended)

    def _ended(self) -> None:
        if self.connection is not None:
            self.connection.release()
            self.connection = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class QuickClient:
    """Sends small requests through a connector. ``timeout``: its ``connect`` and ``sock_read`` count."""

    def __init__(
        self, connector: aiohttp.BaseConnector, *, timeout: aiohttp.ClientTimeout, max_header_bytes: int
    ) -> None:
        self._connector = connector
        self._timeout = timeout
        self._max_header_bytes = max_header_bytes
        self._origins: dict[tuple[str, str], aiohttp.ClientRequest] = {}
        """By scheme and authority what the connector asks of a request: where it goes. Upstreams are few."""

    @staticmethod
    def takes(request: UpstreamRequest, url: URL) -> bool:
        """Whether a request is one for here."""
        body = request.body
        return (
            request.method == "POST"
            and isinstance(body, bytes)
            and 0 < len(body) <= LARGEST
            and bool(url.raw_host)
            and url.scheme in {"http", "https"}
            and url.raw_user is None
            and url.raw_password is None
        )

    async def ask(self, request: UpstreamRequest, url: URL) -> QuickAnswer:
        """Send it, and wait for the head of the answer. Raises what aiohttp's session would."""
        text = _written(request, url)
        try:
            connection = await self._connector.connect(self._origin(url), traces=[], timeout=self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        try:
            return await self._exchange(connection, text)
        except BaseException:
            connection.close()
            raise

    async def _exchange(self, connection: Connection, text: bytes) -> QuickAnswer:
        protocol = connection.protocol
        if protocol is None or protocol.transport is None:
            raise aiohttp.ServerDisconnectedError  # closed as soon as it was open
        protocol.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=self._timeout.sock_read,
            max_line_size=self._max_header_bytes,
            max_field_size=self._max_header_bytes,
        )
        protocol.transport.write(text)
        protocol.start_timeout()
        while True:
            message, content = await protocol.read()
            if message.code >= _FINAL or message.code == _SWITCHING:
                return QuickAnswer(connection, message, content)

    def _origin(self, url: URL) -> aiohttp.ClientRequest:
        name = (url.scheme, url.raw_authority)
        origin = self._origins.get(name)
        if origin is None:
            origin = aiohttp.ClientRequest("POST", url.origin(), loop=asyncio.get_running_loop())
            self._origins[name] = origin
        return origin


def _written(request: UpstreamRequest, url: URL) -> bytes:
    """The request as it goes out. Raises ``ValueError`` for a header with a line break."""
    body = request.body
    assert isinstance(body, bytes)  # noqa: S101 - as ``takes`` has seen
    lines = [f"{request.method} {url.raw_path_qs} HTTP/1.1", f"Host: {url.host_port_subcomponent}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if not _names_length(request.headers):
        lines.append(f"Content-Length: {len(body)}")
    # A control character in a name or a value would let it end where its sender did not mean it to.
    if "\r" in (unbroken := "".join(lines)) or "\n" in unbroken or "\0" in unbroken:
        raise ValueError("a header with a line break")
    return b"%b\r\n\r\n%b" % ("\r\n".join(lines).encode("utf-8", "surrogateescape"), body)


def _names_length(headers: Sequence[tuple[str, str]]) -> bool:
    return any(name.lower() == "content-length" for name, _ in headers)
