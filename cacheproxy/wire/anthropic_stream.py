"""Streams of Anthropic's Messages API: events into one message, and a message back into events.

A stream is ``message_start``, then blocks (``content_block_start``, deltas, ``content_block_stop``), then
``message_delta`` with what is known only at the end, and ``message_stop``. ``ping`` may come anywhere. What each event
may carry follows the types of the official client; members that it does not know are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy import jsontext
from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.reading import count, event_body, member, named_event, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.wire.sse import ServerSentEvent

_ENVELOPE: Final = frozenset({"type", "delta", "usage"})
"""Members of ``message_delta`` itself; any other belongs to the message."""
_KNOWN_LAST: Final = ("stop_reason", "stop_sequence", "stop_details", "container")
"""Members of the message that ``message_delta`` brings inside its ``delta``."""
_KNOWN_LAST_BESIDE: Final = ("context_management",)
"""Members of the message that ``message_delta`` brings beside its ``delta``."""
_COUNTED_LAST: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
    "iterations",
    "fallback_credit",
)
"""Members of the usage that ``message_delta`` brings, as totals. The first three are known at the start already."""
_COUNTED_FIRST: Final = frozenset(_COUNTED_LAST[:3])


class _Block:
    """A content block under way."""

    def __init__(self, start: JsonObject) -> None:
        self.value = start
        self._pieces: dict[str, list[str]] = {}

    def append(self, name: str, piece: Json) -> None:
        """Let a text member grow."""
        if not isinstance(piece, str):
            raise MalformedStream(f"a delta's {name} is not a string")
        self._pieces.setdefault(name, []).append(piece)

    def cite(self, citation: Json) -> None:
        """Add a citation."""
        citations = self.value.get("citations")
        if isinstance(citations, list):
            citations.append(citation)
        else:
            self.value["citations"] = [citation]

    def finish(self) -> bool:
        """Put the pieces together. False when a tool's input was cut off and is no JSON object."""
        for name, grown in self._pieces.items():
            text = "".join(grown)
            if name != "partial_json":
                before = self.value.get(name)
                self.value[name] = before + text if isinstance(before, str) else text
            elif text.strip():  # an empty text stands for a tool without input: the start has it already
                try:
                    self.value["input"] = jsontext.parse(text.encode("utf-8", "surrogatepass"))
                except ValueError:
                    return False
                if not isinstance(self.value["input"], dict):
                    return False
        return True


def _take_compaction(block: _Block, delta: JsonObject) -> None:
    block.value.update({name: value for name, value in delta.items() if name != "type"})


_DELTAS: Final[Mapping[str, Callable[[_Block, JsonObject], None]]] = {
    "text_delta": lambda block, delta: block.append("text", delta.get("text")),
    "thinking_delta": lambda block, delta: block.append("thinking", delta.get("thinking")),
    # A signature comes whole; the official client takes the last one.
    "signature_delta": lambda block, delta: block.value.update(signature=delta.get("signature")),
    "input_json_delta": lambda block, delta: block.append("partial_json", delta.get("partial_json")),
    "citations_delta": lambda block, delta: block.cite(delta.get("citation")),
    "compaction_delta": _take_compaction,
}


class _Draft:
    """The message under way: one method for each event that builds it."""

    def __init__(self) -> None:
        self.message: JsonObject = {}
        self.lossy = False
        self.stopped = False
        self._content: list[Json] = []
        self._open: dict[int, _Block] = {}

    def start(self, body: JsonObject) -> None:
        message = body.get("message")
        if not isinstance(message, dict):
            raise MalformedStream("message_start without a message")
        content = message.get("content")
        self._content = list(content) if isinstance(content, list) else []
        self.message = {**message, "content": self._content}

    def start_block(self, body: JsonObject) -> None:
        index, start = body.get("index"), body.get("content_block")
        if index != len(self._content) or not isinstance(start, dict):
            raise MalformedStream(f"content_block_start {index} where {len(self._content)} was due")
        block = self._open[index] = _Block(start)
        self._content.append(block.value)

    def grow_block(self, body: JsonObject) -> None:
        _, block = self._block(body)
        delta = body.get("delta")
        take = _DELTAS.get(str(member(delta, "type")))
        if take is None or delta is None:
            self.lossy = True
        else:
            take(block, delta)

    def stop_block(self, body: JsonObject) -> None:
        index, block = self._block(body)
        if not block.finish():
            self.lossy = True
        del self._open[index]

    def end(self, body: JsonObject) -> None:
        """What ``message_delta`` says holds now; its counts are totals."""
        message = self.message
        _merge(message, member(body, "delta"))
        _merge(message, {name: value for name, value in body.items() if name not in _ENVELOPE})
        usage = body.get("usage")
        if isinstance(usage, dict):
            known = message.get("usage")
            message["usage"] = total = dict(known) if isinstance(known, dict) else {}
            _merge(total, usage)

    def stop(self, body: JsonObject) -> None:
        if self._open:
            raise MalformedStream(f"{body['type']} while a content block is open")
        self.stopped = True

    def _block(self, body: JsonObject) -> tuple[int, _Block]:
        index = body.get("index")
        block = self._open.get(index) if isinstance(index, int) else None
        if not isinstance(index, int) or block is None:
            raise MalformedStream(f"{body['type']} for block {index}, which is not open")
        return index, block


_STEPS: Final[Mapping[str, Callable[[_Draft, JsonObject], None]]] = {
    "message_start": _Draft.start,
    "content_block_start": _Draft.start_block,
    "content_block_delta": _Draft.grow_block,
    "content_block_stop": _Draft.stop_block,
    "message_delta": _Draft.end,
    "message_stop": _Draft.stop,
}


class AnthropicAssembler:
    """Puts one stream together.

    A stream with events or deltas that are not known here gives no answer: what they carried would be lost.
    """

    def __init__(self) -> None:
        self._draft = _Draft()
        self.failed = False

    def feed(self, event: ServerSentEvent) -> None:
        """Take the next event. Raises ``MalformedStream``."""
        body = event_body(event)
        if body is None or self.failed or body["type"] == "ping":
            return
        kind = body["type"]
        if kind == "error":
            self.failed = True
            return
        draft = self._draft
        if draft.stopped or bool(draft.message) is (kind == "message_start"):
            raise MalformedStream(f"{kind} out of its place")
        step = _STEPS.get(kind)
        if step is None:
            draft.lossy = True
        else:
            step(draft, body)

    def usage_only(self, event: ServerSentEvent) -> bool:  # noqa: ARG002 - the protocol's signature
        """Never: this API always tells the usage, nothing is asked on the caller's behalf."""
        return False

    def answer(self) -> JsonObject | None:
        """The message, once ``message_stop`` came and nothing was lost on the way."""
        draft = self._draft
        return draft.message if draft.stopped and not draft.lossy and not self.failed else None


def _merge(target: JsonObject, news: Json) -> None:
    """Take over members. A null takes nothing away: it stands for "not applicable here"."""
    if isinstance(news, dict):
        target.update({name: value for name, value in news.items() if value is not None or name not in target})


def replay(answer: JsonObject) -> Iterator[ServerSentEvent]:
    """The events that tell a message. One without usage gets zeros: the official client cannot do without."""
    content = answer.get("content")
    told = answer.get("usage")
    usage = {"input_tokens": 0, "output_tokens": 0, **(told if isinstance(told, dict) else {})}
    message = {name: value for name, value in answer.items() if name not in _KNOWN_LAST_BESIDE}
    message.update({name: None for name in _KNOWN_LAST if name in answer}, content=[], usage=_usage_at_start(usage))
    yield named_event({"type": "message_start", "message": message})
    for index, block in enumerate(content if isinstance(content, list) else ()):
        start, deltas = _taken_apart(block)
        yield named_event({"type": "content_block_start", "index": index, "content_block": start})
        for delta in deltas:
            yield named_event({"type": "content_block_delta", "index": index, "delta": delta})
        yield named_event({"type": "content_block_stop", "index": index})
    yield named_event(
        {
            "type": "message_delta",
            "delta": {name: answer[name] for name in _KNOWN_LAST if name in answer},
            "usage": {name: usage[name] for name in _COUNTED_LAST if name in usage},
            **{name: answer[name] for name in _KNOWN_LAST_BESIDE if name in answer},
        }
    )
    yield named_event({"type": "message_stop"})


def _usage_at_start(usage: JsonObject) -> JsonObject:
    """The usage as it is known before the first token: the real API counts one token of output by then."""
    first = {name: value for name, value in usage.items() if name in _COUNTED_FIRST or name not in _COUNTED_LAST}
    return {**first, "output_tokens": min(1, count(usage, "output_tokens"))}


def _taken_apart(block: Json) -> tuple[Json, Iterator[JsonObject]]:
    """A block as its stream begins it, and the deltas that fill it. A block of another kind is told at once."""
    take = _TAKEN_APART.get(str(member(block, "type")))
    return take(block) if take else (block, iter(()))


def _text_apart(block: JsonObject) -> tuple[JsonObject, Iterator[JsonObject]]:
    text, citations = block.get("text"), block.get("citations")
    start = dict(block)
    if isinstance(text, str):
        start["text"] = ""
    if isinstance(citations, list):
        start["citations"] = []

    def deltas() -> Iterator[JsonObject]:
        if isinstance(text, str):
            yield from ({"type": "text_delta", "text": piece} for piece in pieces(text))
        if isinstance(citations, list):
            yield from ({"type": "citations_delta", "citation": citation} for citation in citations)

    return start, deltas()


def _thinking_apart(block: JsonObject) -> tuple[JsonObject, Iterator[JsonObject]]:
    thinking, signature = block.get("thinking"), block.get("signature")
    start = dict(block)
    if isinstance(thinking, str):
        start["thinking"] = ""
    if isinstance(signature, str):
        start["signature"] = ""

    def deltas() -> Iterator[JsonObject]:
        if isinstance(thinking, str):
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in pieces(thinking))
        if isinstance(signature, str) and signature:
            yield {"type": "signature_delta", "signature": signature}

    return start, deltas()


def _tool_apart(block: JsonObject) -> tuple[JsonObject, Iterator[JsonObject]]:
    tool_input = block.get("input")
    if not isinstance(tool_input, dict):
        return block, iter(())

    def deltas() -> Iterator[JsonObject]:
        yield {"type": "input_json_delta", "partial_json": ""}
        if tool_input:
            text = jsontext.dump(tool_input).decode()
            yield from ({"type": "input_json_delta", "partial_json": piece} for piece in pieces(text))

    return {**block, "input": {}}, deltas()


_TAKEN_APART: Final[Mapping[str, Callable[[JsonObject], tuple[JsonObject, Iterator[JsonObject]]]]] = {
    "text": _text_apart,
    "thinking": _thinking_apart,
    "tool_use": _tool_apart,
    "server_tool_use": _tool_apart,
    "mcp_tool_use": _tool_apart,
}
