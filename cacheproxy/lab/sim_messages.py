"""The simulated Anthropic Messages API, after Anthropic's API reference."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import canonical, parse
from cacheproxy.lab.sim_api import Api, Asked, Event, named
from cacheproxy.upstream.simulated import Finish, Prompt, Tool, count_tokens, pieces_of
from cacheproxy.wire.asking import items, limit, nested, required, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.upstream.simulated import Generation
    from cacheproxy.wire.dialect import Fresh

_FINISH: Final[Mapping[Finish, str]] = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
}
_PER_MESSAGE: Final = 4


def _read(body: JsonObject) -> Asked:
    prompt = prompt_of(body)
    if prompt.max_tokens is None:
        raise BadRequest("max_tokens: Field required")
    return Asked((prompt,), 1, bool(body.get("stream")))


def prompt_of(body: JsonObject) -> Prompt:
    """What the model is asked, also where only its tokens are counted. Raises ``BadRequest``."""
    model = required(body, "model", str)
    messages = items(body, "messages")
    system = body.get("system") or ""
    texts = [text_of(message.get("content")) for message in messages]
    results = _results(messages[-1])
    asked = [
        text
        for text, message in zip(texts, messages, strict=True)
        if message.get("role") == "user" and not _results(message)
    ]
    return Prompt(
        model=model,
        question=asked[-1] if asked else "",
        context=canonical([system, messages]).decode(),
        input_tokens=sum(map(count_tokens, texts))
        + count_tokens(text_of(system))
        + _PER_MESSAGE * len(messages)
        + count_tokens(canonical(body.get("tools") or "").decode()),
        tools=tuple(_tools(body)),
        tool_choice=_tool_choice(body.get("tool_choice")),
        tool_result="\n".join(results) if results else None,
        schema=_schema(body.get("output_config")),
        max_tokens=limit(body, "max_tokens"),
        thinks=nested(body, "thinking").get("type") in {"enabled", "adaptive"},
    )


def _whole(body: JsonObject, said: Sequence[Generation], input_tokens: int, fresh: Fresh) -> JsonObject:
    (generation,) = said
    return _head(body, fresh) | {
        "content": _blocks(generation, fresh),
        "stop_reason": _FINISH[generation.finish],
        "stop_sequence": None,
        "usage": _usage(input_tokens, generation.output_tokens),
    }


def _stream(body: JsonObject, said: Sequence[Generation], input_tokens: int, fresh: Fresh) -> Iterator[Event]:
    (generation,) = said
    opening: JsonObject = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": _usage(input_tokens, 1)}
    yield named("message_start", {"message": _head(body, fresh) | opening})
    for index, block in enumerate(_blocks(generation, fresh)):
        empty, deltas = _told(block, generation)
        yield named("content_block_start", {"index": index, "content_block": empty})
        if index == 0:
            yield named("ping", {})
        for delta in deltas:
            tokens = int(any(delta.get(name) for name in ("text", "thinking", "partial_json")))
            yield named("content_block_delta", {"index": index, "delta": delta}, tokens)
        yield named("content_block_stop", {"index": index})
    delta = {"stop_reason": _FINISH[generation.finish], "stop_sequence": None}
    yield named("message_delta", {"delta": delta, "usage": {"output_tokens": generation.output_tokens}})
    yield named("message_stop", {})


def _told(block: JsonObject, generation: Generation) -> tuple[JsonObject, Iterator[JsonObject]]:
    """A block as it starts, and the deltas that fill it."""
    match block["type"]:
        case "thinking":
            return block | {"thinking": "", "signature": ""}, _thinking_deltas(block, generation)
        case "tool_use":
            return block | {"input": {}}, _input_deltas(block)
        case _:
            return block | {"text": ""}, ({"type": "text_delta", "text": piece} for piece in generation.pieces)


def _thinking_deltas(block: JsonObject, generation: Generation) -> Iterator[JsonObject]:
    for piece in generation.thoughts:
        yield {"type": "thinking_delta", "thinking": piece}
    yield {"type": "signature_delta", "signature": block["signature"]}


def _input_deltas(block: JsonObject) -> Iterator[JsonObject]:
    for piece in ("", *pieces_of(canonical(block["input"]).decode())):
        yield {"type": "input_json_delta", "partial_json": piece}


def _blocks(generation: Generation, fresh: Fresh) -> list[JsonObject]:
    blocks: list[JsonObject] = []
    if generation.thoughts:
        signature = b64encode(f"simulated {fresh.token}".encode()).decode()
        blocks.append({"type": "thinking", "thinking": "".join(generation.thoughts), "signature": signature})
    if generation.pieces:
        blocks.append({"type": "text", "text": generation.text})
    for number, call in enumerate(generation.calls):
        identity = {"id": f"toolu_{fresh.token}{number}", "name": call.name}
        blocks.append({"type": "tool_use", **identity, "input": parse(call.arguments.encode())})
    return blocks


def _head(body: JsonObject, fresh: Fresh) -> JsonObject:
    return {"id": f"msg_{fresh.token}", "type": "message", "role": "assistant", "model": body["model"]}


def _usage(input_tokens: int, output_tokens: int) -> JsonObject:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _results(message: JsonObject) -> list[str]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return [
        text_of(block.get("content"))
        for block in blocks
        if isinstance(block, dict) and block.get("type") == "tool_result"
    ]


def _tools(body: JsonObject) -> Iterator[Tool]:
    for tool in body.get("tools") or ():
        if isinstance(tool, dict) and isinstance(schema := tool.get("input_schema"), dict):
            yield Tool(str(tool.get("name")), schema)


def _tool_choice(choice: Json) -> str:
    match choice:
        case {"type": "tool", "name": str() as name}:
            return name
        case {"type": "any"}:
            return "required"
        case {"type": "none"}:
            return "none"
        case _:
            return "auto"


def _schema(output_config: Json) -> JsonObject | None:
    match output_config:
        case {"format": {"type": "json_schema", "schema": dict() as schema}}:
            return schema
        case _:
            return None


MESSAGES: Final = Api(_read, _whole, _stream)
"""``POST /v1/messages``."""
