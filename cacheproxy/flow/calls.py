"""Calls to upstreams, each counted by how it went and traced where somebody traces. All go this way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from cacheproxy.events import CallResult
from cacheproxy.flow.arrival import UNTRACED

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType

    from cacheproxy.ports import CallWatch, Upstream, UpstreamRequest, UpstreamResponse
    from cacheproxy.tracing import Trace, TracedCall

_RESULTS: Final[dict[type[BaseException], CallResult]] = {
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

    def make(
        self, upstream: Upstream, request: UpstreamRequest, *, name: str, trace: Trace, model: str = ""
    ) -> AbstractAsyncContextManager[UpstreamResponse]:
        """As ``Upstream.send``. ``name`` is the upstream's; ``model`` another than the trace's request asks for."""
        return _Call(self.watch, upstream, name, trace.call(name, request, model=model))


class _Call:
    """One call, as a class: as generators inside each other, entering and leaving take four times as long."""

    __slots__ = ("_name", "_sending", "_status", "_traced", "_upstream", "_watch")

    _sending: AbstractAsyncContextManager[UpstreamResponse]
    _status: int

    def __init__(
        self, watch: CallWatch, upstream: Upstream, name: str, traced: AbstractContextManager[TracedCall]
    ) -> None:
        self._watch = watch
        self._upstream = upstream
        self._name = name
        self._traced = traced

    async def __aenter__(self) -> UpstreamResponse:
        call = self._traced.__enter__()
        try:
            self._sending = self._upstream.send(call.request)
            response = await self._sending.__aenter__()
            self._status = response.status
            call.answered(response.status)
        except BaseException as error:
            self._ended(error)
            raise
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._sending.__aexit__(kind, error, trace)
        except BaseException as failure:
            self._ended(failure)
            raise
        self._ended(error)

    def _ended(self, error: BaseException | None) -> None:
        self._traced.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        self._watch.called(self._name, result_of(self._status) if error is None else result_of_error(error))


class Counted:
    """An upstream for whoever makes calls of its own to a model, for the request of a trace or for none."""

    def __init__(
        self, upstream: Upstream, calls: Calls, *, name: str, model: str = "", trace: Trace | None = None
    ) -> None:
        self._upstream = upstream
        self._calls = calls
        self._name = name
        self._model = model
        self._trace = trace or UNTRACED

    def send(self, request: UpstreamRequest) -> AbstractAsyncContextManager[UpstreamResponse]:
        """As ``Upstream.send``."""
        return self._calls.make(self._upstream, request, name=self._name, trace=self._trace, model=self._model)


def result_of(status: int) -> CallResult:
    """What an HTTP status says of a call."""
    if status == _TOO_MANY:
        return CallResult.RATE_LIMITED
    if status >= _FAILED:
        return CallResult.FAILED
    return CallResult.REFUSED if status >= _REFUSED else CallResult.OK


def result_of_error(error: BaseException) -> CallResult:
    """What an exception says of it; another than an upstream's own is its caller's."""
    return _RESULTS.get(type(error), CallResult.GIVEN_UP)
