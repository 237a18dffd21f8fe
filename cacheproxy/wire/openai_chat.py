"""OpenAI's chat completions API (``/v1/chat/completions``), as OpenAI and the many compatible providers speak it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import dump
from cacheproxy.model import AnswerView, Reason, View
from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.openai_chunks import ChunkAssembler, chunk_events, pieces
from cacheproxy.wire.openai_errors import error_body
from cacheproxy.wire.openai_members import answer_choices, finishes_of, model_of, refreshed, stream_members, usage_of
from cacheproxy.wire.openai_merge import grows, joined, merge
from cacheproxy.wire.reading import last_words, lift_texts, member, optional_list
from cacheproxy.wire.splice import with_stream_usage
from cacheproxy.wire.sse import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.wire.dialect import Assembler, Fresh

_NATURAL_FINISHES: Final = frozenset({"stop", "length", "tool_calls", "function_call"})
_CLIENT_TOOLS: Final = ("function", "custom")
# Each makes the provider look things up while it answers: OpenAI's, xAI's and OpenRouter's.
_SERVER_TOOL_MEMBERS: Final = ("web_search_options", "search_parameters", "plugins")
# Where a tool call keeps its long text, by the member that holds it.
_CALL_TEXTS: Final[Mapping[str, str]] = {"function": "arguments", "custom": "input"}
_TURNS: Final[Mapping[str, int]] = {"content": 1, "refusal": 2, "tool_calls": 4, "function_call": 5}


class OpenAIChat:
    """The dialect ``openai-chat``."""

    name = "openai-chat"
    request_id_header = "x-request-id"

    def view(self, body: JsonObject) -> View:
        """Read a request. The last message of the role ``user`` is the last user turn."""
        messages = body.get("messages")
        if not isinstance(messages, list):
            raise BadRequest("messages must be an array")
        for place, message in enumerate(messages):
            if not isinstance(message, dict):
                raise BadRequest(f"messages[{place}] must be an object")
        model, stream, asks_usage = stream_members(body)
        turn = _last_user_turn(messages)
        texts, content = _plain_texts(messages[turn].get("content")) if turn >= 0 else ((), None)
        skeleton = body
        if texts:
            blanked = {**messages[turn], "content": content}
            skeleton = {**body, "messages": [*messages[:turn], blanked, *messages[turn + 1 :]]}
        return View(
            model=model,
            stream=stream,
            texts=texts,
            skeleton=skeleton,
            bypass=_bypass(body),
            exact_only=_exact_only(body, texts, messages[turn + 1 :]),
            asks_usage=asks_usage,
            wording="" if texts else last_words(messages),
        )

    def asking_usage(self, raw: bytes) -> bytes:
        """The request's bytes with ``stream_options.include_usage`` true."""
        return with_stream_usage(raw)

    def read(self, answer: JsonObject) -> AnswerView:
        """Read a chat completion."""
        choices = answer_choices(answer)
        messages = [_message(choice) for choice in choices]
        finishes = finishes_of(choices)
        return AnswerView(
            model=model_of(answer),
            usage=usage_of(answer),
            storable=bool(choices)
            and _NATURAL_FINISHES.issuperset(finishes)
            and not any(message.get("refusal") for message in messages)
            and not answer.get("error"),
            exact_only="length" in finishes or any(_calls(message) or message.get("audio") for message in messages),
            text="".join(_text(message.get("content")) for message in messages),
        )

    def assembler(self) -> Assembler:
        """A new assembler for one stream of chunks."""
        return ChunkAssembler("chat.completion", _ChoiceInProgress)

    def refresh(self, answer: JsonObject, fresh: Fresh, *, zero_usage: bool = False) -> JsonObject:
        """The answer with its own id and creation time."""
        return refreshed(answer, fresh, prefix="chatcmpl-", zero_usage=zero_usage)

    def replay(self, answer: JsonObject, *, with_usage: bool) -> Iterator[ServerSentEvent]:
        """The answer as chunks, one choice after the other."""
        fragments = (
            fragment
            for place, choice in enumerate(answer_choices(answer))
            for fragment in _fragments(choice, choice.get("index", place))
        )
        return chunk_events(answer, "chat.completion.chunk", fragments, with_usage=with_usage)

    def error(self, status: int, code: str, message: str) -> JsonObject:
        """OpenAI's error body."""
        return error_body(status, code, message)

    def error_event(self, status: int, code: str, message: str) -> ServerSentEvent:
        """The error body as an event, which OpenAI's clients raise as an ``APIError``."""
        return ServerSentEvent(dump(error_body(status, code, message)).decode())


class _ChoiceInProgress:
    """A choice whose message comes as deltas."""

    def __init__(self) -> None:
        self._members: JsonObject = {}
        self._message: JsonObject = {}
        self._empty_on_purpose = False

    @property
    def finished(self) -> bool:
        return self._members.get("finish_reason") is not None

    def take(self, fragment: JsonObject) -> None:
        delta = fragment.pop("delta", None) or {}
        if not isinstance(delta, dict):
            raise MalformedStream("a delta that is not a JSON object")
        if delta == {"content": ""} and fragment.get("finish_reason") is None:
            self._empty_on_purpose = True
        merge(self._message, delta, texts_grow=True)
        merge(self._members, fragment, texts_grow=False)

    def whole(self) -> JsonObject:
        message = {"role": "assistant", "content": None, **joined(self._message)}
        if isinstance(calls := message.get("tool_calls"), list):
            message["tool_calls"] = [_without_index(call) for call in sorted(calls, key=_index)]
        if message["content"] == "" and _calls(message) and not self._empty_on_purpose:
            # Many providers open every stream with an empty text, and give null in JSON when only calls came.
            message["content"] = None
        members = joined(self._members)
        return {"index": members.pop("index"), "message": message, **members}


def _last_user_turn(messages: list[JsonObject]) -> int:
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].get("role") == "user":
            return place
    return -1


def _plain_texts(content: Json) -> tuple[tuple[str, ...], Json]:
    """The texts of a message that is nothing but text, and its content with each of them null; none otherwise."""
    lifted = lift_texts(content, "text", "a user message's content") if isinstance(content, str | list) else None
    return lifted or ((), content)


def _bypass(body: JsonObject) -> Reason | None:
    tools = optional_list(body, "tools")
    if body.get("store") is True:
        return Reason.STORED_COMPLETION
    for place, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise BadRequest(f"tools[{place}] must be an object")
        if tool.get("type", "function") not in _CLIENT_TOOLS:
            return Reason.SERVER_TOOLS
    if any(body.get(name) is not None for name in _SERVER_TOOL_MEMBERS):
        return Reason.SERVER_TOOLS
    return None


def _exact_only(body: JsonObject, texts: tuple[str, ...], after: list[JsonObject]) -> Reason | None:
    if not texts:
        return Reason.NOT_PLAIN_TEXT
    for message in after:
        if message.get("role") in ("tool", "function") or _calls(message):
            return Reason.TOOL_RESULT
    if body.get("n", 1) not in (None, 1):
        return Reason.SEVERAL_CHOICES
    if body.get("logprobs") or body.get("top_logprobs"):
        return Reason.LOGPROBS
    return None


def _calls(message: JsonObject) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


def _message(choice: JsonObject) -> JsonObject:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ValueError("a choice without a message")  # noqa: TRY004 - callers expect ValueError for bad answers
    return message


def _text(content: Json) -> str:
    if isinstance(content, str):
        return content
    texts = [member(part, "text") for part in content] if isinstance(content, list) else []
    return "".join(text for text in texts if isinstance(text, str))


def _index(call: Json) -> int:
    index = call.get("index", 0) if isinstance(call, dict) else 0
    return index if type(index) is int else 0


def _without_index(call: Json) -> Json:
    """A tool call without the place that only streams tell."""
    return {name: value for name, value in call.items() if name != "index"} if isinstance(call, dict) else call


def _fragments(choice: JsonObject, index: int) -> Iterator[JsonObject]:
    """A choice as the ``choices`` elements of successive chunks."""
    message = _message(choice)
    logprobs: Json = choice.get("logprobs")
    tokens = _aligned_tokens(logprobs, message.get("content"))
    empty = {"index": index, "delta": {}, "finish_reason": None}
    if "logprobs" in choice:
        empty["logprobs"] = None
    yield {**empty, "delta": _opening(message), **({} if tokens or logprobs is None else {"logprobs": logprobs})}
    for name in sorted(message, key=lambda name: _turn(name, message[name])):
        if tokens and name == "content":
            for token in tokens:
                yield {**empty, "delta": {"content": token["token"]}, "logprobs": {**logprobs, "content": [token]}}
        elif message[name] is not None and name != "role":
            for delta in _deltas(name, message[name]):
                yield {**empty, "delta": delta}
    yield {**empty, **{name: value for name, value in choice.items() if name not in ("index", "message", "logprobs")}}


def _opening(message: JsonObject) -> JsonObject:
    """The first delta: the role, an empty text where one follows, and what is null."""
    opening = {"role": "assistant", **{name: None for name, value in message.items() if value is None}}
    if "role" in message:
        opening["role"] = message["role"]
    if isinstance(message.get("content"), str):
        opening["content"] = ""
    return opening


def _turn(name: str, value: Json) -> int:
    """When a member is sent: reasoning and other texts first, calls last."""
    return _TURNS.get(name, 0 if isinstance(value, str) else 3)


def _deltas(name: str, value: Json) -> Iterator[JsonObject]:
    """One member of a message as successive deltas."""
    if isinstance(value, str) and grows(name):
        for piece in pieces(value):
            yield {name: piece}
    elif name == "tool_calls" and isinstance(value, list) and value and all(isinstance(call, dict) for call in value):
        for index, call in enumerate(value):
            for fragment in _call_fragments(call):
                yield {name: [{**fragment, "index": index}]}
    elif name == "function_call" and isinstance(value, dict):
        for fragment in _call_fragments({"function": value}):
            yield {name: fragment["function"]}
    else:
        yield {name: value}


def _call_fragments(call: JsonObject) -> Iterator[JsonObject]:
    """A call's head, then the pieces of its long text."""
    for holder, name in _CALL_TEXTS.items():
        held = call.get(holder)
        if isinstance(held, dict) and isinstance(held.get(name), str):
            yield {**call, holder: {**held, name: ""}}
            for piece in pieces(held[name]):
                yield {holder: {name: piece}}
            return
    yield call


def _aligned_tokens(logprobs: Json, content: Json) -> list[JsonObject]:
    """The log probabilities' tokens, where they make up the content: each can then go with its own text.

    They do not where a token is half a character, and with a refusal's tokens beside them.
    """
    if not isinstance(logprobs, dict) or any(logprobs[name] is not None for name in logprobs if name != "content"):
        return []
    tokens = logprobs.get("content")
    if not isinstance(tokens, list):
        return []
    texts = [token["token"] for token in tokens if isinstance(token, dict) and isinstance(token.get("token"), str)]
    return tokens if len(texts) == len(tokens) and "".join(texts) == content else []
