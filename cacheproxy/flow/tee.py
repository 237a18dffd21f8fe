"""Reading along while bytes pass by: content codings undone, events taken apart, the answer put together.

What cannot be read is passed on all the same; it is only never stored.
"""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest, TooLarge, UpstreamUnreachable
from cacheproxy.flow.coalesce import Piece
from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.sse import EventTooLarge, SseParser, parse_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cacheproxy.flow.messages import Headers
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.wire.dialect import Assembler
    from cacheproxy.wire.sse import ServerSentEvent

log = logging.getLogger(__name__)
_WINDOW_BITS: Final = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


def can_decode(coding: str) -> bool:
    """Whether a ``Content-Encoding`` value can be undone here."""
    return coding in {"", "identity"} or coding in _WINDOW_BITS


class Decoder:
    """Undoes a content coding piece by piece. Raises ``zlib.error`` for bytes that are not in it."""

    def __init__(self, coding: str) -> None:
        self._inflate = zlib.decompressobj(_WINDOW_BITS[coding]) if coding in _WINDOW_BITS else None

    @property
    def at_end(self) -> bool:
        """Whether everything that was coded has come, and nothing else."""
        return self._inflate is None or (self._inflate.eof and not self._inflate.unused_data)

    def feed(self, chunk: bytes, max_bytes: int = 0) -> bytes:
        """Decoded bytes; at most ``max_bytes`` of them, where that is not zero."""
        return chunk if self._inflate is None else self._inflate.decompress(chunk, max_bytes)


def decoded(body: bytes, coding: str, *, limit: int) -> bytes:
    """A request's body without its coding. Raises ``BadRequest`` or, past ``limit`` bytes, ``TooLarge``."""
    if coding in {"", "identity"}:
        return body
    if coding not in _WINDOW_BITS:
        raise BadRequest(f"content-encoding {coding!r} is not supported here; send identity, gzip or deflate")
    try:
        decoder = Decoder(coding)
        plain = decoder.feed(body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not {coding}: {error}") from error
    if len(plain) > limit:
        raise TooLarge(f"the body is over {limit} bytes when decoded")
    if not decoder.at_end:  # what is not read here would be read by the upstream
        raise BadRequest(f"the body must be {coding} in one piece, whole and with nothing behind it")
    return plain


def plain_answer(body: bytes, headers: Headers) -> bytes:
    """An upstream's body without its coding. Raises ``zlib.error``."""
    coding = next((value for name, value in headers if name.lower() == "content-encoding"), "")
    return Decoder(coding.strip().lower()).feed(body)


class Recorder:
    """Reads one stream along. ``hide_usage``: mark the events that hold only the usage we asked for ourselves."""

    def __init__(self, assembler: Assembler, *, coding: str, hide_usage: bool) -> None:
        self._assembler = assembler
        self._decoder = Decoder(coding)
        self._hide_usage = hide_usage
        self._parser = SseParser()
        self._readable = True

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """Take a chunk, give the pieces for the callers: whole events, byte for byte but for the content coding."""
        try:
            plain = self._decoder.feed(chunk)
        except zlib.error as error:
            raise UpstreamUnreachable(f"the upstream's stream is not in its content coding: {error}") from error
        if not self._readable:
            yield Piece(plain)
            return
        try:
            events = self._parser.feed(plain)
        except EventTooLarge:
            self._readable = False
            yield Piece(self._parser.rest)
            return
        for event in events:
            yield self._read(event)

    def rest(self) -> Iterator[Piece]:
        """What came after the last complete event."""
        if self._readable and (rest := self._parser.rest):
            yield self._read(parse_event(rest))

    def answer(self) -> JsonObject | None:
        """The whole answer; None when the stream was not a complete one."""
        if not self._readable or self._assembler.failed:
            return None
        return self._assembler.answer()

    def _read(self, event: ServerSentEvent) -> Piece:
        if not self._readable:
            return Piece(event.raw)
        try:
            self._assembler.feed(event)
        except MalformedStream as error:
            log.warning("a stream cannot be recorded: %s", error)
            self._readable = False
            return Piece(event.raw)
        return Piece(event.raw, self._hide_usage and self._assembler.usage_only(event))
