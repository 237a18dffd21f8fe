"""The callers' door: one handler for every path, between aiohttp and the flow."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web
from multidict import CIMultiDict

from cacheproxy.errors import PortUnavailable, ProxyError, RequestTimeout, TooLarge, Unauthorized
from cacheproxy.flow.messages import Streamed, Whole
from cacheproxy.flow.render import failure
from cacheproxy.server.whole import WholeResponse
from cacheproxy.wire.dialects import dialect_for_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from cacheproxy.flow.messages import Reply
    from cacheproxy.flow.proxy import Proxy
    from cacheproxy.model import Caller
    from cacheproxy.server.auth import Door

log = logging.getLogger(__name__)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class AiohttpIncoming:
    """An aiohttp request as the flow sees it (``messages.Incoming``). ``body_s``: how long its body may pause."""

    __slots__ = ("_body_s", "_request", "caller", "headers", "method", "target")

    def __init__(self, request: web.BaseRequest, *, body_s: float) -> None:
        self._request = request
        self._body_s = body_s
        self.method = request.method
        self.headers: Mapping[str, str] = request.headers
        self.target = _target(request.raw_path)
        self.caller: Caller | None = None

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self._request.body_exists

    async def read(self, limit: int) -> bytes:
        """The body whole, at most ``limit`` bytes of it."""
        content = self._request.content
        whole = content.is_eof()  # all of it is here already
        read = content.read_nowait() if whole else b""
        length = len(read) if whole else self._request.content_length
        if length is not None and length > limit:
            raise TooLarge(f"the body has {length} bytes; at most {limit} are taken")
        self._expected()
        return read if whole else await self._rest(limit)

    async def _rest(self, limit: int) -> bytes:
        parts = []
        size = 0
        while chunk := await self._piece():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"the body is over {limit} bytes")
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        self._expected()
        while chunk := await self._piece():
            yield chunk

    async def _piece(self) -> bytes:
        """What has come of the body, waiting for more where that is nothing; empty at its end."""
        content = self._request.content
        if (chunk := content.read_nowait()) or content.at_eof():
            return chunk
        try:
            async with asyncio.timeout(self._body_s):
                return await content.readany()
        except TimeoutError:
            raise RequestTimeout(
                f"the request's body stopped coming: nothing for {self._body_s:g} s; send it whole, and again"
            ) from None

    def _expected(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue" and self._request.transport is not None:
            self._request.transport.write(_CONTINUE)


class DataPlane:
    """The handler. ``ready`` tells what ``/readyz`` answers: whether to send traffic, and in what state.

    ``door`` checks keys; without one, everybody who can connect is let in. Proxy and door may be replaced by others.
    """

    def __init__(
        self,
        proxy: Proxy,
        ready: Callable[[], tuple[bool, Mapping[str, object]]],
        *,
        now: Callable[[], float],
        body_s: float,
        door: Door | None = None,
    ) -> None:
        self.proxy = proxy
        self._ready = ready
        self._now = now
        self._body_s = body_s
        self.door = door
        self.closing = False
        """Whether each answer is the last one on its connection."""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.method in {"GET", "HEAD"}:
            match request.raw_path:
                case "/livez":
                    return self._told(200, {"status": "alive"})
                case "/readyz":
                    ready, state = self._ready()
                    told = {"status": "ready" if ready else "not ready", **state}
                    return self._told(200 if ready else 503, told)
                case _:
                    pass
        match await self._reply(request):
            case Whole() as reply:
                return WholeResponse(reply, now=self._now(), last=self.closing)
            case Streamed() as reply:
                return await _write_stream(request, reply, last=self.closing)

    async def _reply(self, request: web.BaseRequest) -> Reply:
        incoming = AiohttpIncoming(request, body_s=self._body_s)
        try:
            if self.door is not None:
                incoming.caller, incoming.headers = self.door.admit(request.headers, incoming.target)
            return await self.proxy.handle(incoming)
        except (Unauthorized, PortUnavailable) as refusal:
            return failure(dialect_for_errors(request.headers, incoming.target.partition("?")[0]), refusal)
        except Exception:
            log.exception("a request failed for an unforeseen reason")
            error = ProxyError("something went wrong inside cacheproxy; its log says what")
            return failure(dialect_for_errors(request.headers), error)

    def _told(self, status: int, told: Mapping[str, object]) -> web.Response:
        response = web.Response(text=json.dumps(told), status=status, content_type="application/json")
        if self.closing:
            response.force_close()
        return response


def _target(sent: str) -> str:
    """Path and query as they were sent; of an absolute URL what follows the host."""
    if sent.startswith("/"):
        return sent
    return "/" + sent.partition("://")[2].partition("/")[2]


async def _write_stream(request: web.BaseRequest, reply: Streamed, *, last: bool) -> web.StreamResponse:
    headers = CIMultiDict(reply.headers)
    headers.setdefault("Server", "cacheproxy")
    response = web.StreamResponse(status=reply.status, headers=headers)
    if last:
        response.force_close()
    try:
        await response.prepare(request)
        async for chunk in reply.body:
            await response.write(chunk)
        await response.write_eof()
    except ProxyError:
        # The head is out: cutting the connection is the one way left to say that the answer is not whole.
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # the caller left
    finally:
        await reply.close()
    return response
