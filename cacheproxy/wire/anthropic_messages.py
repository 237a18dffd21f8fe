"""Anthropic's Messages API (``/v1/messages``).

Requests and answers here; ``anthropic_stream`` knows the events. What the API means follows the types of the official
client and the public reference.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest
from cacheproxy.model import AnswerView, Reason, Usage, View
from cacheproxy.wire import anthropic_stream
from cacheproxy.wire.anthropic_stream import AnthropicAssembler
from cacheproxy.wire.reading import (
    count,
    last_words,
    lift_texts,
    member,
    named_event,
    optional_flag,
    optional_list,
    optional_text,
    zeroed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.wire.dialect import Assembler, Fresh
    from cacheproxy.wire.sse import ServerSentEvent

_CLIENT_TOOL: Final = re.compile(
    r"custom|(?:bash|text_editor|computer|memory|browser_toolset|computer_toolset)_[0-9]{8}"
)
"""Types of tools that the caller runs. Every other type is run by the provider, against a world that changes."""

_NATURAL_ENDS: Final = frozenset({"end_turn", "stop_sequence", "max_tokens", "tool_use"})
"""Stop reasons of an answer that asking again would give again. Not ``model_context_window_exceeded``, which cuts an
answer where nobody asked for it, nor ``pause_turn``, ``refusal``, or reasons that are not known here."""
_EXACT_ENDS: Final = frozenset({"max_tokens", "tool_use"})

_ERROR_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_FIRST_SERVER_ERROR: Final = 500


class AnthropicMessages:
    """The dialect of ``/v1/messages``."""

    name = "anthropic-messages"
    request_id_header = "request-id"

    def view(self, body: JsonObject) -> View:
        """Read a request. Raises ``BadRequest``."""
        texts, skeleton, exact_only = _last_turn(body)
        return View(
            model=optional_text(body, "model"),
            stream=optional_flag(body, "stream"),
            texts=texts,
            skeleton=skeleton,
            bypass=_bypass(body),
            exact_only=exact_only,
            wording="" if texts else last_words(body["messages"]),
        )

    def asking_usage(self, raw: bytes) -> bytes:
        """The request as it is: this API always tells the usage."""
        return raw

    def read(self, answer: JsonObject) -> AnswerView:
        """Read a message. Raises ``ValueError`` when it is none."""
        content = answer.get("content")
        if not isinstance(content, list):
            raise ValueError("a message has a list of content blocks")  # noqa: TRY004 - the protocol's error
        kinds = {str(member(block, "type")) for block in content}
        end = answer.get("stop_reason")
        return AnswerView(
            model=str(answer.get("model") or ""),
            usage=_usage(answer.get("usage")),
            storable=answer.get("type") == "message" and end in _NATURAL_ENDS and not any(map(_by_server, kinds)),
            exact_only=end in _EXACT_ENDS or "tool_use" in kinds,
            text="".join(_plain_text(block) for block in content),
        )

    def assembler(self) -> Assembler:
        """A new assembler for one stream."""
        return AnthropicAssembler()

    def refresh(self, answer: JsonObject, fresh: Fresh, *, zero_usage: bool = False) -> JsonObject:
        """The message under an id of its own. What precedes the id's last underscore names the provider and stays."""
        known = answer.get("id")
        prefix = known.rpartition("_")[0] if isinstance(known, str) else ""
        renewed = {**answer, "id": f"{prefix or 'msg'}_{fresh.token}"}
        if zero_usage and "usage" in renewed:
            renewed["usage"] = zeroed(renewed["usage"])
        return renewed

    def replay(self, answer: JsonObject, *, with_usage: bool) -> Iterator[ServerSentEvent]:  # noqa: ARG002 - always has it
        """The message as events. The usage is part of every stream of this API."""
        return anthropic_stream.replay(answer)

    def error(self, status: int, code: str, message: str) -> JsonObject:
        """``{"type": "error", "error": {...}}``. ``code`` stands beside the API's own members, which clients keep."""
        kind = "api_error" if status >= _FIRST_SERVER_ERROR else "invalid_request_error"
        return {"type": "error", "error": {"type": _ERROR_TYPES.get(status, kind), "message": message, "code": code}}

    def error_event(self, status: int, code: str, message: str) -> ServerSentEvent:
        """The same error as an ``error`` event."""
        return named_event(self.error(status, code, message))


def _last_turn(body: JsonObject) -> tuple[tuple[str, ...], JsonObject, Reason | None]:
    """The texts of the last message of role user, the body without them, and why there are none."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise BadRequest("messages must be a list")
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if not isinstance(message, dict):
            raise BadRequest(f"messages[{place}] must be an object")
        content = message.get("content")
        if _has_tools(content):
            return (), body, Reason.TOOL_RESULT
        if message.get("role") == "user":
            lifted = lift_texts(content, "text", f"messages[{place}].content")
            if lifted is None:
                break
            texts, hollow = lifted
            around = [*messages[:place], {**message, "content": hollow}, *messages[place + 1 :]]
            return texts, {**body, "messages": around}, None
    return (), body, Reason.NOT_PLAIN_TEXT


def _has_tools(content: Json) -> bool:
    """Whether a message calls tools or brings their results."""
    if not isinstance(content, list):
        return False
    return any(str(member(block, "type")).endswith(("tool_use", "tool_result")) for block in content)


def _bypass(body: JsonObject) -> Reason | None:
    """Why the answer depends on more than the request; None when it does not."""
    if body.get("thread") is not None:
        return Reason.CONVERSATION  # the provider holds the messages before these
    if body.get("mcp_servers") or body.get("container") is not None:
        return Reason.SERVER_TOOLS
    for place, tool in enumerate(optional_list(body, "tools")):
        if not isinstance(tool, dict):
            raise BadRequest(f"tools[{place}] must be an object")
        kind = tool.get("type")
        if kind is not None and _CLIENT_TOOL.fullmatch(str(kind)) is None:
            return Reason.SERVER_TOOLS
    return None


def _plain_text(block: Json) -> str:
    text = member(block, "text") if member(block, "type") == "text" else None
    return text if isinstance(text, str) else ""


def _by_server(kind: str) -> bool:
    """Whether a block of an answer tells what the provider's own tools did."""
    return kind.endswith("_tool_result") or (kind.endswith("_tool_use") and kind != "tool_use")


def _usage(usage: Json) -> Usage | None:
    """Tokens as the price tables count them. This API counts cached input apart from the rest."""
    if not isinstance(usage, dict):
        return None
    cache_read = count(usage, "cache_read_input_tokens")
    cache_write = count(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count(usage, "input_tokens") + cache_read + cache_write,
        output_tokens=count(usage, "output_tokens"),
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
    )
