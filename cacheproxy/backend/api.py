"""What the server's APIs have in common: a request is read into asks, and told again as events.

Each API writes streams only. An answer as one JSON object is its stream, put together by the dialect that reads
streams anyway (``wire``): so both say the same, and each API is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cacheproxy.backend.engine import Ask
    from cacheproxy.backend.prompts import Prompt, Prompter
    from cacheproxy.backend.speech import End, Said
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.wire.dialect import Dialect, Fresh
    from cacheproxy.wire.sse import ServerSentEvent


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer that is wanted."""

    prompt: Prompt
    ask: Ask


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request as an API read it."""

    choices: tuple[Choice, ...]
    prompts: tuple[Prompt, ...]
    """Each once, however many choices it has."""
    stops: tuple[str, ...] = ()
    stream: bool = False
    with_usage: bool = True
    """Whether a stream's caller wants its usage told."""

    @property
    def input_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(prompt.tokens) for prompt in self.prompts)


class Writer(Protocol):
    """Tells one answer as events."""

    def begin(self) -> Iterator[ServerSentEvent]:
        """Before the first token."""

    def say(self, number: int, said: Said) -> Iterator[ServerSentEvent]:
        """A part of a choice."""

    def end(self, number: int, end: End) -> Iterator[ServerSentEvent]:
        """The end of a choice."""

    def finish(self) -> Iterator[ServerSentEvent]:
        """Behind the last choice."""


class Api(Protocol):
    """One path of the server."""

    dialect: Dialect

    async def read(self, body: JsonObject, prompter: Prompter, draw: Callable[[], int]) -> Wanted:
        """Understand a request; ``draw`` gives a seed to those that bring none. Raises ``BadRequest``."""

    def writer(self, body: JsonObject, wanted: Wanted, prompter: Prompter, fresh: Fresh) -> Writer:
        """Tells the answer to a request."""
