"""Connections of callers and operators, on which something may come that is not HTTP.

aiohttp quotes what it cannot read, in its log and in its answer, and that may be a header with a key. Here nothing of
it is repeated, and callers get the error as JSON.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

from cacheproxy.errors import BadRequest
from cacheproxy.flow.render import failure
from cacheproxy.server.refusal import refused
from cacheproxy.wire.dialects import dialect_for_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

_MAX_HEADER_BYTES: Final = 64 * 1024
_AT_ONCE_S: Final = 0.01
"""Stands for no time at all, which aiohttp takes for time without end."""


class DiscreetLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log without its quotations."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """The message without the exception, where that quotes a request."""
        error = kwargs.get("exc_info")
        if isinstance(error, HttpProcessingError):
            return f"{msg}: not readable as HTTP ({type(error).__name__})", {**kwargs, "exc_info": None}
        return msg, kwargs


_OPTIONS: Final[Mapping[str, Any]] = {
    "access_log": None,
    "logger": DiscreetLog(logging.getLogger("aiohttp.server"), {}),
    "max_line_size": _MAX_HEADER_BYTES,
    "max_field_size": _MAX_HEADER_BYTES,
}


class _Connection(web.RequestHandler):
    """One caller's connection."""

    _was_paused = False

    def pause_reading(self) -> None:
        """Read no further before somebody has taken what has come."""
        self._was_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - the parent's signature
        """Read on. aiohttp asks for it after each body, and has the parser look for more that it may hold.

        A parser that was never paused holds nothing, and most requests are read without a pause.
        """
        if self._was_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those that end a body under way in disorder are an error to whoever reads that body.

        aiohttp only queues its error behind the request that waits for the rest of its body, and so for ever.
        """
        super().data_received(data)
        if not self._messages or self._messages[-1][1] is not EMPTY_PAYLOAD:
            return
        if len(self._messages) > 1:
            body = self._messages[-2][1]
        elif self._current_request is not None:
            body = self._current_request.content
        else:
            return
        if not body.is_eof():  # nothing can follow a body that has not ended
            self._messages.pop()
            body.set_exception(BadRequest("the request's body cannot be read: its chunked framing is broken"))
            body.feed_eof()
            self.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what could not be read; everything else is aiohttp's own."""
        response = super().handle_error(request, status, exc, message)
        if not isinstance(exc, HttpProcessingError):
            return response
        too_long = f"its request line or a header is over {_MAX_HEADER_BYTES} bytes"
        why = too_long if isinstance(exc, LineTooLong) else "check its request line, headers and framing"
        refusal = self.refusal(BadRequest(f"the request cannot be read as HTTP/1.1: {why}"))
        refusal.force_close()
        return refusal

    def refusal(self, error: BadRequest) -> web.Response:
        """The error as callers are told it."""
        reply = failure(dialect_for_errors({}), error)
        return web.Response(status=reply.status, body=reply.body, content_type="application/json")


class _OperatorsConnection(_Connection):
    """One operator's connection."""

    def refusal(self, error: BadRequest) -> web.Response:
        """The error in the admin plane's shape."""
        return refused(400, "bad_request", error.message)


class CallersServer(web.Server):
    """A server whose connections end so."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._options: dict[str, Any] = {**_OPTIONS, "auto_decompress": False}

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the parent's signature
        """Give requests under way this time, in seconds, and cut off what takes longer."""
        await super().shutdown(None if timeout is None else max(timeout, _AT_ONCE_S))

    def __call__(self) -> web.RequestHandler:
        """A new connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)


class OperatorsServer(web.Server):
    """The same for an application, whose own server is ``plain``."""

    def __init__(self, plain: web.Server) -> None:
        super().__init__(plain.request_handler, request_factory=plain.request_factory, handler_cancellation=True)

    def __call__(self) -> web.RequestHandler:
        """A new connection."""
        return _OperatorsConnection(self, loop=asyncio.get_running_loop(), **_OPTIONS)


class OperatorsRunner(web.AppRunner):
    """Runs an application on such a server."""

    async def _make_server(self) -> web.Server:
        return OperatorsServer(await super()._make_server())
