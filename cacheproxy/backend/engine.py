"""What an engine is asked and what it gives: token numbers in, token numbers out. The rest of the server knows no more.

Every ask is answered: with a last ``Step`` that has a finish, or with a ``ProxyError``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

MOST_TOP_LOGPROBS: Final = 20
"""Alternatives to each token that can be asked for; OpenAI's own limit."""


class Finish(StrEnum):
    """Why an engine stopped."""

    STOP = "stop"
    """The model ended its turn."""
    LENGTH = "length"
    """``max_tokens`` are out."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Temperature 0 takes the likeliest; ``top_k`` 0 and ``top_p`` 1 leave none out.

    Equal seeds give equal tokens, whatever else is in the batch.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


GREEDY: Final = Sampling(temperature=0.0)


@dataclass(frozen=True, slots=True)
class Ask:
    """One choice to generate. ``logprobs`` asks for those of the tokens and of so many alternatives."""

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = GREEDY
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """One token. ``logprob`` is the model's own, before temperature and cuts; alternatives are the likeliest first."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens that came together. The last step of an answer has a ``finish``, and may be without tokens."""

    tokens: tuple[Token, ...]
    finish: Finish | None = None


@dataclass(slots=True)
class Load:
    """How busy an engine is, for readiness and metrics."""

    waiting: int = 0
    running: int = 0
    kv_used: float = 0.0
    """Share of the key-value cache in use, 0..1."""


@dataclass(slots=True)
class Counts:
    """What an engine has done since it started."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    restarts: int = 0
    cancelled: int = 0
    drafted: int = 0
    """Tokens that came out of speculative decoding."""
    admitted: int = 0
    waited_s: float = 0.0
    """Time that the admitted ones spent in the queue, all together."""


class Engine(Protocol):
    """Generates tokens."""

    @property
    def context(self) -> int:
        """The most tokens that a prompt and its answer may have together."""

    @property
    def gives_logprobs(self) -> bool:
        """Whether ``Ask.logprobs`` may be set."""

    @property
    def load(self) -> Load:
        """How busy it is now."""

    @property
    def counts(self) -> Counts:
        """What it has done."""

    def generate(self, ask: Ask) -> AsyncGenerator[Step, None]:
        """The answer as it comes. Closing the generator early frees what the answer held.

        Raises ``Overloaded`` when the queue is full, and ``PortUnavailable`` when the device cannot do it.
        """

    async def aclose(self) -> None:
        """Answer whoever still waits and free the device."""
