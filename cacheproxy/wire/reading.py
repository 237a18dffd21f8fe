"""Reading JSON that others wrote: the small steps that several dialects take.

Requests are read strictly where a member decides something (``BadRequest`` names it), answers leniently: a count that
is no number is zero. Nothing here changes what it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy import jsontext
from cacheproxy.errors import BadRequest
from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.sse import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cacheproxy.jsontext import Json, JsonObject

PIECE_LENGTH: Final = 48
"""Characters in one delta of a replayed stream: about ten tokens, so that a long answer is not thousands of events."""
_DONE: Final = "[DONE]"


def optional_text(body: JsonObject, name: str) -> str:
    """A member that must be a string where it is given; empty where it is not."""
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a string")
    return value


def optional_flag(body: JsonObject, name: str, *, default: bool = False) -> bool:
    """A member that must be true or false where it is given."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false")
    return value


def optional_list(body: JsonObject, name: str) -> Sequence[Json]:
    """A member that must be a list where it is given; empty where it is not."""
    value = body.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadRequest(f"{name} must be a list")
    return value


def lift_texts(content: Json, part_type: str, where: str) -> tuple[tuple[str, ...], Json] | None:
    """A turn's texts, and its content with each of them replaced by ``None``; no pair when it is not all plain text.

    ``content`` is a string or a list of parts, of which those of ``part_type`` hold a ``text``. ``where`` names it in
    errors. What is not replaced is shared with ``content``, not copied.
    """
    if isinstance(content, str):
        return (content,), None
    if not isinstance(content, list):
        raise BadRequest(f"{where} must be a string or a list of parts")
    texts = []
    hollow = []
    for number, part in enumerate(content):
        if not isinstance(part, dict):
            raise BadRequest(f"{where}[{number}] must be an object")
        if part.get("type") != part_type:
            return None
        text = part.get("text")
        if not isinstance(text, str):
            raise BadRequest(f"{where}[{number}].text must be a string")
        texts.append(text)
        hollow.append({**part, "text": None})
    return (tuple(texts), hollow) if texts else None


def last_words(turns: Json) -> str:
    """What the last turn of a user with any words in it says, whatever else it holds; empty when there is none."""
    for turn in reversed(turns) if isinstance(turns, list) else ():
        if member(turn, "role") == "user":
            content = member(turn, "content")
            parts = content if isinstance(content, list) else [{"text": content}]
            if words := [text for part in parts if isinstance(text := member(part, "text"), str) and text]:
                return "\n".join(words)
    return ""


def member(value: Json, name: str) -> Json:
    """A member of what may not even be an object."""
    return value.get(name) if isinstance(value, dict) else None


def count(value: Json, name: str) -> int:
    """A number of tokens; zero when it is missing or no number."""
    number = member(value, name)
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 0


def zeroed(usage: Json) -> Json:
    """A usage object with every count at zero, however deep, and all else as it was."""
    if isinstance(usage, dict):
        return {name: zeroed(value) for name, value in usage.items()}
    if isinstance(usage, list):
        return [zeroed(value) for value in usage]
    return 0 if isinstance(usage, int | float) and not isinstance(usage, bool) else usage


def pieces(text: str) -> Iterator[str]:
    """A text cut into deltas; none for an empty one."""
    return (text[start : start + PIECE_LENGTH] for start in range(0, len(text), PIECE_LENGTH))


def named_event(body: JsonObject) -> ServerSentEvent:
    """An event that carries its name twice, as ``event:`` and as the data's ``type``."""
    return ServerSentEvent(jsontext.dump(body).decode(), body["type"])


def event_body(event: ServerSentEvent) -> JsonObject | None:
    """The object that an event carries, with its ``type``; None for one that carries nothing.

    The ``[DONE]`` that some gateways append to every stream carries nothing. Raises ``MalformedStream``.
    """
    if event.data is None or event.data == _DONE:
        return None
    try:
        body = jsontext.parse(event.data.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise MalformedStream(f"an event's data is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise MalformedStream("an event's data is not an object")
    if not isinstance(body.get("type"), str):
        body["type"] = event.event or ""
    return body
