"""What the simulated upstream's APIs have in common: how one is asked, how it tells an answer whole or as a stream.

Written apart from ``wire``, which the proxy reads streams with: the two check each other in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cacheproxy.jsontext import Json, JsonObject
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


def member(body: JsonObject, name: str, kind: type[Any]) -> Json:
    """A member that must be there and have this type. Raises ``BadRequest``."""
    value = body.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadRequest(f"'{name}' is missing or is no {kind.__name__}.")
    return value


def items(body: JsonObject, name: str) -> list[JsonObject]:
    """A member that must be a list of objects with something in it. Raises ``BadRequest``."""
    value = member(body, name, list)
    if not value or not all(isinstance(item, dict) for item in value):
        raise BadRequest(f"'{name}' must be a list of objects, and not empty.")
    return list(value)


def nested(body: JsonObject, name: str) -> JsonObject:
    """A member that may be an object, empty where it is missing. Raises ``BadRequest``."""
    return {} if body.get(name) is None else dict(member(body, name, dict))


def limit(body: JsonObject, *names: str) -> int | None:
    """The first token limit that is set. Raises ``BadRequest``."""
    for name in names:
        if body.get(name) is not None:
            if member(body, name, int) < 1:
                raise BadRequest(f"'{name}' must be at least 1.")
            return int(body[name])
    return None


def text_of(content: Json) -> str:
    """The text in a message's content: the content itself, or its text parts joined; results of tools included."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part for part in content if isinstance(part, dict))
    return "\n".join(text_of(part.get("text", part.get("content"))) for part in parts)


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
