"""Server-sent events, sans I/O: bytes in, events out, and events back to bytes. Chunks may be cut anywhere.

Follows the WHATWG HTML standard, section 9.2: lines end in LF, CR LF or CR, a leading byte-order mark is skipped,
``data`` lines join with LF, comments are ignored. Bounded: one event may hold ``max_event_bytes``.
Every event keeps the raw bytes that it came in, so that a stream can be passed on to the byte, event by event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_END_OF_EVENT: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = ord("\r")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event. ``data`` is None where there was no data line (a comment alone, say); ``raw`` is what came in."""

    data: str | None
    event: str | None = None
    raw: bytes = b""

    def encode(self) -> bytes:
        """The event as bytes: as it came in, or written anew."""
        if self.raw:
            return self.raw
        head = f"event: {self.event}\n" if self.event else ""
        data = "" if self.data is None else "".join(f"data: {line}\n" for line in self.data.split("\n"))
        return f"{head}{data}\n".encode("utf-8", "surrogatepass")


class EventTooLarge(ValueError):
    """One event outgrew the parser's bound."""


class SseParser:
    """An incremental parser. ``rest`` holds what no blank line has ended yet."""

    def __init__(self, *, max_event_bytes: int = 8 * 1024 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._buffer = bytearray()
        self._searched = 0

    @property
    def rest(self) -> bytes:
        """The bytes of the event that is not complete yet."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take bytes, give the events that they complete. Raises ``EventTooLarge``."""
        self._buffer += chunk
        events = []
        start = 0
        position = self._searched
        while (match := _END_OF_EVENT.search(self._buffer, position)) is not None:
            end = match.end()
            if end == len(self._buffer) and self._buffer[end - 1] == _CR:
                break  # the CR may be the first half of a CR LF whose LF is still under way
            events.append(parse_event(bytes(self._buffer[start:end])))
            start = position = end
        if start:
            del self._buffer[:start]
        # A boundary is at most four bytes long, so the last three may be the start of one.
        self._searched = max(0, len(self._buffer) - 3)
        if not events and len(self._buffer) > self._max_event_bytes:  # events that came complete are never lost
            raise EventTooLarge(f"a server-sent event is over {self._max_event_bytes} bytes")
        return events


def parse_event(raw: bytes) -> ServerSentEvent:
    """The event in one block of lines."""
    text = raw.removeprefix(_BOM).decode("utf-8", "replace")
    name: str | None = None
    data: list[str] = []
    for line in _LINE_END.split(text):
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
        elif field == "event":
            name = value.removeprefix(" ")
    return ServerSentEvent("\n".join(data) if data else None, name, raw)
