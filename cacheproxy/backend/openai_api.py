"""OpenAI's chat completions and completions, as far as a local model can do them. What it cannot is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.backend.api import Choice, Wanted
from cacheproxy.backend.engine import MOST_TOP_LOGPROBS, Ask
from cacheproxy.backend.speech import EndReason
from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import dump, parse
from cacheproxy.wire.asking import items, limit, nested, number, only, required, strings, whole
from cacheproxy.wire.dialects import DIALECTS
from cacheproxy.wire.reading import optional_flag, optional_list
from cacheproxy.wire.sse import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cacheproxy.backend.engine import Sampling, Token
    from cacheproxy.backend.prompts import Prompt, Prompter
    from cacheproxy.backend.speech import End, Said
    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.wire.dialect import Fresh

_MOST_CHOICES: Final = 128
_MOST_STOPS: Final = 16
_MOST_COMPLETION_LOGPROBS: Final = 5
_MAX_SEED: Final = 2**63 - 1
_FINISH: Final[Mapping[EndReason, str]] = {
    EndReason.STOP: "stop",
    EndReason.STOP_STRING: "stop",
    EndReason.LENGTH: "length",
    EndReason.TOOL_CALLS: "tool_calls",
}
_NEUTRAL: Final = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "user",
        "verbosity",
    }
)
"""Members that ask for no other words: who asks, what for, how much effort."""
_SAMPLED: Final = frozenset(
    {"model", "stream", "stream_options", "n", "seed", "stop", "temperature", "top_p", "top_k", "logprobs"}
)
_CHAT: Final = _NEUTRAL | _SAMPLED | {
    "messages", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "top_logprobs", "chat_template_kwargs"
}  # fmt: skip
_COMPLETIONS: Final = _NEUTRAL | _SAMPLED | {"prompt", "max_tokens", "best_of"}
_PLAIN: Final[JsonObject] = {"frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}}
_CHAT_PLAIN: Final[JsonObject] = {
    **_PLAIN,
    "modalities": ["text"],
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "store": False,
}
_COMPLETIONS_PLAIN: Final[JsonObject] = {**_PLAIN, "echo": False, "suffix": ""}
_DONE: Final = ServerSentEvent("[DONE]")
_COMPLETION_TOKENS: Final = 16
"""What OpenAI's completions give when ``max_tokens`` is left out."""


class Chat:
    """``POST /v1/chat/completions``."""

    dialect = DIALECTS["/v1/chat/completions"]

    async def read(self, body: JsonObject, prompter: Prompter, draw: Callable[[], int]) -> Wanted:
        """See ``Api``."""
        only(body, _CHAT, but=_CHAT_PLAIN)
        required(body, "model", str)
        tools = _tools(body)
        prompt = await prompter.chat(
            [_message(message, number) for number, message in enumerate(items(body, "messages"))],
            tools=tools,
            more=nested(body, "chat_template_kwargs"),
        )
        logprobs = None
        if optional_flag(body, "logprobs"):
            logprobs = whole(body, "top_logprobs", 0, low=0, high=MOST_TOP_LOGPROBS)
        elif body.get("top_logprobs"):
            raise BadRequest("'top_logprobs' needs 'logprobs'.")
        wanted = limit(body, "max_completion_tokens", "max_tokens")
        return _wanted(body, [prompt], prompter, draw, max_tokens=wanted, logprobs=logprobs)

    def writer(self, body: JsonObject, wanted: Wanted, prompter: Prompter, fresh: Fresh) -> ChatWriter:
        """See ``Api``."""
        return ChatWriter(body, wanted, prompter, fresh)


class Completions:
    """``POST /v1/completions``."""

    dialect = DIALECTS["/v1/completions"]

    async def read(self, body: JsonObject, prompter: Prompter, draw: Callable[[], int]) -> Wanted:
        """See ``Api``."""
        only(body, _COMPLETIONS, but=_COMPLETIONS_PLAIN)
        required(body, "model", str)
        if body.get("best_of") not in (None, body.get("n", 1)):
            raise BadRequest("'best_of' is supported as large as 'n' only: leave it out.")
        prompts = [await prompter.text(one) if isinstance(one, str) else prompter.tokens(one) for one in _prompts(body)]
        logprobs = None
        if body.get("logprobs") is not None:
            logprobs = whole(body, "logprobs", 0, low=0, high=_MOST_COMPLETION_LOGPROBS)
        wanted = limit(body, "max_tokens") or _COMPLETION_TOKENS
        return _wanted(body, prompts, prompter, draw, max_tokens=wanted, logprobs=logprobs)

    def writer(self, body: JsonObject, wanted: Wanted, prompter: Prompter, fresh: Fresh) -> CompletionsWriter:
        """See ``Api``."""
        return CompletionsWriter(body, wanted, prompter, fresh)


class _ChunkWriter:
    """What the chunks of both APIs share."""

    prefix: str
    kind: str

    def __init__(self, body: JsonObject, wanted: Wanted, prompter: Prompter, fresh: Fresh) -> None:
        self._wanted = wanted
        self._prompter = prompter
        self._fresh = fresh
        self._output_tokens = 0
        self._told = 0
        self._head = {
            "id": f"{self.prefix}-{fresh.token}",
            "object": self.kind,
            "created": fresh.created,
            "model": body["model"],
        }
        self._pending = {"usage": None} if wanted.stream and wanted.with_usage else {}

    def finish(self) -> Iterator[ServerSentEvent]:
        """The usage and the terminator."""
        if self._wanted.with_usage:
            given = self._wanted.input_tokens
            usage = {
                "prompt_tokens": given,
                "completion_tokens": self._output_tokens,
                "total_tokens": given + self._output_tokens,
            }
            yield _event({**self._head, "choices": [], "usage": usage})
        yield _DONE

    def _chunk(self, choice: JsonObject) -> ServerSentEvent:
        return _event({**self._head, "choices": [choice], **self._pending})


class ChatWriter(_ChunkWriter):
    """See ``Writer``."""

    prefix, kind = "chatcmpl", "chat.completion.chunk"

    def begin(self) -> Iterator[ServerSentEvent]:
        """Each choice's role."""
        for place in range(len(self._wanted.choices)):
            yield self._delta(place, {"role": "assistant", "content": ""})

    def say(self, number: int, said: Said) -> Iterator[ServerSentEvent]:
        """Text, reasoning and calls, with their logprobs where those are wanted."""
        delta: JsonObject = {}
        if said.reasoning:
            delta["reasoning_content"] = said.reasoning
        if said.text:
            delta["content"] = said.text
        if said.calls:
            delta["tool_calls"] = [self._call(call.name, call.arguments) for call in said.calls]
        logprobs = None
        if self._wanted.choices[number].ask.logprobs is not None and said.tokens:
            logprobs = {"content": [self._logprob(token) for token in said.tokens], "refusal": None}
        if delta or logprobs:
            yield self._delta(number, delta, logprobs=logprobs)

    def end(self, number: int, end: End) -> Iterator[ServerSentEvent]:
        """Why it ended."""
        self._output_tokens += end.output_tokens
        yield self._delta(number, {}, finish=_FINISH[end.reason])

    def _delta(
        self, number: int, delta: JsonObject, *, finish: str | None = None, logprobs: Json = None
    ) -> ServerSentEvent:
        return self._chunk({"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish})

    def _call(self, name: str, arguments: str) -> JsonObject:
        told = self._told
        self._told += 1
        function = {"name": name, "arguments": arguments}
        return {"index": told, "id": f"call_{self._fresh.token}{told}", "type": "function", "function": function}

    def _logprob(self, token: Token) -> JsonObject:
        return self._word(token.id, token.logprob) | {"top_logprobs": [self._word(*pair) for pair in token.top]}

    def _word(self, token: int, logprob: float | None) -> JsonObject:
        word = self._prompter.word(token)
        return {"token": word, "logprob": logprob, "bytes": list(word.encode())}


class CompletionsWriter(_ChunkWriter):
    """See ``Writer``."""

    prefix, kind = "cmpl", "text_completion"

    def begin(self) -> Iterator[ServerSentEvent]:
        """Nothing: a completion starts with its text."""
        yield from ()

    def say(self, number: int, said: Said) -> Iterator[ServerSentEvent]:
        """Text, with its logprobs where those are wanted."""
        logprobs = None
        if self._wanted.choices[number].ask.logprobs is not None and said.tokens:
            logprobs = {
                "tokens": [self._prompter.word(token.id) for token in said.tokens],
                "token_logprobs": [token.logprob for token in said.tokens],
                "top_logprobs": [
                    {self._prompter.word(other): logprob for other, logprob in token.top} for token in said.tokens
                ],
                "text_offset": [],
            }
        if said.text or logprobs:
            yield self._text(number, said.text, logprobs=logprobs)

    def end(self, number: int, end: End) -> Iterator[ServerSentEvent]:
        """Why it ended."""
        self._output_tokens += end.output_tokens
        yield self._text(number, "", finish=_FINISH[end.reason])

    def _text(self, number: int, text: str, *, finish: str | None = None, logprobs: Json = None) -> ServerSentEvent:
        return self._chunk({"text": text, "index": number, "logprobs": logprobs, "finish_reason": finish})


def sampled(body: JsonObject, default: Sampling, *, hottest: float, seed: int) -> Sampling:
    """How tokens are to be chosen. Raises ``BadRequest``."""
    return replace(
        default,
        temperature=number(body, "temperature", default.temperature, low=0, high=hottest),
        top_p=number(body, "top_p", default.top_p, low=0, high=1),
        top_k=whole(body, "top_k", default.top_k, low=0, high=2**31 - 1),
        seed=seed,
    )


def _wanted(
    body: JsonObject,
    prompts: Sequence[Prompt],
    prompter: Prompter,
    draw: Callable[[], int],
    *,
    max_tokens: int | None,
    logprobs: int | None,
) -> Wanted:
    given = body.get("seed")
    seed = draw() if given is None else whole(body, "seed", 0, low=-_MAX_SEED - 1, high=_MAX_SEED)
    sampling = sampled(body, prompter.sampling(), hottest=2, seed=seed)
    stream = optional_flag(body, "stream")
    each = whole(body, "n", 1, low=1, high=_MOST_CHOICES)
    if len(prompts) * each > _MOST_CHOICES:
        raise BadRequest(f"At most {_MOST_CHOICES} choices at a time: ask for fewer.")
    choices = [
        Choice(
            prompt,
            Ask(
                prompt.tokens,
                prompter.room(prompt, max_tokens),
                replace(sampling, seed=sampling.seed + turn),
                logprobs,
            ),
        )
        for prompt in prompts
        for turn in range(each)
    ]
    return Wanted(
        choices=tuple(choices),
        prompts=tuple(prompts),
        stops=strings(body, "stop", most=_MOST_STOPS),
        stream=stream,
        with_usage=not stream or bool(nested(body, "stream_options").get("include_usage")),
    )


def _message(message: JsonObject, place: int) -> JsonObject:
    """A message as chat templates want it: text as a string, arguments of calls as objects."""
    where = f"'messages[{place}]'"
    role = message.get("role")
    if role not in {"system", "developer", "user", "assistant", "tool"}:
        raise BadRequest(f"{where} has the role {role!r}; known are system, developer, user, assistant and tool.")
    told: JsonObject = {"role": "system" if role == "developer" else role, "content": _text(message, where)}
    for name in ("name", "tool_call_id", "reasoning_content"):
        if isinstance(message.get(name), str):
            told[name] = message[name]
    if calls := optional_list(message, "tool_calls"):
        told["tool_calls"] = [_earlier_call(call, where) for call in calls]
    return told


def _text(message: JsonObject, where: str) -> str:
    content = message.get("content")
    if content is None and message.get("role") == "assistant":
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"{where} has no content.")
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise BadRequest(f"{where} holds a part that is no text, which this model does not read.")
        texts.append(part["text"])
    return "\n".join(texts)


def _earlier_call(call: Json, where: str) -> JsonObject:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRequest(f"{where} holds a tool call that is not one of a function.")
    try:
        arguments: Any = parse(str(function.get("arguments") or "{}").encode())
    except ValueError as error:
        raise BadRequest(f"{where} holds a tool call whose arguments are not JSON: {error}.") from error
    return {"id": call.get("id"), "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _tools(body: JsonObject) -> list[JsonObject]:
    choice = body.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise BadRequest("'tool_choice' is supported as 'auto' or 'none': this server cannot make a model call a tool.")
    tools = list(optional_list(body, "tools"))
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRequest("'tools' must be functions, each with a name.")
    return [] if choice == "none" else tools


def _prompts(body: JsonObject) -> list[str | list[int]]:
    given = body.get("prompt")
    several = isinstance(given, list) and not all(isinstance(item, int) for item in given)
    prompts: list[Any] = list(given) if several and isinstance(given, list) else [given]
    for prompt in prompts:
        tokens = isinstance(prompt, list) and all(isinstance(item, int) for item in prompt)
        if not isinstance(prompt, str) and not tokens:
            raise BadRequest("'prompt' must be a string, a list of strings, or tokens.")
    return prompts


def _event(chunk: JsonObject) -> ServerSentEvent:
    return ServerSentEvent(dump(chunk).decode())
