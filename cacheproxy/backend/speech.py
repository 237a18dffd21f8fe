"""From tokens to what is told: text as it comes, stop strings, reasoning and tool calls where the model marks them.

Text is cut at a stop string, which is not told; what may be the start of one is held back until that is clear. Tool
calls and reasoning are found by transformers' ``ResponseParser``, with the template that the tokenizer brings along.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.backend.engine import Finish

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from transformers import PreTrainedTokenizerBase
    from transformers.utils.chat_parsing.response_parser import ResponseParser

    from cacheproxy.backend.engine import Ask, Engine, Step, Token

_REASONING: Final = ("reasoning_content", "thinking")


class EndReason(StrEnum):
    """Why an answer ended, as callers are told."""

    STOP = "stop"
    LENGTH = "length"
    STOP_STRING = "stop-string"
    TOOL_CALLS = "tool-calls"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: ``arguments`` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Said:
    """A part of an answer. ``tokens`` are those that it took, ends of turns left out."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    tokens: tuple[Token, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning or self.calls or self.tokens)

    def __add__(self, other: Said) -> Said:
        return joined((self, other))


def joined(parts: Iterable[Said]) -> Said:
    """Parts in their order as one."""
    parts = tuple(parts)
    return Said(
        "".join(part.text for part in parts),
        "".join(part.reasoning for part in parts),
        tuple(call for part in parts for call in part.calls),
        tuple(token for part in parts for token in part.tokens),
    )


@dataclass(frozen=True, slots=True)
class End:
    """The end of an answer."""

    reason: EndReason
    output_tokens: int
    """All that were generated for it, the end of the turn included."""
    stop: str | None = None
    """The stop string that was met."""


class StopFilter:
    """Text in, text out up to the first of ``stops``."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.met: str | None = None

    def feed(self, text: str) -> str:
        """What may be told of it."""
        if not self._stops or self.met is not None:
            return text if self.met is None else ""
        text, self._held = self._held + text, ""
        found = [(place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            place, self.met = min(found)
            return text[:place]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return held


class Speech:
    """One answer while it is told. ``template`` is the tokenizer's own for reading answers, if it has one."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        end_tokens: frozenset[int],
        stops: Sequence[str] = (),
        parser: ResponseParser | None = None,
    ) -> None:
        from tokenizers.decoders import DecodeStream  # noqa: PLC0415 - loaded with the model long since

        self._tokenizer: Any = tokenizer.backend_tokenizer
        self._stream: Any = DecodeStream(skip_special_tokens=parser is None)
        self._ends = end_tokens
        self._stops = StopFilter(stops)
        self._parser = parser
        self._called = False
        self._count = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met: nothing more is told."""
        return self._stops.met is not None

    def feed(self, step: Step) -> Said:
        """Take tokens; what they say."""
        said = Said()
        for token in step.tokens:
            self._count += 1
            text = self._stream.step(self._tokenizer, token.id) or ""
            told = (token,) if token.id not in self._ends else ()
            said += replace(self._read(text), tokens=told)
            if self.stopped:
                break
        return said

    def rest(self, finish: Finish) -> tuple[Said, End]:
        """What was held back, and how the answer ended."""
        said = Said()
        if self._parser is not None and not self.stopped:
            _, events = self._parser.finalize()
            said = self._sorted(events)
        said += Said(text=self._stops.rest())
        return said, End(self._reason(finish), self._count, self._stops.met)

    def _reason(self, finish: Finish) -> EndReason:
        if self.stopped:
            return EndReason.STOP_STRING
        if finish is Finish.LENGTH:
            return EndReason.LENGTH
        return EndReason.TOOL_CALLS if self._called else EndReason.STOP

    def _read(self, text: str) -> Said:
        if self._parser is None:
            return Said(text=self._stops.feed(text))
        return self._sorted(self._parser.feed(text))

    def _sorted(self, events: list[dict[str, Any]]) -> Said:
        said = Said()
        for event in events:
            kind, region = event["type"], event.get("field")
            if kind == "region_chunk" and not event.get("dirty"):
                text = event.get("text") or ""
                if region in _REASONING:
                    said += Said(reasoning=text)
                elif region == "content":
                    said += Said(text=self._stops.feed(text))
            elif kind == "region_close" and region == "tool_calls" and (call := _call(event.get("value"))):
                self._called = True
                said += Said(calls=(call,))
        return said


async def speak(engine: Engine, ask: Ask, speech: Speech) -> AsyncGenerator[Said | End, None]:
    """One answer, part by part, and its end. Closing the generator early frees what the answer held."""
    finish = Finish.STOP
    async with aclosing(engine.generate(ask)) as steps:
        async for step in steps:
            if said := speech.feed(step):
                yield said
            if step.finish is not None:
                finish = step.finish
            if speech.stopped:
                break
    said, end = speech.rest(finish)
    if said:
        yield said
    yield end


def _overlap(text: str, stop: str) -> int:
    """How much of the text's end is the start of ``stop``."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


def _call(value: Any) -> ToolCall | None:
    """A parsed call; None for what the model wrote wrongly, which the parser gives as text."""
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments")
    return ToolCall(function["name"], arguments if isinstance(arguments, str) else json.dumps(arguments or {}))
