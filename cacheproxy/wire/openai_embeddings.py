"""OpenAI's embeddings API (``/v1/embeddings``), cached input by input.

A request holds one input or a list of them. Each input's answer is its own entry, so a request is cut into its
inputs, only the missing ones go upstream, and the single answers are put together in the order that was asked. An
input is a text or a list of token numbers. The API has no streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import dump
from cacheproxy.model import AnswerView, Reason, View
from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.openai_errors import error_body
from cacheproxy.wire.openai_members import model_of, refreshed, usage_of
from cacheproxy.wire.reading import optional_text
from cacheproxy.wire.splice import set_member
from cacheproxy.wire.sse import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cacheproxy.jsontext import Json, JsonObject
    from cacheproxy.wire.dialect import Assembler, Fresh

Input: TypeAlias = str | list[int]
"""One thing to embed: a text, or token numbers."""

_NOT_STREAMED: Final = "embeddings are not streamed"
_WRONG_INPUT: Final = "input must be a string, an array of token numbers, or an array of these; no array may be empty"


@dataclass(frozen=True, slots=True)
class Inputs:
    """A request cut up: ``values`` in their order, and ``skeleton``, which is the body with a null ``input``."""

    values: tuple[Input, ...]
    skeleton: JsonObject


def inputs(body: JsonObject) -> Inputs:
    """Cut a request into its inputs. Raises ``BadRequest``."""
    given = body.get("input")
    values = [given] if _is_input(given) else given
    if not isinstance(values, list) or not values or not all(_is_input(value) for value in values):
        raise BadRequest(_WRONG_INPUT)
    return Inputs(tuple(values), {**body, "input": None})


def missing_body(raw: bytes, asked: Inputs, missing: Sequence[int]) -> bytes:
    """The request for the inputs at these places only; the very same bytes when all of them are missing."""
    if list(missing) == list(range(len(asked.values))):
        return raw
    return set_member(raw, "input", dump([asked.values[place] for place in missing]))


def split(answer: JsonObject, values: Sequence[Input]) -> list[JsonObject]:
    """An upstream's answer to these inputs as one answer for each, in the inputs' order.

    The usage is shared out by the inputs' lengths (characters or tokens), and the shares add up to it exactly.
    Raises ``ValueError`` unless there is one embedding for each input.
    """
    rows = {row["index"]: row for row in _rows(answer)}
    if len(rows) != len(_rows(answer)) or set(rows) != set(range(len(values))):
        raise ValueError(f"{len(rows)} embeddings for {len(values)} inputs, or with the wrong indexes")
    singles: list[JsonObject] = [{**answer, "data": [{**rows[place], "index": 0}]} for place in range(len(values))]
    if "usage" in answer:
        for single, usage in zip(singles, _shares(answer["usage"], values), strict=True):
            single["usage"] = usage
    return singles


def merge(answers: Sequence[JsonObject]) -> JsonObject:
    """One answer out of single ones, in their order, with the sum of their usage. There must be at least one."""
    rows = [{**answer["data"][0], "index": place} for place, answer in enumerate(answers)]
    merged = {**answers[0], "data": rows}
    if "usage" in merged:
        merged["usage"] = _sum([answer.get("usage") for answer in answers])
    return merged


class OpenAIEmbeddings:
    """The dialect ``openai-embeddings``. Its requests are answered input by input, see the module's functions."""

    name = "openai-embeddings"
    request_id_header = "x-request-id"

    def view(self, body: JsonObject) -> View:
        """Read a request. Nothing in it is a user's turn: an embedding answers its exact input only."""
        inputs(body)
        return View(
            model=optional_text(body, "model"), stream=False, texts=(), skeleton=body, exact_only=Reason.EMBEDDINGS
        )

    def asking_usage(self, raw: bytes) -> bytes:
        """The request as it is: every answer tells its usage."""
        return raw

    def read(self, answer: JsonObject) -> AnswerView:
        """Read an answer for one input or many."""
        rows = _rows(answer)
        return AnswerView(
            model=model_of(answer),
            usage=usage_of(answer),
            storable=bool(rows) and not answer.get("error"),
            exact_only=True,
            text="",
        )

    def assembler(self) -> Assembler:
        """An assembler that takes no event."""
        return _NoStream()

    def refresh(self, answer: JsonObject, fresh: Fresh, *, zero_usage: bool = False) -> JsonObject:
        """The answer; with an id and a creation time of its own only where its provider tells them."""
        new = refreshed(answer, fresh, prefix="embd-", zero_usage=zero_usage)
        return {name: value for name, value in new.items() if name in answer}

    def replay(
        self,
        answer: JsonObject,  # noqa: ARG002 - the protocol names it
        *,
        with_usage: bool,  # noqa: ARG002 - the protocol names it
    ) -> Iterator[ServerSentEvent]:
        """Raises ``MalformedStream``: there is no such stream."""
        raise MalformedStream(_NOT_STREAMED)

    def error(self, status: int, code: str, message: str) -> JsonObject:
        """OpenAI's error body."""
        return error_body(status, code, message)

    def error_event(self, status: int, code: str, message: str) -> ServerSentEvent:
        """The error body as an event."""
        return ServerSentEvent(dump(error_body(status, code, message)).decode())


class _NoStream:
    failed = False

    def feed(self, event: ServerSentEvent) -> None:
        raise MalformedStream(f"{_NOT_STREAMED}, and here came {event.data!r:.80}")

    def usage_only(self, event: ServerSentEvent) -> bool:  # noqa: ARG002 - the protocol names it
        return False

    def answer(self) -> JsonObject | None:
        return None


def _is_input(value: Json) -> bool:
    if isinstance(value, list):
        return bool(value) and all(type(token) is int for token in value)
    return isinstance(value, str)


def _rows(answer: JsonObject) -> list[JsonObject]:
    rows = answer.get("data")
    if not isinstance(rows, list):
        raise ValueError("an answer without data")  # noqa: TRY004 - callers expect ValueError for bad answers
    for row in rows:
        if not isinstance(row, dict) or type(row.get("index")) is not int or not row.get("embedding"):
            raise ValueError("a row of data that is no embedding")
    return rows


def _shares(usage: Json, values: Sequence[Input]) -> list[Json]:
    """Each whole number in ``usage`` in shares; everything else as it is."""
    if isinstance(usage, dict):
        columns = {name: _shares(value, values) for name, value in usage.items()}
        return [{name: column[place] for name, column in columns.items()} for place in range(len(values))]
    if type(usage) is not int:
        return [usage] * len(values)
    ends = list(accumulate((len(value) or 1 for value in values), initial=0))
    return [usage * end // ends[-1] - usage * start // ends[-1] for start, end in pairwise(ends)]


def _sum(usages: Sequence[Json]) -> Json:
    """The inverse of ``_shares``."""
    first = usages[0]
    if isinstance(first, dict):
        parts = [usage for usage in usages if isinstance(usage, dict)]
        return {name: _sum([part.get(name) for part in parts]) for name in first}
    if type(first) is int:
        return sum(usage for usage in usages if type(usage) is int)
    return first
