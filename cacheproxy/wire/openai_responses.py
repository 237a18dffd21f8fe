"""OpenAI's Responses API (``/v1/responses``).

Requests and answers here; ``responses_stream`` knows the events. What the API means follows the types of the official
client and the public reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest
from cacheproxy.model import AnswerView, Reason, Usage, View
from cacheproxy.wire import openai_errors, responses_stream
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
from cacheproxy.wire.responses_stream import ResponsesAssembler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.wire.dialect import Assembler, Fresh
    from cacheproxy.wire.sse import ServerSentEvent

_ELSEWHERE: Final = (
    ("background", Reason.BACKGROUND),
    ("previous_response_id", Reason.PREVIOUS_RESPONSE),
    ("conversation", Reason.CONVERSATION),
    ("prompt", Reason.STORED_PROMPT),
)
"""Members that say: part of the request, or the answer, is kept by the provider."""

_CLIENT_TOOLS: Final = frozenset(
    {"function", "custom", "namespace", "computer", "computer_use_preview", "local_shell", "apply_patch"}
)
"""Types of tools that the caller runs. ``shell`` and ``tool_search`` depend on a member; every other type is run by the
provider, against a world that changes."""

_TALK: Final = frozenset({"message", "reasoning", "additional_tools", "configuration_update"})
"""Items that may follow the last user turn without being a tool's call or result."""

_SERVER_ITEMS: Final = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_call",
        "mcp_list_tools",
        "mcp_approval_request",
        "program",
        "program_output",
        "shell_call_output",
        "tool_search_output",
    }
)
"""Items of an answer that tell what the provider's own tools did."""


_REPEATED: Final[Mapping[str, Json]] = {
    "metadata": {},
    "user": None,
    "safety_identifier": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
}
"""Members of a request that its answer repeats and that are not part of the key, with what stands for absent ones.

A hit must show its own caller's, not those of whoever asked first.
"""


class OpenAIResponses:
    """The dialect of ``/v1/responses``."""

    name = "openai-responses"
    request_id_header = "x-request-id"

    def view(self, body: JsonObject) -> View:
        """Read a request. Raises ``BadRequest``. ``store`` is true when it is absent, as the API has it."""
        texts, skeleton, exact_only = _last_turn(body)
        retained = optional_flag(body, "store", default=True)
        if retained:
            exact_only = Reason.RETAINED_UPSTREAM
        elif _wants_logprobs(body):
            exact_only = Reason.LOGPROBS
        return View(
            model=optional_text(body, "model"),
            stream=optional_flag(body, "stream"),
            texts=texts,
            skeleton=skeleton,
            bypass=_bypass(body),
            exact_only=exact_only,
            wording="" if texts else last_words(body.get("input")),
            retained_upstream=retained,
        )

    def asking_usage(self, raw: bytes) -> bytes:
        """The request as it is: this API always tells the usage."""
        return raw

    def read(self, answer: JsonObject) -> AnswerView:
        """Read a response. Raises ``ValueError`` when it is none."""
        output = answer.get("output")
        if not isinstance(output, list):
            raise ValueError("a response has a list of output items")  # noqa: TRY004 - the protocol's error
        kinds = {str(member(item, "type")) for item in output}
        parts = [part for item in output if member(item, "type") == "message" for part in _parts(item)]
        cut = answer.get("status") == "incomplete"
        whole = member(answer.get("incomplete_details"), "reason") == "max_output_tokens" if cut else None
        return AnswerView(
            model=str(answer.get("model") or ""),
            usage=_usage(answer.get("usage")),
            storable=(answer.get("status") == "completed" or whole is True)
            and answer.get("error") is None
            and kinds.isdisjoint(_SERVER_ITEMS)
            and all(member(part, "type") != "refusal" for part in parts),
            # A moderation result judges the very input that it came with.
            exact_only=cut or not kinds <= {"message", "reasoning"} or answer.get("moderation") is not None,
            text="".join(text for part in parts if isinstance(text := member(part, "text"), str)),
        )

    def assembler(self) -> Assembler:
        """A new assembler for one stream."""
        return ResponsesAssembler()

    def refresh(self, answer: JsonObject, fresh: Fresh, *, zero_usage: bool = False) -> JsonObject:
        """The response under an id and times of its own.

        Output items keep their ids: calls and their results refer to each other by ``call_id``, encrypted reasoning
        may be bound to the item's id, and a client never meets the same item twice in one conversation.
        """
        renewed = {**answer, "id": f"resp_{fresh.token}", "created_at": fresh.created}
        created, completed = answer.get("created_at"), answer.get("completed_at")
        if isinstance(completed, int | float):
            took = completed - created if isinstance(created, int | float) else 0
            renewed["completed_at"] = fresh.created + max(0, took)
        for name, otherwise in _REPEATED.items():
            if name in answer:
                renewed[name] = fresh.request.get(name, otherwise)
        if zero_usage and "usage" in renewed:
            renewed["usage"] = zeroed(renewed["usage"])
        return renewed

    def replay(self, answer: JsonObject, *, with_usage: bool) -> Iterator[ServerSentEvent]:  # noqa: ARG002 - always has it
        """The response as events. The usage is part of every stream of this API."""
        return responses_stream.replay(answer)

    def error(self, status: int, code: str, message: str) -> JsonObject:
        """An error body, as all of OpenAI's APIs have it."""
        return openai_errors.error_body(status, code, message)

    def error_event(self, status: int, code: str, message: str) -> ServerSentEvent:
        """The same error as an ``error`` event.

        The reference puts code and message at its top; the official client raises only where there is an ``error``
        object too, which the real API also sends. The sequence number is required, and unknown in mid-stream.
        """
        body = self.error(status, code, message)
        flat = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
        return named_event({**flat, **body})


def _last_turn(body: JsonObject) -> tuple[tuple[str, ...], JsonObject, Reason | None]:
    """The texts of the last user message, the body without them, and why there are none."""
    items = body.get("input")
    if isinstance(items, str):
        return (items,), {**body, "input": None}, None
    if items is None:  # a stored prompt or a conversation may bring it
        return (), body, Reason.NOT_PLAIN_TEXT
    if not isinstance(items, list):
        raise BadRequest("input must be a string or a list of items")
    for place in range(len(items) - 1, -1, -1):
        item = items[place]
        if not isinstance(item, dict):
            raise BadRequest(f"input[{place}] must be an object")
        if item.get("type", "message") not in _TALK:
            return (), body, Reason.TOOL_RESULT
        if item.get("role") == "user":
            lifted = lift_texts(item.get("content"), "input_text", f"input[{place}].content")
            if lifted is None:
                break
            texts, hollow = lifted
            around = [*items[:place], {**item, "content": hollow}, *items[place + 1 :]]
            return texts, {**body, "input": around}, None
    return (), body, Reason.NOT_PLAIN_TEXT


def _bypass(body: JsonObject) -> Reason | None:
    """Why the answer depends on more than the request; None when it does not."""
    for name, reason in _ELSEWHERE:
        if body.get(name):
            return reason
    if member(body.get("prompt_cache_options"), "prewarm"):
        return Reason.NOT_CACHEABLE  # it asks for a warm prompt cache, not for an answer
    if _run_by_provider(optional_list(body, "tools"), "tools"):
        return Reason.SERVER_TOOLS
    items = body.get("input")
    for place, item in enumerate(items if isinstance(items, list) else ()):
        kind = member(item, "type")
        if kind == "item_reference" or (kind is None and "role" not in item and "id" in item):
            return Reason.CONVERSATION
        if kind == "additional_tools" and _run_by_provider(optional_list(item, "tools"), f"input[{place}].tools"):
            return Reason.SERVER_TOOLS
    return None


def _run_by_provider(tools: Sequence[Json], where: str) -> bool:
    """Whether any of these tools is not the caller's own."""
    for place, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise BadRequest(f"{where}[{place}] must be an object")
        kind = tool.get("type", "function")
        if kind == "shell":
            # Without an environment it is the caller's, as it was before there were hosted ones.
            if member(tool.get("environment"), "type") not in (None, "local"):
                return True
        elif kind == "tool_search":
            if tool.get("execution") != "client":
                return True
        elif kind not in _CLIENT_TOOLS:
            return True
    return False


def _wants_logprobs(body: JsonObject) -> bool:
    return bool(body.get("top_logprobs")) or "message.output_text.logprobs" in optional_list(body, "include")


def _parts(item: Json) -> Sequence[Json]:
    content = member(item, "content")
    return content if isinstance(content, list) else ()


def _usage(usage: Json) -> Usage | None:
    """Tokens as the price tables count them."""
    if not isinstance(usage, dict):
        return None
    details = usage.get("input_tokens_details")
    return Usage(
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        cache_read_tokens=count(details, "cached_tokens"),
        cache_write_tokens=count(details, "cache_write_tokens"),
    )
