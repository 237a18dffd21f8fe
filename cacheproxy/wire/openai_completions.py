"""OpenAI's completions API (``/v1/completions``), which chat replaced and many local servers still offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.jsontext import dump
from cacheproxy.model import AnswerView, Reason, View
from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.openai_chunks import ChunkAssembler, chunk_events, pieces
from cacheproxy.wire.openai_errors import error_body
from cacheproxy.wire.openai_members import answer_choices, finishes_of, model_of, refreshed, stream_members, usage_of
from cacheproxy.wire.openai_merge import joined, merge
from cacheproxy.wire.splice import with_stream_usage
from cacheproxy.wire.sse import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.wire.dialect import Assembler, Fresh

_OBJECT: Final = "text_completion"
_NATURAL_FINISHES: Final = frozenset({"stop", "length"})


class OpenAICompletions:
    """The dialect ``openai-completions``."""

    name = "openai-completions"
    request_id_header = "x-request-id"

    def view(self, body: JsonObject) -> View:
        """Read a request. A prompt that is one text is the last user turn; lists and tokens are not."""
        model, stream, asks_usage = stream_members(body)
        prompt = body.get("prompt")
        texts, skeleton = ((prompt,), {**body, "prompt": None}) if isinstance(prompt, str) else ((), body)
        return View(
            model=model,
            stream=stream,
            texts=texts,
            skeleton=skeleton,
            exact_only=_exact_only(body, plain=bool(texts)),
            asks_usage=asks_usage,
        )

    def asking_usage(self, raw: bytes) -> bytes:
        """The request's bytes with ``stream_options.include_usage`` true."""
        return with_stream_usage(raw)

    def read(self, answer: JsonObject) -> AnswerView:
        """Read a text completion."""
        choices = answer_choices(answer)
        finishes = finishes_of(choices)
        return AnswerView(
            model=model_of(answer),
            usage=usage_of(answer),
            storable=bool(choices) and _NATURAL_FINISHES.issuperset(finishes) and not answer.get("error"),
            exact_only="length" in finishes,
            text="".join(_text(choice) for choice in choices),
        )

    def assembler(self) -> Assembler:
        """A new assembler for one stream of chunks."""
        return ChunkAssembler(_OBJECT, _ChoiceInProgress)

    def refresh(self, answer: JsonObject, fresh: Fresh, *, zero_usage: bool = False) -> JsonObject:
        """The answer with its own id and creation time."""
        return refreshed(answer, fresh, prefix="cmpl-", zero_usage=zero_usage)

    def replay(self, answer: JsonObject, *, with_usage: bool) -> Iterator[ServerSentEvent]:
        """The answer as chunks, one choice after the other."""
        fragments = (
            fragment
            for place, choice in enumerate(answer_choices(answer))
            for fragment in _fragments(choice, choice.get("index", place))
        )
        return chunk_events(answer, _OBJECT, fragments, with_usage=with_usage)

    def error(self, status: int, code: str, message: str) -> JsonObject:
        """OpenAI's error body."""
        return error_body(status, code, message)

    def error_event(self, status: int, code: str, message: str) -> ServerSentEvent:
        """The error body as an event, which OpenAI's clients raise as an ``APIError``."""
        return ServerSentEvent(dump(error_body(status, code, message)).decode())


class _ChoiceInProgress:
    """A choice whose text comes in pieces."""

    def __init__(self) -> None:
        self._members: JsonObject = {}
        self._pieces: list[str] = []

    @property
    def finished(self) -> bool:
        return self._members.get("finish_reason") is not None

    def take(self, fragment: JsonObject) -> None:
        piece = fragment.pop("text", None) or ""
        if not isinstance(piece, str):
            raise MalformedStream("a text that is none")
        self._pieces.append(piece)
        merge(self._members, fragment, texts_grow=False)

    def whole(self) -> JsonObject:
        return {"text": "".join(self._pieces), **joined(self._members)}


def _exact_only(body: JsonObject, *, plain: bool) -> Reason | None:
    if not plain or body.get("echo"):  # an echo repeats the prompt that this answer was given for
        return Reason.NOT_PLAIN_TEXT
    if any(body.get(name) not in (None, 1) for name in ("n", "best_of")):
        return Reason.SEVERAL_CHOICES
    logprobs = body.get("logprobs")
    if logprobs is not None and logprobs is not False:  # zero asks for the chosen tokens' probabilities
        return Reason.LOGPROBS
    return None


def _text(choice: JsonObject) -> str:
    text = choice.get("text")
    if not isinstance(text, str):
        raise ValueError("a choice without a text")  # noqa: TRY004 - callers expect ValueError for bad answers
    return text


def _fragments(choice: JsonObject, index: int) -> Iterator[JsonObject]:
    """A choice as the ``choices`` elements of successive chunks; the last one tells all but the text."""
    base: JsonObject = {"index": index, "finish_reason": None}
    if "logprobs" in choice:
        base["logprobs"] = None
    for piece in pieces(_text(choice)):
        yield {"text": piece, **base}
    yield {**base, **choice, "index": index, "text": ""}
