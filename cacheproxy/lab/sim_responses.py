"""The simulated OpenAI Responses API, after OpenAI's API reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import canonical
from cacheproxy.lab.sim_api import ANY_OBJECT, Api, Asked, Event, named
from cacheproxy.upstream.simulated import Finish, Prompt, Tool, count_tokens, pieces_of
from cacheproxy.wire.asking import limit, required, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.upstream.simulated import Generation, ToolCall
    from cacheproxy.wire.dialect import Fresh

_PER_ITEM: Final = 4
_DEFAULTS: Final[JsonObject] = {
    "background": False,
    "error": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Members of a request that the answer repeats, with the values that they have when they are not sent."""


def _read(body: JsonObject) -> Asked:
    model = required(body, "model", str)
    given = body.get("input")
    conversation = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(conversation, list) or not conversation:
        raise BadRequest("'input' must be a string or a list of items, and not empty.")
    found = [item for item in conversation if isinstance(item, dict)]
    texts = [text_of(item.get("content", item.get("output"))) for item in found]
    asked = [text for text, item in zip(texts, found, strict=True) if item.get("role") == "user"]
    instructions = body.get("instructions") or ""
    ends_in_result = bool(found) and found[-1].get("type") == "function_call_output"
    prompt = Prompt(
        model=model,
        question=asked[-1] if asked else "",
        context=canonical([instructions, conversation]).decode(),
        input_tokens=sum(map(count_tokens, texts))
        + count_tokens(text_of(instructions))
        + _PER_ITEM * len(found)
        + count_tokens(canonical(body.get("tools") or "").decode()),
        tools=tuple(_tools(body)),
        tool_choice=_tool_choice(body.get("tool_choice")),
        tool_result=texts[-1] if ends_in_result else None,
        schema=_schema(body.get("text")),
        max_tokens=limit(body, "max_output_tokens"),
    )
    return Asked((prompt,), 1, bool(body.get("stream")))


def _whole(body: JsonObject, said: Sequence[Generation], input_tokens: int, fresh: Fresh) -> JsonObject:
    (generation,) = said
    return _ended(body, generation, input_tokens, fresh, _output(generation, fresh))


def _stream(body: JsonObject, said: Sequence[Generation], input_tokens: int, fresh: Fresh) -> Iterator[Event]:
    (generation,) = said
    output = _output(generation, fresh)
    begun = _response(body, fresh, "in_progress", [])
    ended = _ended(body, generation, input_tokens, fresh, output)
    events = [("response.created", {"response": begun}, 0), ("response.in_progress", {"response": begun}, 0)]
    for index, item in enumerate(output):
        events += _message(index, item, generation) if item["type"] == "message" else _call(index, item)
    events.append((f"response.{ended['status']}", {"response": ended}, 0))
    for number, (kind, data, tokens) in enumerate(events):
        yield named(kind, data | {"sequence_number": number}, tokens)


def _message(index: int, item: JsonObject, generation: Generation) -> Iterator[tuple[str, JsonObject, int]]:
    (part,) = item["content"]
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    opened = item | {"status": "in_progress", "content": []}
    yield "response.output_item.added", {"output_index": index, "item": opened}, 0
    yield "response.content_part.added", place | {"part": part | {"text": ""}}, 0
    for piece in generation.pieces:
        yield "response.output_text.delta", place | {"delta": piece, "logprobs": []}, 1
    yield "response.output_text.done", place | {"text": part["text"], "logprobs": []}, 0
    yield "response.content_part.done", place | {"part": part}, 0
    yield "response.output_item.done", {"output_index": index, "item": item}, 0


def _call(index: int, item: JsonObject) -> Iterator[tuple[str, JsonObject, int]]:
    place = {"item_id": item["id"], "output_index": index}
    opened = item | {"status": "in_progress", "arguments": ""}
    yield "response.output_item.added", {"output_index": index, "item": opened}, count_tokens(item["name"])
    for piece in pieces_of(item["arguments"]):
        yield "response.function_call_arguments.delta", place | {"delta": piece}, 1
    yield "response.function_call_arguments.done", place | {"arguments": item["arguments"], "name": item["name"]}, 0
    yield "response.output_item.done", {"output_index": index, "item": item}, 0


def _output(generation: Generation, fresh: Fresh) -> list[JsonObject]:
    if generation.calls:
        return [_function_call(call, f"{fresh.token}{number}") for number, call in enumerate(generation.calls)]
    return [
        {
            "id": f"msg_{fresh.token}",
            "type": "message",
            "status": "incomplete" if generation.finish is Finish.LENGTH else "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": generation.text, "annotations": [], "logprobs": []}],
        }
    ]


def _function_call(call: ToolCall, token: str) -> JsonObject:
    return {
        "id": f"fc_{token}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{token}",
        "name": call.name,
        "arguments": call.arguments,
    }


def _response(body: JsonObject, fresh: Fresh, status: str, output: list[JsonObject]) -> JsonObject:
    head = {"id": f"resp_{fresh.token}", "object": "response", "created_at": fresh.created, "status": status}
    repeated = {name: default if body.get(name) is None else body[name] for name, default in _DEFAULTS.items()}
    return head | repeated | {"incomplete_details": None, "model": body["model"], "output": output, "usage": None}


def _ended(
    body: JsonObject, generation: Generation, input_tokens: int, fresh: Fresh, output: list[JsonObject]
) -> JsonObject:
    usage = {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": generation.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + generation.output_tokens,
    }
    if generation.finish is not Finish.LENGTH:
        return _response(body, fresh, "completed", output) | {"usage": usage}
    details = {"incomplete_details": {"reason": "max_output_tokens"}, "usage": usage}
    return _response(body, fresh, "incomplete", output) | details


def _tools(body: JsonObject) -> Iterator[Tool]:
    for tool in body.get("tools") or ():
        if isinstance(tool, dict) and tool.get("type") == "function":
            yield Tool(str(tool.get("name")), tool.get("parameters") or {})


def _tool_choice(choice: Json) -> str:
    if isinstance(choice, dict):
        return str(choice.get("name", "required"))
    return str(choice or "auto")


def _schema(text: Json) -> JsonObject | None:
    match text:
        case {"format": {"type": "json_schema", "schema": dict() as schema}}:
            return schema
        case {"format": {"type": "json_object"}}:
            return ANY_OBJECT
        case _:
            return None


RESPONSES: Final = Api(_read, _whole, _stream)
"""``POST /v1/responses``."""
