"""Reading requests as one who answers them does: what must be there, what has which type, what is not supported.

For servers of the APIs, simulated and local. The dialects, which only look at what passes by, read with ``reading``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cacheproxy.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Collection

    from cacheproxy.jsontext import Json, JsonObject


def required(body: JsonObject, name: str, kind: type[Any]) -> Json:
    """A member that must be there and have this type. Raises ``BadRequest``."""
    value = body.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadRequest(f"'{name}' is missing or is no {kind.__name__}.")
    return value


def items(body: JsonObject, name: str) -> list[JsonObject]:
    """A member that must be a list of objects with something in it. Raises ``BadRequest``."""
    value = required(body, name, list)
    if not value or not all(isinstance(item, dict) for item in value):
        raise BadRequest(f"'{name}' must be a list of objects, and not empty.")
    return list(value)


def nested(body: JsonObject, name: str) -> JsonObject:
    """A member that may be an object, empty where it is missing. Raises ``BadRequest``."""
    return {} if body.get(name) is None else dict(required(body, name, dict))


def limit(body: JsonObject, *names: str) -> int | None:
    """The first token limit that is set. Raises ``BadRequest``."""
    for name in names:
        if body.get(name) is not None:
            if required(body, name, int) < 1:
                raise BadRequest(f"'{name}' must be at least 1.")
            return int(body[name])
    return None


def number(body: JsonObject, name: str, default: float, *, low: float, high: float) -> float:
    """A member that may be a number within bounds. Raises ``BadRequest``."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"'{name}' must be a number from {low:g} to {high:g}.")
    return float(value)


def whole(body: JsonObject, name: str, default: int, *, low: int, high: int) -> int:
    """A member that may be a whole number within bounds. Raises ``BadRequest``."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"'{name}' must be a whole number from {low} to {high}.")
    return value


def strings(body: JsonObject, name: str, *, most: int) -> tuple[str, ...]:
    """A member that may be a string or a list of them, none of them empty. Raises ``BadRequest``."""
    value = body.get(name)
    found = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(found, list) or len(found) > most or not all(isinstance(one, str) and one for one in found):
        raise BadRequest(f"'{name}' must be a string or up to {most} of them, none of them empty.")
    return tuple(found)


def only(body: JsonObject, known: Collection[str], *, but: JsonObject) -> None:
    """Refuse members that would be ignored. ``but`` holds further ones with the only value that changes nothing.

    Members that are null are as good as not there. Raises ``BadRequest``.
    """
    for name, value in body.items():
        if value is None or name in known:
            continue
        if name not in but:
            raise BadRequest(f"'{name}' is not supported by this server: leave it out.")
        if value != but[name]:
            raise BadRequest(f"'{name}' is supported as {but[name]!r} only: leave it out.")


def text_of(content: Json) -> str:
    """The text in a message's content: the content itself, or its text parts joined; results of tools included."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part for part in content if isinstance(part, dict))
    return "\n".join(text_of(part.get("text", part.get("content"))) for part in parts)
