"""The upstream over HTTP/1.1: requests and answers streamed both ways in constant memory.

What it promises: nothing is added to a request but Host and framing, nothing is decoded, redirects and cookies are the
caller's business, proxies from the environment are not used, and leaving a ``send`` block early closes the connection
so that the upstream stops working. Every failure is an ``UpstreamUnreachable`` or an ``UpstreamTimeout`` whose message
names the host and what to check, and never a path, a query or a header. Past the most calls that may be under way
at a time, a further one is refused at once (``Overloaded``): waiting calls would only hold memory and patience.

What is sent again: a pooled connection may be closed by the server just when a request is written to it. aiohttp then
repeats GET, HEAD, OPTIONS, TRACE, PUT and DELETE once on another connection, unless the body was already consumed. A
POST is never repeated: it may have reached the model, and would be paid for twice (RFC 9110, section 9.2.2). The
caller's SDK decides, as it does without a proxy.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from cacheproxy.errors import Overloaded, ProxyError, UpstreamTimeout, UpstreamUnreachable
from cacheproxy.upstream.quick import LARGEST, QuickClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from cacheproxy.ports import UpstreamRequest, UpstreamResponse
    from cacheproxy.upstream.quick import QuickAnswer

_SLICE: Final = 64 * 1024
"""Longer bodies than the quick client's go out in slices, each with a deadline."""
_MAX_HEADER_BYTES: Final = 64 * 1024  # aiohttp's 8 KiB is less than some providers' cookies and policies take
_FOREIGN: Final = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)
_COME_BACK_S: Final = 1.0
_AUTO_HEADERS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long to wait for an upstream, in seconds. There is no limit on the whole: an answer may stream for hours."""

    connect_s: float = 5.0
    """Name look-up, TCP and TLS together."""
    first_byte_s: float = 120.0
    """From the end of the request to the head of the answer, and from the head to the body's first byte."""
    between_bytes_s: float = 60.0
    """Between two reads of an answer, and for the upstream to take one slice of a long request."""


class HttpUpstream:
    """Sends requests through one pool of connections, as many as are needed, at most ``most_calls`` at a time.

    Built in a running event loop; an async context manager. ``calls`` counts those under way.
    """

    def __init__(self, deadlines: Deadlines | None = None, *, most_calls: int = 1024) -> None:
        self.calls = 0
        self._most_calls = most_calls
        self._deadlines = deadlines or Deadlines()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(
            total=None, connect=self._deadlines.connect_s, sock_read=self._deadlines.first_byte_s
        )
        self._quick = QuickClient(connector, timeout=timeout, max_header_bytes=_MAX_HEADER_BYTES)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTO_HEADERS,
            auto_decompress=False,
            trust_env=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            timeout=timeout,
        )

    def send(self, request: UpstreamRequest) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Forward a request; leaving the block ends it. See ``ports.Upstream``.

        An exception that the request's own body raises passes through as it is.
        """
        return _Call(self, request)

    async def begin(self, request: UpstreamRequest) -> _HttpResponse:
        """Send a request; one that was answered counts as under way until ``end``. Raises as ``send`` does."""
        if self.calls >= self._most_calls:
            message = f"{self.calls} upstream calls are under way, as many as limits.upstream_calls allows: try again"
            raise Overloaded(message, retry_after_s=_COME_BACK_S)
        self.calls += 1
        try:
            url = _url(request.url)
            return _HttpResponse(await self._answer(request, url), url, self._deadlines)
        except BaseException:
            self.calls -= 1
            raise

    async def end(self, response: _HttpResponse) -> None:
        """Let go of an answer, and of its connection where not all of it has come."""
        try:
            await response.leave()
        finally:
            self.calls -= 1

    async def _answer(self, request: UpstreamRequest, url: URL) -> aiohttp.ClientResponse | QuickAnswer:
        """The answer's head, by the shortest way that the request can go."""
        body = request.body
        if self._quick.takes(request, url):
            try:
                return await self._quick.ask(request, url)
            except _FOREIGN as error:
                raise _translated(error, url, self._deadlines.first_byte_s) from error
        if body is None or (isinstance(body, bytes) and len(body) <= LARGEST):
            return await self._request(request, url, request.headers, body)
        return await self._upload(request, url, body)

    async def _request(
        self,
        request: UpstreamRequest,
        url: URL,
        headers: Sequence[tuple[str, str]],
        body: bytes | AsyncIterable[bytes] | None,
    ) -> aiohttp.ClientResponse:
        try:
            return await self._session.request(
                request.method, url, headers=_one_spelling(headers), data=body, allow_redirects=False
            )
        except _FOREIGN as error:
            raise _translated(error, url, self._deadlines.first_byte_s) from error

    async def _upload(
        self, request: UpstreamRequest, url: URL, body: bytes | AsyncIterable[bytes]
    ) -> aiohttp.ClientResponse:
        headers = request.headers
        if isinstance(body, bytes):
            if not any(name.lower() == "content-length" for name, _ in headers):
                headers = [*headers, ("Content-Length", str(len(body)))]
            body = _sliced(body)
        limit = asyncio.timeout(None)
        upload = _Upload(limit, self._deadlines.between_bytes_s)
        try:
            async with limit:
                try:
                    return await self._request(request, url, headers, upload.chunks(body))
                except ProxyError:
                    if upload.failure is not None:
                        raise upload.failure from None
                    raise
                finally:
                    upload.head_arrived()
        except TimeoutError as error:
            if not limit.expired():
                raise  # the body's own
            message = f"The upstream {_host(url)} took none of the request for {self._deadlines.between_bytes_s:g} s."
            raise UpstreamTimeout(message) from error

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Call:
    """One request and its answer, as a class: see ``flow.calls``, which is around it."""

    __slots__ = ("_request", "_response", "_upstream")

    _response: _HttpResponse

    def __init__(self, upstream: HttpUpstream, request: UpstreamRequest) -> None:
        self._upstream = upstream
        self._request = request

    async def __aenter__(self) -> UpstreamResponse:
        self._response = await self._upstream.begin(self._request)
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._upstream.end(self._response)


class _Upload:
    """A request's body on its way: tells its own failure from the upstream's, a slow caller from a stalled upstream."""

    def __init__(self, limit: asyncio.Timeout, patience_s: float) -> None:
        self.failure: Exception | None = None
        self._limit: asyncio.Timeout | None = limit
        self._patience_s = patience_s

    def head_arrived(self) -> None:
        """The sender no longer waits: from here on the deadlines of the answer count."""
        self._limit = None

    def _wait_at_most(self, seconds: float | None) -> None:
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    async def chunks(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in body:
                self._wait_at_most(self._patience_s)
                yield chunk
                self._wait_at_most(None)
        except Exception as failure:
            self.failure = failure
            raise


class _HttpResponse:
    """An answer whose head has arrived. See ``ports.UpstreamResponse``."""

    __slots__ = ("_deadlines", "_response", "_url", "headers", "reason", "status")

    def __init__(self, response: aiohttp.ClientResponse | QuickAnswer, url: URL, deadlines: Deadlines) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: Sequence[tuple[str, str]] = _texts(response.raw_headers)
        self._response = response
        self._url = url
        self._deadlines = deadlines

    def chunks(self) -> AsyncIterator[bytes]:
        return _Body(self._response, self._url, self._deadlines)

    async def leave(self) -> None:
        """Read no more of it."""
        await self._response.__aexit__(None, None, None)


class _Body:
    """An answer's body as it comes. A class, since the loop makes a note of each asynchronous generator."""

    __slots__ = ("_begun", "_deadlines", "_response", "_url")

    def __init__(self, response: aiohttp.ClientResponse | QuickAnswer, url: URL, deadlines: Deadlines) -> None:
        self._response = response
        self._url = url
        self._deadlines = deadlines
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            waited_s = self._deadlines.between_bytes_s if self._begun else self._deadlines.first_byte_s
            raise _translated(error, self._url, waited_s) from error
        if not chunk:
            raise StopAsyncIteration
        if not self._begun:
            self._begun = True
            self._expect_within(self._deadlines.between_bytes_s)
        return chunk

    def _expect_within(self, seconds: float) -> None:
        """From now on the rest of the body must come in reads that are at most so far apart."""
        connection = self._response.connection
        if self._response.content.is_eof() or connection is None or connection.protocol is None:
            return  # it has all come, and the connection may already serve another request
        connection.protocol.read_timeout = seconds
        connection.protocol.start_timeout()


@lru_cache(maxsize=128)
def _url(text: str) -> URL:
    """The URL, with its path and query to the byte: aiohttp sends what yarl calls ``raw_path_qs``. They are few."""
    url = URL(text, encoded=True)
    if "#" not in text and text.endswith(url.raw_path_qs):
        return url
    # yarl drops a "?" with nothing behind it, and what follows a "#". In a path that is encoded already it keeps both.
    return url.with_path("/" + text.partition("://")[2].partition("/")[2], encoded=True)


async def _sliced(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]


def _one_spelling(headers: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """The headers with each name spelt as it was first: aiohttp keeps one of two that differ in case alone."""
    names = {name for name, _ in headers}
    if len(names) == len({name.lower() for name in names}):
        return headers
    first: dict[str, str] = {}
    return [(first.setdefault(name.lower(), name), value) for name, value in headers]


def _texts(raw: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    try:
        return [(name.decode(), value.decode()) for name, value in raw]
    except UnicodeDecodeError:
        return [(_text(name), _text(value)) for name, value in raw]


def _text(raw: bytes) -> str:
    """A header's name or value: UTF-8, and Latin-1 where it is not that (RFC 9110, section 5.5)."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _host(url: URL) -> str:
    return url.host_port_subcomponent or "(no host)"


_FAILURES: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], type[ProxyError], str], ...]] = (
    (
        aiohttp.ClientConnectorCertificateError,
        UpstreamUnreachable,
        "has a TLS certificate that is not trusted here: check the upstream's URL and this machine's CA certificates.",
    ),
    (
        aiohttp.ClientConnectorDNSError,
        UpstreamUnreachable,
        "has a name that does not resolve: check the upstream's URL and this machine's DNS.",
    ),
    (
        aiohttp.ClientSSLError,
        UpstreamUnreachable,
        "does not speak TLS as asked: check whether its URL should begin with http:// or https://.",
    ),
    (
        aiohttp.ClientConnectorError,
        UpstreamUnreachable,
        "does not accept connections: check that it runs and that the upstream's URL names its host and port.",
    ),
    (
        aiohttp.ConnectionTimeoutError,
        UpstreamTimeout,
        "did not accept a connection in time: check the upstream's URL and the network between.",
    ),
    (TimeoutError, UpstreamTimeout, "sent nothing for {waited_s:g} s: try again, or raise its deadline."),
    (
        aiohttp.ServerDisconnectedError,
        UpstreamUnreachable,
        "closed the connection before it answered: try again, and check the upstream's own log.",
    ),
    (
        aiohttp.ClientPayloadError,
        UpstreamUnreachable,
        "ended its answer before it was complete: try again, and check the upstream's own log.",
    ),
    (
        (aiohttp.ClientResponseError, HttpProcessingError),
        UpstreamUnreachable,
        "answered something that is not HTTP/1.1: check that the upstream's URL names the right port.",
    ),
    (
        aiohttp.InvalidURL,
        UpstreamUnreachable,
        "is not reachable by this URL: check the upstream's URL in the settings.",
    ),
    (OSError, UpstreamUnreachable, "broke the connection: try again, and check the upstream's own log."),
    (
        ValueError,
        UpstreamUnreachable,
        "cannot be sent this request: a header is malformed, or its URL holds a second credential.",
    ),
    (Exception, UpstreamUnreachable, "could not be asked: check the upstream's URL and its own log."),
)
"""What aiohttp may raise, the most specific first, and what to tell the caller."""


def _translated(error: Exception, url: URL, waited_s: float) -> ProxyError:
    ours, advice = next((ours, advice) for theirs, ours, advice in _FAILURES if isinstance(error, theirs))
    return ours(f"The upstream {_host(url)} {advice.format(waited_s=waited_s)}")
