"""Anthropic's Messages API, as far as a local model can do it. What it cannot is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cacheproxy.backend.api import Choice, Wanted
from cacheproxy.backend.engine import Ask
from cacheproxy.backend.openai_api import sampled
from cacheproxy.backend.speech import EndReason
from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import dump
from cacheproxy.wire.asking import items, limit, nested, only, required, strings, text_of
from cacheproxy.wire.dialects import DIALECTS
from cacheproxy.wire.reading import named_event, optional_flag, optional_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cacheproxy.backend.prompts import Prompt, Prompter
    from cacheproxy.backend.speech import End, Said
    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.wire.dialect import Fresh
    from cacheproxy.wire.sse import ServerSentEvent

_MOST_STOPS: Final = 16
_KNOWN: Final = frozenset(
    {
        "model", "messages", "system", "max_tokens", "metadata", "service_tier", "stop_sequences", "stream",
        "temperature", "tool_choice", "tools", "top_k", "top_p",
    }
)  # fmt: skip
_PLAIN: Final[JsonObject] = {"thinking": {"type": "disabled"}}
_REASON: Final[Mapping[EndReason, str]] = {
    EndReason.STOP: "end_turn",
    EndReason.STOP_STRING: "stop_sequence",
    EndReason.LENGTH: "max_tokens",
    EndReason.TOOL_CALLS: "tool_use",
}


class Messages:
    """``POST /v1/messages``."""

    dialect = DIALECTS["/v1/messages"]

    async def read(self, body: JsonObject, prompter: Prompter, draw: Callable[[], int]) -> Wanted:
        """See ``Api``."""
        wanted = limit(body, "max_tokens")
        if wanted is None:
            raise BadRequest("max_tokens: Field required")
        prompt = await prompt_of(body, prompter)
        sampling = sampled(body, prompter.sampling(), hottest=1, seed=draw())
        return Wanted(
            choices=(Choice(prompt, Ask(prompt.tokens, prompter.room(prompt, wanted), sampling)),),
            prompts=(prompt,),
            stops=strings(body, "stop_sequences", most=_MOST_STOPS),
            stream=optional_flag(body, "stream"),
        )

    def writer(self, body: JsonObject, wanted: Wanted, prompter: Prompter, fresh: Fresh) -> MessagesWriter:  # noqa: ARG002 - see Api
        """See ``Api``."""
        return MessagesWriter(body, wanted, fresh)


async def prompt_of(body: JsonObject, prompter: Prompter) -> Prompt:
    """The prompt of a request, also where only its tokens are counted. Raises ``BadRequest``."""
    only(body, _KNOWN, but=_PLAIN)
    required(body, "model", str)
    messages = [told for number, message in enumerate(items(body, "messages")) for told in _messages(message, number)]
    if system := text_of(body.get("system")):
        messages.insert(0, {"role": "system", "content": system})
    return await prompter.chat(messages, tools=_tools(body))


class MessagesWriter:
    """See ``Writer``."""

    def __init__(self, body: JsonObject, wanted: Wanted, fresh: Fresh) -> None:
        self._body = body
        self._wanted = wanted
        self._fresh = fresh
        self._blocks = 0
        self._open = ""
        self._calls = 0
        self._end: End | None = None

    def begin(self) -> Iterator[ServerSentEvent]:
        """The message, without content."""
        message = {
            "id": f"msg_{self._fresh.token}",
            "type": "message",
            "role": "assistant",
            "model": self._body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._wanted.input_tokens, "output_tokens": 0},
        }
        yield named_event({"type": "message_start", "message": message})

    def say(self, number: int, said: Said) -> Iterator[ServerSentEvent]:  # noqa: ARG002 - there is one choice
        """Reasoning, text and calls, each in blocks of its kind."""
        if said.reasoning:
            yield from self._delta("thinking", {"thinking": "", "signature": ""}, "thinking_delta", said.reasoning)
        if said.text:
            yield from self._delta("text", {"text": ""}, "text_delta", said.text)
        for call in said.calls:
            yield from self._close()
            identity = {"id": f"toolu_{self._fresh.token}{self._calls}", "name": call.name, "input": {}}
            self._calls += 1
            yield from self._start("tool_use", identity)
            delta = {"type": "input_json_delta", "partial_json": call.arguments}
            yield named_event({"type": "content_block_delta", "index": self._blocks, "delta": delta})
            yield from self._close()

    def end(self, number: int, end: End) -> Iterator[ServerSentEvent]:  # noqa: ARG002 - there is one choice
        """Remember why it ended."""
        self._end = end
        yield from self._close()

    def finish(self) -> Iterator[ServerSentEvent]:
        """Why it ended, the usage, the terminator."""
        assert self._end is not None  # noqa: S101 - the choice ended before
        delta = {"stop_reason": _REASON[self._end.reason], "stop_sequence": self._end.stop}
        usage = {"output_tokens": self._end.output_tokens}
        yield named_event({"type": "message_delta", "delta": delta, "usage": usage})
        yield named_event({"type": "message_stop"})

    def _delta(self, kind: str, empty: JsonObject, delta: str, text: str) -> Iterator[ServerSentEvent]:
        if self._open != kind:
            yield from self._close()
            yield from self._start(kind, empty)
        yield named_event(
            {
                "type": "content_block_delta",
                "index": self._blocks,
                "delta": {"type": delta, delta.partition("_")[0]: text},
            }
        )

    def _start(self, kind: str, block: JsonObject) -> Iterator[ServerSentEvent]:
        self._open = kind
        yield named_event(
            {"type": "content_block_start", "index": self._blocks, "content_block": {"type": kind, **block}}
        )

    def _close(self) -> Iterator[ServerSentEvent]:
        if self._open:
            yield named_event({"type": "content_block_stop", "index": self._blocks})
            self._blocks += 1
            self._open = ""


def _messages(message: JsonObject, place: int) -> Iterator[JsonObject]:
    """A message in OpenAI's form, which chat templates are written for; results of tools become messages."""
    where = f"'messages[{place}]'"
    role, content = message.get("role"), message.get("content")
    if role not in {"user", "assistant"}:
        raise BadRequest(f"{where} has the role {role!r}; known are user and assistant.")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    texts: list[str] = []
    calls: list[JsonObject] = []
    for block in optional_list(message, "content"):
        match block:
            case {"type": "text", "text": str() as text}:
                texts.append(text)
            case {"type": "tool_use", "name": str() as name, "input": dict() as given} if role == "assistant":
                calls.append(
                    {"id": block.get("id"), "type": "function", "function": {"name": name, "arguments": given}}
                )
            case {"type": "tool_result", "tool_use_id": str() as call_id} if role == "user":
                yield {"role": "tool", "tool_call_id": call_id, "content": _result(block.get("content"), where)}
            case {"type": "thinking" | "redacted_thinking"} if role == "assistant":
                continue  # as Anthropic does with those of earlier turns
            case _:
                raise BadRequest(f"{where} holds a block that is no text, which this model does not read.")
    if texts or calls or not content:
        told: dict[str, Any] = {"role": role, "content": "\n".join(texts)}
        yield told | ({"tool_calls": calls} if calls else {})


def _result(content: Json, where: str) -> str:
    parts = content if isinstance(content, list) else [content or ""]
    if not all(isinstance(part, str) or (isinstance(part, dict) and part.get("type") == "text") for part in parts):
        raise BadRequest(f"{where} holds a tool's result that is no text, which this model does not read.")
    return text_of(content)


def _tools(body: JsonObject) -> list[JsonObject]:
    choice = nested(body, "tool_choice")
    if choice.get("type", "auto") not in {"auto", "none"} or choice.get("disable_parallel_tool_use"):
        raise BadRequest("'tool_choice' is supported as auto or none: this server cannot make a model call a tool.")
    tools = []
    for tool in optional_list(body, "tools"):
        match tool:
            case {"name": str() as name, "input_schema": dict() as schema}:
                function = {"name": name, "parameters": schema}
                if tool.get("description"):
                    function["description"] = tool["description"]
                tools.append({"type": "function", "function": function})
            case _:
                raise BadRequest(f"'tools' must be functions with a name and an input_schema, not {dump(tool)[:80]!r}.")
    return [] if choice.get("type") == "none" else tools
