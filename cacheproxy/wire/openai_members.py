"""Members that the requests and answers of OpenAI's chat, completions and embeddings APIs have in common."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest
from cacheproxy.model import Usage
from cacheproxy.wire.reading import count, member, optional_flag, optional_text, zeroed

if TYPE_CHECKING:
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.wire.dialect import Fresh

_ID_PREFIX: Final = re.compile(r"[A-Za-z]+[-_]")


def stream_members(body: JsonObject) -> tuple[str, bool, bool]:
    """Model, whether a stream is wanted, and whether with usage: what chat and completions requests share."""
    stream = optional_flag(body, "stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest("stream_options must be an object")
    asks_usage = not stream or member(options, "include_usage") is True
    return optional_text(body, "model"), stream, asks_usage


def answer_choices(answer: JsonObject) -> list[JsonObject]:
    """The choices of a complete answer. Raises ``ValueError`` when it has none that can be read."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("an answer without choices")
    return choices


def model_of(answer: JsonObject) -> str:
    """The model that the answer names; empty when it names none."""
    model = answer.get("model")
    return model if isinstance(model, str) else ""


def finishes_of(choices: list[JsonObject]) -> list[str]:
    """The choices' finish reasons; an empty text for a choice without one."""
    finishes = [choice.get("finish_reason") for choice in choices]
    return [finish if isinstance(finish, str) else "" for finish in finishes]


def usage_of(answer: JsonObject) -> Usage | None:
    """The answer's token counts in the price tables' terms; None when it tells none.

    ``prompt_tokens`` counts the cached part too. DeepSeek tells the cached part in a member of its own.
    """
    usage = answer.get("usage")
    if not isinstance(usage, dict) or not usage:
        return None
    details = usage.get("prompt_tokens_details")
    return Usage(
        input_tokens=count(usage, "prompt_tokens"),
        output_tokens=count(usage, "completion_tokens"),
        cache_read_tokens=count(details, "cached_tokens") or count(usage, "prompt_cache_hit_tokens"),
        cache_write_tokens=count(details, "cache_write_tokens"),
    )


def refreshed(answer: JsonObject, fresh: Fresh, *, prefix: str, zero_usage: bool) -> JsonObject:
    """A shallow copy with an id and a creation time of its own.

    The id keeps what the upstream puts in front of its ids; ``prefix`` is for answers whose id is no text.
    """
    old = answer.get("id")
    if isinstance(old, str):
        found = _ID_PREFIX.match(old)
        prefix = found.group() if found else ""
    new = {**answer, "id": prefix + fresh.token, "created": fresh.created}
    if zero_usage and "usage" in answer:
        new["usage"] = zeroed(answer["usage"])
    return new
