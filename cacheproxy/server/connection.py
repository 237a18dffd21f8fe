"""Connections on which something comes that is not HTTP.

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
from cacheproxy.wire.dialects import dialect_for_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

_MAX_HEADER_BYTES: Final = 64 * 1024


class DiscreetLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log without its quotations."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """The message without the exception, where that quotes a request."""
        error = kwargs.get("exc_info")
        if isinstance(error, HttpProcessingError):
            return f"{msg}: not readable as HTTP ({type(error).__name__})", {**kwargs, "exc_info": None}
        return msg, kwargs


def discreet_log() -> DiscreetLog:
    """The log for aiohttp's servers."""
    return DiscreetLog(logging.getLogger("aiohttp.server"), {})


class _Connection(web.RequestHandler):
    """One caller's connection."""

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
        reply = failure(dialect_for_errors({}), BadRequest(f"the request cannot be read as HTTP/1.1: {why}"))
        refusal = web.Response(status=reply.status, body=reply.body, content_type="application/json")
        refusal.force_close()
        return refusal


class CallersServer(web.Server):
    """A server whose connections end so."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._options: dict[str, Any] = {
            "auto_decompress": False,
            "access_log": None,
            "logger": discreet_log(),
            "max_line_size": _MAX_HEADER_BYTES,
            "max_field_size": _MAX_HEADER_BYTES,
        }

    def __call__(self) -> web.RequestHandler:
        """A new connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)
