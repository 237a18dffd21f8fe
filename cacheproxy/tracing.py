"""The port of tracing: what the flow tells of a request's time, for whoever draws it.

Beside the other ports, because it is one request's and not the proxy's. ``flow/arrival.py`` has the one that does
nothing, ``telemetry/tracing.py`` the one for OpenTelemetry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from cacheproxy.errors import ProxyError
    from cacheproxy.events import Served
    from cacheproxy.ports import UpstreamRequest


class TracedCall(Protocol):
    """A call to an upstream, inside a trace."""

    request: UpstreamRequest
    """What is to be sent: it says which trace it belongs to."""

    def answered(self, status: int) -> None:
        """The head of the answer has arrived."""


class Trace(Protocol):
    """One request's place in a trace. Nothing here may raise or block."""

    id: str
    """32 hexadecimal digits; empty where nothing is traced."""

    def about(self, *, dialect: str, upstream: str, model: str, stream: bool) -> None:
        """What is asked, once that is understood."""

    def step(self, name: str) -> AbstractContextManager[object]:
        """A stretch of the request's time in this process."""

    def call(self, upstream: str, request: UpstreamRequest, *, model: str = "") -> AbstractContextManager[TracedCall]:
        """A call to an upstream; ``model`` is another than the one that the request asks for, in a chat of our own."""

    def served(self, event: Served) -> None:
        """The request has ended; so has the trace's part here."""

    def passed(self, status: int) -> None:
        """The same for a request that was passed through."""

    def failed(self, error: ProxyError | None) -> None:
        """The same for one that got an error of ours; None where its caller left. What ended already stays."""


class Tracer(Protocol):
    """Begins traces, or continues those of callers."""

    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> Trace:
        """A request has arrived."""
