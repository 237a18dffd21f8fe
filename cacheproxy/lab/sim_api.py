"""What the simulated upstream's APIs have in common: how one is asked, how it tells an answer whole or as a stream.

Written apart from ``wire``, which the proxy reads streams with: the two check each other in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cacheproxy.jsontext import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.upstream.simulated import Generation, Prompt
    from cacheproxy.wire.dialect import Fresh


ANY_OBJECT: Final = {"type": "object", "properties": {"answer": {"type": "string"}}}
"""The schema of an answer that was asked for as JSON and no more."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event as bytes; ``tokens`` of the answer are out once it is sent."""

    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as an API read it: one prompt, or several, and how many answers to each."""

    prompts: tuple[Prompt, ...]
    choices: int = 1
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Api:
    """One simulated API, as three functions."""

    read: Callable[[JsonObject], Asked]
    """Understands a request. Raises ``BadRequest``."""
    whole: Callable[[JsonObject, Sequence[Generation], int, Fresh], JsonObject]
    """The answer as one JSON object, told from the request's body, what was said (each prompt's choices in turn), the
    number of input tokens, and what makes this answer a new one."""
    stream: Callable[[JsonObject, Sequence[Generation], int, Fresh], Iterator[Event]]
    """The same answer as events."""


def named(kind: str, data: JsonObject, tokens: int = 0) -> Event:
    """An event with a name, which its data repeats as ``type``."""
    return Event(b"event: %s\ndata: %s\n\n" % (kind.encode(), dump({"type": kind, **data})), tokens)


def unnamed(data: JsonObject, tokens: int = 0) -> Event:
    """An event of data alone."""
    return Event(b"data: %s\n\n" % dump(data), tokens)


_OPENAI_ERRORS: Final[Mapping[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", None),
    404: ("invalid_request_error", "unknown_url"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
}
_ANTHROPIC_ERRORS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
}


def error_body(status: int, message: str, *, anthropic: bool) -> JsonObject:
    """An error as the provider would word it; ``status`` is 400, 404, 429 or 500."""
    if anthropic:
        return {"type": "error", "error": {"type": _ANTHROPIC_ERRORS[status], "message": message}}
    kind, code = _OPENAI_ERRORS[status]
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
