"""Calls to upstreams, each counted by how it went and traced where somebody traces. All go this way."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from cacheproxy.events import CallResult
from cacheproxy.flow.arrival import UNTRACED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from cacheproxy.ports import CallWatch, Upstream, UpstreamRequest, UpstreamResponse
    from cacheproxy.tracing import Trace

_RESULTS: Final[dict[type[Exception], CallResult]] = {
    UpstreamUnreachable: CallResult.UNREACHABLE,
    UpstreamTimeout: CallResult.TIMEOUT,
    Overloaded: CallResult.OVERLOADED,
}
_TOO_MANY: Final = 429
_REFUSED: Final = 400
_FAILED: Final = 500


class Calls:
    """Makes calls, and tells ``watch`` of each."""

    def __init__(self, watch: CallWatch) -> None:
        self.watch = watch

    @asynccontextmanager
    async def make(
        self, upstream: Upstream, request: UpstreamRequest, *, name: str, trace: Trace
    ) -> AsyncIterator[UpstreamResponse]:
        """As ``Upstream.send``. ``name`` is the upstream's."""
        result = CallResult.GIVEN_UP
        try:
            with trace.call(name, request) as call:
                async with upstream.send(call.request) as response:
                    call.answered(response.status)
                    yield response
                    result = result_of(response.status)
        except Exception as error:
            result = result_of_error(error)
            raise
        finally:
            self.watch.called(name, result)


class Counted:
    """An upstream for whoever makes calls of no request's trace."""

    def __init__(self, upstream: Upstream, calls: Calls, *, name: str) -> None:
        self._upstream = upstream
        self._calls = calls
        self._name = name

    def send(self, request: UpstreamRequest) -> AbstractAsyncContextManager[UpstreamResponse]:
        """As ``Upstream.send``."""
        return self._calls.make(self._upstream, request, name=self._name, trace=UNTRACED)


def result_of(status: int) -> CallResult:
    """What an HTTP status says of a call."""
    if status == _TOO_MANY:
        return CallResult.RATE_LIMITED
    if status >= _FAILED:
        return CallResult.FAILED
    return CallResult.REFUSED if status >= _REFUSED else CallResult.OK


def result_of_error(error: Exception) -> CallResult:
    """What an exception says of it; another than an upstream's own is its caller's."""
    return _RESULTS.get(type(error), CallResult.GIVEN_UP)
