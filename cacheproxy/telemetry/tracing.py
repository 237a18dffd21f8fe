"""Traces of requests: one span for each, with the stretches of its time below it. See ``cacheproxy/tracing.py``.

A caller's W3C context is continued, and the upstream gets ours in its place. Spans are passed on by hand, never as
"the current one": a flight outlives the request that began it, and serves others.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from opentelemetry import trace as api
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cacheproxy.telemetry import conventions as names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from cacheproxy.errors import ProxyError
    from cacheproxy.events import Served
    from cacheproxy.ports import UpstreamRequest

_W3C: Final = TraceContextTextMapPropagator()
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500


class OtelTracer:
    """Begins a span for each request."""

    def __init__(self, tracer: api.Tracer) -> None:
        self._tracer = tracer

    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> OtelTrace:
        """A request has arrived; ``headers`` are looked up in any case."""
        attributes: names.Attributes = {names.METHOD: method, names.PATH: path}
        context = _W3C.extract(headers)
        span = self._tracer.start_span(method, context, SpanKind.SERVER, attributes)
        return OtelTrace(self._tracer, span, method, path)


class OtelTrace:
    """One request's span."""

    def __init__(self, tracer: api.Tracer, span: api.Span, method: str, path: str) -> None:
        self._tracer = tracer
        self._span = span
        self._context = api.set_span_in_context(span)
        self._name = f"{method} {path}"
        self._call_name = method
        self._asked: names.Attributes = {}
        self._dialect = ""
        self.id = api.format_trace_id(span.get_span_context().trace_id)

    def about(self, *, dialect: str, upstream: str, model: str, stream: bool) -> None:
        """A request to a cached API: of those there are few paths, so a span may be called after one."""
        self._dialect = dialect
        self._asked = {names.OPERATION: names.operation(dialect), names.REQUEST_MODEL: model, names.STREAM: stream}
        self._call_name = f"{names.operation(dialect)} {model}"
        self._span.update_name(self._name)
        self._span.set_attributes({**self._asked, names.PROVIDER: names.provider(upstream, dialect)})

    def step(self, name: str) -> _Step:
        """A stretch of the request's time in this process."""
        return _Step(self._tracer.start_span(name, self._context))

    def call(self, upstream: str, request: UpstreamRequest, *, model: str = "") -> _Call:
        """A call to an upstream, which gets our context in place of the caller's."""
        place = urlsplit(request.url)
        own = {names.OPERATION: names.CHAT, names.REQUEST_MODEL: model}
        attributes = {
            **(own if model else self._asked),
            names.PROVIDER: names.provider(upstream, "" if model else self._dialect),
            names.METHOD: request.method,
            names.SERVER: place.hostname or "",
            names.PORT: place.port or (443 if place.scheme == "https" else 80),
        }
        name = f"{names.CHAT} {model}" if model else self._call_name
        span = self._tracer.start_span(name, self._context, SpanKind.CLIENT, attributes)
        return _Call(span, request)

    def served(self, event: Served) -> None:
        """The request has ended."""
        self._span.set_attributes(names.of_served(event))
        self._end(event.http_status)

    def passed(self, status: int) -> None:
        """The same for a request that was passed through."""
        self._span.set_attribute(names.STATUS_CODE, status)
        self._end(status)

    def failed(self, error: ProxyError | None) -> None:
        """The same for one that got an error of ours, or whose caller left."""
        if error is None:
            self._span.set_attribute(names.ERROR, "caller-left")
            self._span.end()
            return
        self._span.set_attributes({names.STATUS_CODE: error.status, names.ERROR: error.code})
        self._end(error.status, error.code)

    def _end(self, status: int, kind: str = "") -> None:
        if self._span.is_recording():
            if status >= _SERVER_ERROR:  # what is the caller's fault is no error of a server's span
                self._span.set_attribute(names.ERROR, kind or str(status))
                self._span.set_status(Status(StatusCode.ERROR))
            self._span.end()


class _Step:
    """A span for as long as a block lasts."""

    def __init__(self, span: api.Span) -> None:
        self._span = span

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._span.set_attribute(names.ERROR, "cancelled" if kind in _LEFT else kind.__name__)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


_LEFT: Final = (asyncio.CancelledError, GeneratorExit)


class _Call(_Step):
    """The span of a call to an upstream, and the request that carries its context."""

    def __init__(self, span: api.Span, request: UpstreamRequest) -> None:
        super().__init__(span)
        carried: dict[str, str] = {}
        _W3C.inject(carried, api.set_span_in_context(span))
        kept = [(name, value) for name, value in request.headers if name.lower() not in _W3C.fields]
        self.request = replace(request, headers=[*kept, *carried.items()])

    def answered(self, status: int) -> None:
        """The head of the answer has arrived."""
        self._span.set_attribute(names.STATUS_CODE, status)
        if status >= _BAD_REQUEST:
            self._span.set_attribute(names.ERROR, str(status))
            self._span.set_status(Status(StatusCode.ERROR))
