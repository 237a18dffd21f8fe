"""The simulated OpenAI chat completions and completions, after OpenAI's API reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import canonical
from cacheproxy.lab.sim_api import ANY_OBJECT, Api, Asked, Event, unnamed
from cacheproxy.upstream.simulated import Finish, Prompt, Tool, count_tokens, pieces_of
from cacheproxy.wire.asking import items, limit, nested, required, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.upstream.simulated import Generation
    from cacheproxy.wire.dialect import Fresh

_DONE: Final = Event(b"data: [DONE]\n\n")
_FINISH: Final[Mapping[Finish, str]] = {
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.TOOL_CALLS: "tool_calls",
}
_PER_MESSAGE: Final = 4
"""Tokens that a message takes beside its text."""


def _chat_read(body: JsonObject) -> Asked:
    model = required(body, "model", str)
    messages = items(body, "messages")
    texts = [text_of(message.get("content")) for message in messages]
    last = messages[-1]
    asked = [text for text, message in zip(texts, messages, strict=True) if message.get("role") == "user"]
    prompt = Prompt(
        model=model,
        question=asked[-1] if asked else "",
        context=canonical(messages).decode(),
        input_tokens=sum(map(count_tokens, texts))
        + _PER_MESSAGE * len(messages)
        + count_tokens(canonical(body.get("tools") or "").decode()),
        tools=tuple(_tools(body)),
        tool_choice=_tool_choice(body.get("tool_choice")),
        tool_result=texts[-1] if last.get("role") == "tool" else None,
        schema=_schema(body.get("response_format")),
        max_tokens=limit(body, "max_completion_tokens", "max_tokens"),
    )
    return Asked((prompt,), limit(body, "n") or 1, bool(body.get("stream")))


def _chat_whole(body: JsonObject, said: Sequence[Generation], input_tokens: int, fresh: Fresh) -> JsonObject:
    choices = []
    for index, generation in enumerate(said):
        message: JsonObject = {"role": "assistant", "content": generation.text or None, "refusal": None}
        if generation.calls:
            message["tool_calls"] = _calls(generation, index, fresh)
        message["annotations"] = []
        finish = _FINISH[generation.finish]
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": finish})
    return _head(body, fresh, "chat.completion") | {"choices": choices, "usage": _usage(said, input_tokens)}


def _chat_stream(body: JsonObject, said: Sequence[Generation], input_tokens: int, fresh: Fresh) -> Iterator[Event]:
    counted = bool(nested(body, "stream_options").get("include_usage"))
    head = _head(body, fresh, "chat.completion.chunk") | ({"usage": None} if counted else {})

    def chunk(index: int, delta: JsonObject, finish: str | None = None, tokens: int = 0) -> Event:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return unnamed(head | {"choices": [choice]}, tokens)

    for index, generation in enumerate(said):
        content = None if generation.calls else ""
        yield chunk(index, {"role": "assistant", "content": content, "refusal": None})
        for piece in generation.pieces:
            yield chunk(index, {"content": piece}, tokens=1)
        for number, call in enumerate(_calls(generation, index, fresh)):
            function = call["function"]
            opening = call | {"index": number, "function": function | {"arguments": ""}}
            yield chunk(index, {"tool_calls": [opening]}, tokens=count_tokens(function["name"]))
            for piece in pieces_of(function["arguments"]):
                delta = {"index": number, "function": {"arguments": piece}}
                yield chunk(index, {"tool_calls": [delta]}, tokens=1)
        yield chunk(index, {}, _FINISH[generation.finish])
    if counted:
        yield unnamed(head | {"choices": [], "usage": _usage(said, input_tokens)})
    yield _DONE


def _completions_read(body: JsonObject) -> Asked:
    model = required(body, "model", str)
    given = body.get("prompt")
    prompts = given if isinstance(given, list) and not all(isinstance(item, int) for item in given) else [given]
    if not prompts or not all(isinstance(prompt, str | list) for prompt in prompts):
        raise BadRequest("'prompt' must be a string, a list of strings, or tokens.")
    asked = []
    for prompt in prompts:
        text = prompt if isinstance(prompt, str) else canonical(prompt).decode()
        tokens = len(prompt) if isinstance(prompt, list) else count_tokens(text)
        asked.append(Prompt(model, text, text, tokens, max_tokens=limit(body, "max_tokens")))
    return Asked(tuple(asked), limit(body, "n") or 1, bool(body.get("stream")))


def _completions_whole(body: JsonObject, said: Sequence[Generation], input_tokens: int, fresh: Fresh) -> JsonObject:
    choices = [
        {"text": generation.text, "index": index, "logprobs": None, "finish_reason": _FINISH[generation.finish]}
        for index, generation in enumerate(said)
    ]
    return _head(body, fresh, "text_completion") | {"choices": choices, "usage": _usage(said, input_tokens)}


def _completions_stream(
    body: JsonObject, said: Sequence[Generation], input_tokens: int, fresh: Fresh
) -> Iterator[Event]:
    counted = bool(nested(body, "stream_options").get("include_usage"))
    head = _head(body, fresh, "text_completion") | ({"usage": None} if counted else {})

    def chunk(index: int, text: str, finish: str | None = None) -> Event:
        choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
        return unnamed(head | {"choices": [choice]}, len(text) > 0)

    for index, generation in enumerate(said):
        for piece in generation.pieces:
            yield chunk(index, piece)
        yield chunk(index, "", _FINISH[generation.finish])
    if counted:
        yield unnamed(head | {"choices": [], "usage": _usage(said, input_tokens)})
    yield _DONE


def _head(body: JsonObject, fresh: Fresh, kind: str) -> JsonObject:
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    head = {"id": f"{prefix}-{fresh.token}", "object": kind, "created": fresh.created, "model": body["model"]}
    return head | {"system_fingerprint": "fp_simulated"} | ({} if prefix == "cmpl" else {"service_tier": "default"})


def _usage(said: Sequence[Generation], input_tokens: int) -> JsonObject:
    output_tokens = sum(generation.output_tokens for generation in said)
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _calls(generation: Generation, index: int, fresh: Fresh) -> list[JsonObject]:
    return [
        {
            "id": f"call_{fresh.token}{index}{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(generation.calls)
    ]


def _tools(body: JsonObject) -> Iterator[Tool]:
    for tool in body.get("tools") or ():
        if isinstance(tool, dict) and isinstance(function := tool.get("function"), dict):
            yield Tool(str(function.get("name")), function.get("parameters") or {})


def _tool_choice(choice: Json) -> str:
    if isinstance(choice, dict):
        return str((choice.get("function") or {}).get("name", "required"))
    return str(choice or "auto")


def _schema(response_format: Json) -> JsonObject | None:
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return schema
        case {"type": "json_object"}:
            return ANY_OBJECT
        case _:
            return None


CHAT: Final = Api(_chat_read, _chat_whole, _chat_stream)
"""``POST /v1/chat/completions``."""


COMPLETIONS: Final = Api(_completions_read, _completions_whole, _completions_stream)
"""``POST /v1/completions``."""
