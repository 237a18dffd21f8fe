"""Streams of OpenAI's Responses API: events into one response, and a response back into events.

The last event (``response.completed`` or ``response.incomplete``) carries the whole response, so assembling is
mostly checking that the stream is one. Replaying tells every item as the API does: added, filled by deltas, done; with
sequence numbers from zero. What each event carries follows the types of the official client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.reading import event_body, member, named_event, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.wire.sse import ServerSentEvent

_BEGINNINGS: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_FAILURES: Final = frozenset({"error", "response.failed"})
_UNKNOWN_AT_START: Final = ("usage", "completed_at", "incomplete_details", "error")
"""Members of a response that are null until it ends."""
_GROWING_PARTS: Final = frozenset({"refusal", "reasoning_text"})
"""Content parts, besides ``output_text``, that deltas of the same name fill."""


class ResponsesAssembler:
    """Puts one stream together."""

    def __init__(self) -> None:
        self._begun = False
        self._sequence = 0
        self._items: dict[int, Json] = {}
        self._response: JsonObject | None = None
        self.failed = False

    def feed(self, event: ServerSentEvent) -> None:
        """Take the next event. Raises ``MalformedStream``."""
        body = event_body(event)
        if body is None or self.failed:
            return
        kind = body["type"]
        if kind in _FAILURES:
            self.failed = True
            return
        if self._response is not None:
            raise MalformedStream(f"{kind} after the response's end")
        self._check_sequence(body)
        if kind in _BEGINNINGS:
            self._begun = True
        elif kind in _ENDS:
            self._end(body)
        elif kind == "response.output_item.done":
            self._take_item(body)

    def usage_only(self, event: ServerSentEvent) -> bool:  # noqa: ARG002 - the protocol's signature
        """Never: this API always tells the usage, nothing is asked on the caller's behalf."""
        return False

    def answer(self) -> JsonObject | None:
        """The response, once its last event came."""
        return None if self.failed else self._response

    def _check_sequence(self, body: JsonObject) -> None:
        number = body.get("sequence_number")
        if isinstance(number, int):
            if number < self._sequence:
                raise MalformedStream(f"sequence number {number} after {self._sequence}")
            self._sequence = number

    def _take_item(self, body: JsonObject) -> None:
        index = body.get("output_index")
        if not isinstance(index, int) or "item" not in body:
            raise MalformedStream("response.output_item.done without an index or an item")
        self._items[index] = body["item"]

    def _end(self, body: JsonObject) -> None:
        response = body.get("response")
        if not self._begun or not isinstance(response, dict):
            raise MalformedStream(f"{body['type']} without response.created or without a response")
        if not response.get("output") and self._items:
            # Some compatible servers leave the output out here; the items told it whole.
            response = {**response, "output": [item for _, item in sorted(self._items.items())]}
        self._response = response


def replay(answer: JsonObject) -> Iterator[ServerSentEvent]:
    """The events that tell a response."""
    for number, body in enumerate(_bodies(answer)):
        body["sequence_number"] = number
        yield named_event(body)


def _bodies(answer: JsonObject) -> Iterator[JsonObject]:
    begun = {**answer, "status": "in_progress", "output": []}
    begun.update({name: None for name in _UNKNOWN_AT_START if name in answer})
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    output = answer.get("output")
    for index, item in enumerate(output if isinstance(output, list) else ()):
        start, events = _taken_apart(item)
        yield {"type": "response.output_item.added", "output_index": index, "item": start}
        for event in events:
            yield {**event, "item_id": member(item, "id") or "", "output_index": index}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    end = "response.incomplete" if answer.get("status") == "incomplete" else "response.completed"
    yield {"type": end, "response": answer}


def _taken_apart(item: Json) -> tuple[Json, Iterable[JsonObject]]:
    """An item as its stream begins it, and the events that fill it. An item of another kind is told at once."""
    take = _TAKEN_APART.get(str(member(item, "type")))
    if take is None:
        return item, ()
    return take({**item, "status": "in_progress"} if item.get("status") else item, item)


def _message_apart(start: JsonObject, item: JsonObject) -> tuple[JsonObject, Iterable[JsonObject]]:
    return {**start, "content": []}, _content_events(item)


def _reasoning_apart(start: JsonObject, item: JsonObject) -> tuple[JsonObject, Iterable[JsonObject]]:
    def events() -> Iterator[JsonObject]:
        for index, part in enumerate(_list(item, "summary")):
            at = {"summary_index": index}
            text = _text(part, "text")
            yield {"type": "response.reasoning_summary_part.added", "part": _emptied(part, "text"), **at}
            for piece in pieces(text):
                yield {"type": "response.reasoning_summary_text.delta", "delta": piece, **at}
            yield {"type": "response.reasoning_summary_text.done", "text": text, **at}
            yield {"type": "response.reasoning_summary_part.done", "part": part, **at}
        yield from _content_events(item)

    empty: JsonObject = {name: [] for name in ("summary", "content") if isinstance(item.get(name), list)}
    return {**start, **empty}, events()


def _call_apart(kind: str, name: str) -> Callable[[JsonObject, JsonObject], tuple[JsonObject, Iterable[JsonObject]]]:
    """How a call is told whose member ``name`` is a text that grows."""

    def apart(start: JsonObject, item: JsonObject) -> tuple[JsonObject, Iterable[JsonObject]]:
        text = _text(item, name)

        def events() -> Iterator[JsonObject]:
            for piece in pieces(text):
                yield {"type": f"response.{kind}.delta", "delta": piece}
            yield {"type": f"response.{kind}.done", name: text}

        return {**start, name: ""}, events()

    return apart


_TAKEN_APART: Final[Mapping[str, Callable[[JsonObject, JsonObject], tuple[JsonObject, Iterable[JsonObject]]]]] = {
    "message": _message_apart,
    "reasoning": _reasoning_apart,
    "function_call": _call_apart("function_call_arguments", "arguments"),
    "custom_tool_call": _call_apart("custom_tool_call_input", "input"),
}


def _content_events(item: JsonObject) -> Iterator[JsonObject]:
    for index, part in enumerate(_list(item, "content")):
        at = {"content_index": index}
        kind = str(member(part, "type"))
        name = "refusal" if kind == "refusal" else "text"
        yield {"type": "response.content_part.added", "part": _emptied(part, name), **at}
        if kind == "output_text":
            yield from ({**event, **at} for event in _output_text_events(part))
        elif kind in _GROWING_PARTS:
            text = _text(part, name)
            for piece in pieces(text):
                yield {"type": f"response.{kind}.delta", "delta": piece, **at}
            yield {"type": f"response.{kind}.done", name: text, **at}
        yield {"type": "response.content_part.done", "part": part, **at}


def _output_text_events(part: JsonObject) -> Iterator[JsonObject]:
    text, logprobs = _text(part, "text"), _list(part, "logprobs")
    tokens = [_text(logprob, "token") for logprob in logprobs]
    if tokens and "".join(tokens) == text:
        for token, logprob in zip(tokens, logprobs, strict=True):
            yield {"type": "response.output_text.delta", "delta": token, "logprobs": [logprob]}
    else:  # no logprobs, or a character's bytes are spread over several tokens
        for piece in pieces(text):
            yield {"type": "response.output_text.delta", "delta": piece, "logprobs": []}
    for index, annotation in enumerate(_list(part, "annotations")):
        yield {
            "type": "response.output_text.annotation.added",
            "annotation": annotation,
            "annotation_index": index,
        }
    yield {"type": "response.output_text.done", "text": text, "logprobs": logprobs}


def _emptied(part: Json, name: str) -> Json:
    """A part before its first delta."""
    if not isinstance(part, dict):
        return part
    empty: JsonObject = {key: [] for key in ("annotations", "logprobs") if isinstance(part.get(key), list)}
    return {**part, **empty, name: ""}


def _text(holder: Json, name: str) -> str:
    value = member(holder, name)
    return value if isinstance(value, str) else ""


def _list(holder: Json, name: str) -> list[Json]:
    value = member(holder, name)
    return value if isinstance(value, list) else []
