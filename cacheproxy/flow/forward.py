"""The pump of a flight: ask the upstream, hand its bytes to the listeners, and learn from a complete answer."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

from cacheproxy import jsontext
from cacheproxy.core.scope import CREDENTIAL_HEADERS
from cacheproxy.errors import ProxyError, UpstreamUnreachable
from cacheproxy.flow.asked import plain_body
from cacheproxy.flow.calls import result_of, result_of_error
from cacheproxy.flow.coalesce import Head, Outcome, Piece
from cacheproxy.flow.tee import Decoder, Recorder, can_decode
from cacheproxy.ports import UpstreamRequest
from cacheproxy.upstream.headers import forwarded, returned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.calls import Calls
    from cacheproxy.flow.coalesce import Flight
    from cacheproxy.flow.credentials import Proofs
    from cacheproxy.flow.local import LocalFirst
    from cacheproxy.flow.routing import Target
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.ports import Upstream, UpstreamResponse

_OK: Final = range(200, 300)
_REFUSED: Final = frozenset({401, 403})
_UNWANTED: Final = frozenset({400, 422})
_NOTHING: Final[frozenset[str]] = frozenset()
_CODING: Final = frozenset({"content-encoding"})
_CREDENTIALS: Final = frozenset(CREDENTIAL_HEADERS)


class Learn(Protocol):
    """What is done with a complete answer, before its last byte has left."""

    def __call__(self, answer: JsonObject, text: bytes | None, *, upstream_ms: float, upstream: str) -> Outcome:
        """Take note of it. ``text`` is the answer as it came, if it came whole; ``upstream`` names who gave it."""


class Forwarder:
    """Sends requests on. ``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        calls: Calls,
        proofs: Proofs,
        clock: Callable[[], float],
        limit_bytes: int,
        local: LocalFirst | None = None,
    ) -> None:
        self._upstream = upstream
        self._calls = calls
        self._local = local
        self._proofs = proofs
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._no_usage: set[tuple[str, str]] = set()
        """(upstream, dialect) pairs that refuse to be asked for the usage of a stream."""

    async def fly(self, flight: Flight, asked: Asked, learn: Learn) -> None:
        """Make the call; the flight has ended when this returns, however it went."""
        status = 0
        outcome: Outcome | None = None
        failure: ProxyError | None = UpstreamUnreachable("the request was given up")
        try:
            outcome = await self._exchange(flight, asked, learn)
            failure = None
        except ProxyError as error:
            failure = error
            status = flight.head.status if flight.head else error.status
        finally:
            flight.end(outcome or Outcome(http_status=status), failure)

    async def _exchange(self, flight: Flight, asked: Asked, learn: Learn) -> Outcome:
        if self._local is not None and (outcome := await self._locally(flight, asked, learn, self._local)) is not None:
            return outcome
        pair = (asked.route.target.name, asked.dialect.name)
        ask_usage = not asked.view.asks_usage and pair not in self._no_usage
        outcome = await self._attempt(flight, asked, learn, ask_usage=ask_usage)
        if outcome is None:
            outcome = await self._attempt(flight, asked, learn, ask_usage=False)
            assert outcome is not None  # noqa: S101 - only an attempt that asked for usage comes back empty
            if outcome.http_status in _OK:  # it was our question that was refused, not the caller's
                self._no_usage.add(pair)
        return outcome

    async def _locally(self, flight: Flight, asked: Asked, learn: Learn, local: LocalFirst) -> Outcome | None:
        """Ask the local server; None when it did not answer, and nothing has reached a listener."""
        asked_here = await local.asked(asked)
        if asked_here is None:
            return None
        try:
            return await self._attempt(flight, asked_here, learn, ask_usage=not asked.view.asks_usage, local=local)
        except ProxyError as error:
            local.note(None)
            if flight.head is not None:
                raise
            self._calls.watch.fell_back(result_of_error(error))
            return None

    async def _attempt(
        self, flight: Flight, asked: Asked, learn: Learn, *, ask_usage: bool, local: LocalFirst | None = None
    ) -> Outcome | None:
        """One call; None when the upstream refused to be asked for usage, before anything reached a listener.

        None as well when it is the ``local`` server that is called, and it gives anything but a success.
        """
        started = self._clock()
        upstream = self._upstream if local is None else local.upstream
        target, arrival = asked.route.target.name, asked.arrival
        request = _request(asked, ask_usage=ask_usage)
        async with self._calls.make(upstream, request, name=target, trace=arrival.trace) as response:
            arrival.take_name(response.headers, asked.dialect.request_id_header)
            if local is None:
                self._note_credential(asked, response.status)
            else:
                local.note(response.status)
                if response.status not in _OK:
                    self._calls.watch.fell_back(result_of(response.status))
                    return None
            coding = _header(response, "content-encoding")
            if response.status in _OK and _header(response, "content-type").startswith("text/event-stream"):
                if not can_decode(coding):
                    return await _pass(flight, response, b"", response.chunks())
                # Whoever joins may not have asked for the usage that the first caller asked for.
                hide_usage = ask_usage or asked.view.asks_usage
                recorder = Recorder(asked.dialect.assembler(), coding=coding, hide_usage=hide_usage)
                await _record(flight, response, recorder)
                answer, text = recorder.answer(), None
            else:
                chunks = response.chunks()
                whole = await _read(chunks, self._limit_bytes)
                if len(whole) > self._limit_bytes:
                    return await _pass(flight, response, whole, chunks)
                if ask_usage and response.status in _UNWANTED and b"stream_options" in whole:
                    return None
                flight.land(Head(response.status, returned(response.headers, body_changed=True), whole))
                text = self._plain(whole, coding) if response.status in _OK and not asked.view.stream else None
                answer = _parsed(text) if text is not None else None
            upstream_ms = (self._clock() - started) * 1000
            if answer is None:
                return Outcome(response.status, upstream_ms=upstream_ms)
            return learn(answer, text, upstream_ms=upstream_ms, upstream=target)

    def _plain(self, whole: bytes, coding: str) -> bytes | None:
        """A body without its coding; None where it is too large or cannot be read."""
        if not can_decode(coding):
            return None
        try:
            plain = Decoder(coding).feed(whole, self._limit_bytes + 1)
        except zlib.error:
            return None
        return plain if len(plain) <= self._limit_bytes else None

    def _note_credential(self, asked: Asked, status: int) -> None:
        if status in _OK:
            self._proofs.accept(asked.credential)
        elif status in _REFUSED:
            self._proofs.refuse(asked.credential)


def _request(asked: Asked, *, ask_usage: bool) -> UpstreamRequest:
    changed, body = asked.recoded, asked.raw
    if ask_usage:
        changed, body = True, asked.dialect.asking_usage(plain_body(asked))
    headers = outgoing(asked.headers, asked.route.target, cacheable=True, body_changed=changed)
    return UpstreamRequest("POST", asked.route.url + asked.route.query, headers, body)


def outgoing(
    headers: Mapping[str, str], target: Target, *, cacheable: bool, body_changed: bool = False
) -> list[tuple[str, str]]:
    """A caller's headers as they go to an upstream, with our own credential where the upstream has one."""
    drop = _CODING if body_changed else _NOTHING
    if target.inject is None:
        return forwarded(headers.items(), cacheable=cacheable, body_changed=body_changed, drop=drop)
    drop |= _CREDENTIALS
    return [*forwarded(headers.items(), cacheable=cacheable, body_changed=body_changed, drop=drop), target.inject]


async def _record(flight: Flight, response: UpstreamResponse, recorder: Recorder) -> None:
    headers = returned(response.headers, body_changed=True, drop=_CODING)
    flight.land(Head(response.status, headers, events=True))
    async for chunk in response.chunks():
        for piece in recorder.feed(chunk):
            await flight.push(piece)
    for piece in recorder.rest():
        await flight.push(piece)


async def _pass(flight: Flight, response: UpstreamResponse, start: bytes, rest: AsyncIterator[bytes]) -> Outcome:
    """An answer too large or too strange to read: to its first caller only, byte for byte."""
    flight.joinable = False
    flight.land(Head(response.status, returned(response.headers)))
    if start:
        await flight.push(Piece(start))
    async for chunk in rest:
        await flight.push(Piece(chunk))
    return Outcome(response.status)


async def _read(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """The body, or its start once that is over the limit."""
    read = bytearray()
    async for chunk in chunks:
        read += chunk
        if len(read) > limit:
            break
    return bytes(read)


def _parsed(text: bytes) -> JsonObject | None:
    try:
        answer = jsontext.parse(text)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _header(response: UpstreamResponse, name: str) -> str:
    for header, value in response.headers:
        if header.lower() == name:
            return value.strip().lower()
    return ""
