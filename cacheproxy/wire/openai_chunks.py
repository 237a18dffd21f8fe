"""Streams of chunks as OpenAI's chat and completions APIs send them, taken together and told again.

Each chunk repeats the answer's own members (id, model ...) and holds fragments of some of its choices. A last chunk
without choices may tell the usage; ``[DONE]`` ends the stream. How a choice is cut up is the dialect's business.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from cacheproxy.jsontext import dump, parse
from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.sse import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cacheproxy.jsontext import Json, JsonObject

_END: Final = "[DONE]"
_NO_CHOICES: Final = re.compile(r'"choices"\s*:\s*\[\s*\]')
# Azure's first chunk leaves these empty.
_IDENTITY: Final = ("id", "created", "model")
_EVERY_CHUNK: Final = (*_IDENTITY, "service_tier", "system_fingerprint")
# Padding against traffic analysis; it belongs to the chunk and not to the answer.
_CHUNK_ONLY: Final = ("obfuscation", "object")

_PIECE: Final = 40
_MOST_PIECES: Final = 64


class ChoiceInProgress(Protocol):
    """One choice while its fragments come in."""

    @property
    def finished(self) -> bool:
        """Whether its finish reason came."""

    def take(self, fragment: JsonObject) -> None:
        """Add a fragment, which belongs to the choice afterwards. Raises ``MalformedStream``."""

    def whole(self) -> JsonObject:
        """The choice as the JSON API would have given it."""


class ChunkAssembler:
    """Assembles a stream of chunks; ``object_name`` is what the whole answer's ``object`` says.

    A stream is complete when every choice told its finish reason and ``[DONE]`` came, or usage in its place: some
    providers leave out the terminator, but usage behind the last finish reason is the end as well. A finish reason
    alone proves nothing about choices and usage that are still to come.
    """

    def __init__(self, object_name: str, new_choice: Callable[[], ChoiceInProgress]) -> None:
        self._object = object_name
        self._new_choice = new_choice
        self._members: JsonObject = {}
        self._choices: dict[int, ChoiceInProgress] = {}
        self._ended = False
        self._failed = False

    @property
    def failed(self) -> bool:
        """Whether an error event was seen in mid-stream."""
        return self._failed

    def feed(self, event: ServerSentEvent) -> None:
        """Take the next event. Raises ``MalformedStream`` when it is no chunk."""
        data = event.data
        if data is None or not data.strip():
            return
        if data.strip() == _END:
            self._ended = True
            return
        chunk = _chunk(data)
        if event.event == "error" or chunk.get("error"):
            self._failed = True
        if self._failed:
            return
        choices = chunk.pop("choices", False)
        if choices is not None and not isinstance(choices, list):
            raise MalformedStream("a chunk without choices")
        for fragment in choices or ():
            self._take(fragment)
        self._remember(chunk)
        if chunk.get("usage") and self._finished:
            self._ended = True

    def usage_only(self, event: ServerSentEvent) -> bool:
        """Whether the event is the chunk that ``include_usage`` adds."""
        data = event.data
        if data is None or '"usage"' not in data or _NO_CHOICES.search(data) is None:
            return False
        chunk = _chunk(data)
        return chunk.get("choices") == [] and chunk.get("usage") is not None

    def answer(self) -> JsonObject | None:
        """The whole answer, once the stream is complete."""
        if self._failed or not self._ended or not self._finished:
            return None
        return {
            "object": self._object,
            **self._members,
            "choices": [choice.whole() for _, choice in sorted(self._choices.items())],
        }

    @property
    def _finished(self) -> bool:
        return bool(self._choices) and all(choice.finished for choice in self._choices.values())

    def _take(self, fragment: Json) -> None:
        if not isinstance(fragment, dict):
            raise MalformedStream("a choice that is not a JSON object")
        index = fragment.setdefault("index", 0)
        if type(index) is not int:
            raise MalformedStream("a choice whose index is not a number")
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = self._new_choice()
        choice.take(fragment)

    def _remember(self, chunk: JsonObject) -> None:
        """The newest value of each member stays: what a chunk tells about the answer, it tells whole."""
        for name, value in chunk.items():
            silent = value is None or (name in _IDENTITY and not value)
            if name not in _CHUNK_ONLY and not (silent and name in self._members) and (name, value) != ("usage", None):
                self._members[name] = value


def chunk_events(
    answer: JsonObject, object_name: str, choices: Iterable[JsonObject], *, with_usage: bool
) -> Iterator[ServerSentEvent]:
    """The stream that tells an answer: one chunk for each of ``choices`` (fragments), the usage, the terminator."""
    usage = answer.get("usage") if with_usage else None
    every: JsonObject = {"object": object_name, **{name: answer[name] for name in _EVERY_CHUNK if name in answer}}
    once = {name: answer[name] for name in answer if name not in every and name not in ("choices", "usage")}
    pending = {} if usage is None else {"usage": None}
    for choice in choices:
        yield _event({**every, **once, "choices": [choice], **pending})
        once = {}
    if usage is not None:
        yield _event({**every, "choices": [], "usage": usage})
    yield ServerSentEvent(_END)


def pieces(text: str) -> Iterator[str]:
    """A text in a few pieces, cut behind spaces where there are any; an empty text is one empty piece."""
    size = max(_PIECE, len(text) // _MOST_PIECES)
    start = 0
    while len(text) - start > 2 * size:
        space = text.find(" ", start + size, start + 2 * size)
        end = start + 2 * size if space < 0 else space + 1
        yield text[start:end]
        start = end
    yield text[start:]


def _event(chunk: JsonObject) -> ServerSentEvent:
    return ServerSentEvent(dump(chunk).decode())


def _chunk(data: str) -> JsonObject:
    try:
        chunk = parse(data.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise MalformedStream(f"a chunk that is not JSON: {error}") from None
    if not isinstance(chunk, dict):
        raise MalformedStream("a chunk that is not a JSON object")
    return chunk
