"""An upstream that answers from a script and remembers what it was asked, for tests of whatever stands on the port.

gate = asyncio.Event()
upstream = ScriptedUpstream([
    Answer(chunks=[b'{"id": ', gate, b'"x"}']),      # holds the stream open until the gate is set
    Fails(UpstreamTimeout("too slow")),               # no head arrives
    Answer(chunks=[b"data: {}"], then_fails=UpstreamUnreachable("reset")),
])
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from cacheproxy.errors import ProxyError, UpstreamUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence

    from cacheproxy.ports import UpstreamRequest, UpstreamResponse

JSON: Final[tuple[tuple[str, str], ...]] = (("Content-Type", "application/json"),)
EVENT_STREAM: Final[tuple[tuple[str, str], ...]] = (("Content-Type", "text/event-stream; charset=utf-8"),)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. A chunk is sent on its own; an event among the chunks is waited for."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = JSON
    chunks: Sequence[bytes | asyncio.Event] = ()
    then_fails: ProxyError | None = None
    """Raised after the last chunk, as for a connection that breaks in mid-stream."""
    head_waits: asyncio.Event | None = None
    """Waited for before the head arrives."""


@dataclass(frozen=True, slots=True)
class Fails:
    """No head arrives: the request ends in this error."""

    error: ProxyError


Step: TypeAlias = Answer | Fails


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it reached the upstream, its body read to the end."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class ScriptedUpstream:
    """Plays its steps in order, or asks a function for each request's step. See the module's docstring.

    ``received`` holds the requests, ``open`` counts those whose block was not left yet, and ``abandoned`` those left
    before the last chunk was read. A script that has run out answers with ``UpstreamUnreachable``.
    """

    def __init__(self, script: Iterable[Step] | Callable[[Received], Step]) -> None:
        self.received: list[Received] = []
        self.open = 0
        self.abandoned = 0
        if callable(script):
            self._step = script
        else:
            steps = iter(tuple(script))
            self._step = lambda received: next(steps, _run_out(received))

    @asynccontextmanager
    async def send(self, request: UpstreamRequest) -> AsyncIterator[UpstreamResponse]:
        """Play the next step. See ``ports.Upstream``."""
        received = Received(request.method, request.url, tuple(request.headers), await _whole(request.body))
        self.received.append(received)
        response: _ScriptedResponse | None = None
        self.open += 1
        try:
            match self._step(received):
                case Fails(error):
                    raise error
                case Answer() as answer:
                    if answer.head_waits is not None:
                        await answer.head_waits.wait()
                    response = _ScriptedResponse(answer)
                    yield response
        finally:
            self.open -= 1
            if response is not None and not response.ended:
                self.abandoned += 1


class _ScriptedResponse:
    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.reason = HTTPStatus(answer.status).phrase
        self.headers = answer.headers
        self.ended = False
        self._answer = answer

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._answer.chunks:
            if isinstance(chunk, asyncio.Event):
                await chunk.wait()
            else:
                yield chunk
        self.ended = True
        if self._answer.then_fails is not None:
            raise self._answer.then_fails


def _run_out(received: Received) -> Fails:
    return Fails(UpstreamUnreachable(f"The script has no step left for {received.method} {received.url}."))


async def _whole(body: bytes | AsyncIterable[bytes] | None) -> bytes:
    match body:
        case None:
            return b""
        case bytes():
            return body
        case _:
            return b"".join([chunk async for chunk in body])
