"""Who may share an answer with whom: tenants, scopes and exact keys.

    scope = hash(everything about the request but the last user turn's text)
    key   = hash(scope, that text)

Nothing is picked by hand. The whole body counts, unknown members too, but for ``NEUTRAL``: members that change how an
answer travels or who is billed, never what it says. All hashes are BLAKE2b, 128 bits, keyed with the server's secret,
so that nobody outside can compute one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from cacheproxy import jsontext
from cacheproxy.values import value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cacheproxy.jsontext import Json, JsonObject

NEUTRAL: Final = frozenset(
    {
        "stream",
        "stream_options",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "metadata",
        "cache_control",
    }
)
KEY_HEADERS: Final = ("anthropic-version", "anthropic-beta", "openai-beta", "openai-organization", "openai-project")
CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
COOKIE: Final = "cookie"
CREDENTIAL_PARAMETERS: Final = ("key", "api_key", "api-key")
BILLING_BLOCK: Final = re.compile(r"\s*x-anthropic-billing-header:[^\n]*\s*")
"""A line that coding agents put before the system prompt; it changes with each call and says nothing to the model."""
_IGNORED: Final = "\x00"


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What an operator may change about keys. ``secret`` keys every hash."""

    secret: bytes
    neutral: frozenset[str] = NEUTRAL
    headers: tuple[str, ...] = KEY_HEADERS
    ignore_patterns: tuple[re.Pattern[str], ...] = ()
    isolate_by_user: bool = False


@value(frozen=True, slots=True)
class Keys:
    """Where a request belongs: 16 bytes each."""

    scope: bytes
    key: bytes


@value(frozen=True, slots=True)
class Place:
    """What surrounds a body: everything outside it that an answer may depend on."""

    dialect: str
    upstream: str
    """The full URL without its query: base and path."""
    query: str
    tenant: str
    namespace: str = ""
    headers: Sequence[tuple[str, str]] = field(default=())


def keys(place: Place, body: JsonObject, skeleton: JsonObject, texts: Sequence[str], rules: KeyRules) -> Keys:
    """The scope and the exact key of a request. ``skeleton`` is ``body`` with ``texts`` taken out."""
    neutral = rules.neutral
    kept = {name: value for name, value in skeleton.items() if name not in neutral}
    _neutralise_blocks(kept)
    if rules.ignore_patterns:
        _blank_system(kept, rules.ignore_patterns)
    surroundings: list[Any] = [
        place.dialect,
        place.upstream,
        place.query,
        place.tenant,
        place.namespace,
        place.headers,
        _end_user(body) if rules.isolate_by_user else None,
        kept,
    ]
    scope = blake2b(jsontext.canonical(surroundings), digest_size=16, key=rules.secret, person=b"scope").digest()
    key = blake2b(scope + jsontext.canonical(texts), digest_size=16, key=rules.secret, person=b"key").digest()
    return Keys(scope, key)


def key_headers(headers: Mapping[str, str], rules: KeyRules) -> list[tuple[str, str]]:
    """The headers that an answer may depend on, in a fixed order."""
    return [(name, value) for name in rules.headers if name in headers for value in _lines(headers, name)]


def credential(headers: Mapping[str, str], query: str) -> str:
    """What the caller identifies itself with, all of it; empty for a caller without any."""
    parts = [value for name in CREDENTIAL_HEADERS if name in headers for value in _lines(headers, name)]
    if not parts and COOKIE in headers:
        parts = _lines(headers, COOKIE)  # some gateways know their callers by nothing else
    if "key=" in query:
        named = (part for part in query.removeprefix("?").split("&") if part.partition("=")[0] in CREDENTIAL_PARAMETERS)
        parts.extend(named)
    return "\n".join(parts)


def credential_name(base_url: str, credential: str, *, secret: bytes) -> str:
    """How a credential is called in the store, where it itself never is.

    The upstream counts by its URL: what one server accepted says nothing about another that has taken over its name.
    """
    return keyed_hash("credential", base_url, credential, secret=secret)


@lru_cache(maxsize=1024)
def keyed_hash(kind: str, *parts: str, secret: bytes) -> str:
    """A name for something secret, for instance a credential: 32 hexadecimal digits. The same few come all the time."""
    text = jsontext.dump(parts)
    return blake2b(text, digest_size=16, key=secret, person=kind.encode()[:16]).hexdigest()


def _lines(headers: Mapping[str, str], name: str) -> list[str]:
    """Every line of a header, of which there may be several; ``name`` is in lower case."""
    return [value for header, value in headers.items() if header.lower() == name]


def _end_user(body: JsonObject) -> list[Json]:
    metadata = body.get("metadata")
    return [
        body.get("user"),
        body.get("safety_identifier"),
        metadata.get("user_id") if isinstance(metadata, dict) else None,
    ]


def _neutralise_blocks(kept: JsonObject) -> None:
    """Drop what is neutral inside blocks, copying what changes.

    ``cache_control`` goes where the APIs define it (blocks of the system prompt, of messages and of tool results, and
    tools), not wherever the word occurs: a tool's schema may have a property of that name.
    """
    system = kept.get("system")
    if isinstance(system, list):
        kept["system"] = [_plain_block(block) for block in system if not _is_billing(block)]
    tools = kept.get("tools")
    if isinstance(tools, list):
        kept["tools"] = [_plain_block(tool) for tool in tools]
    messages = kept.get("messages")
    if isinstance(messages, list):
        kept["messages"] = [_plain_message(message) for message in messages]


def _plain_message(message: Json) -> Json:
    if not isinstance(message, dict):
        return message
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_plain_block(block) for block in content]}


def _plain_block(block: Json) -> Json:
    if not isinstance(block, dict):
        return block
    if "cache_control" in block:
        block = {name: value for name, value in block.items() if name != "cache_control"}
    return _plain_message(block) if block.get("type") == "tool_result" else block


def _is_billing(block: Json) -> bool:
    if not isinstance(block, dict):
        return False
    text = block.get("text")
    return isinstance(text, str) and BILLING_BLOCK.fullmatch(text) is not None


def _blank_system(kept: JsonObject, patterns: Sequence[re.Pattern[str]]) -> None:
    for name in ("system", "instructions"):
        if name in kept:
            kept[name] = _blank(kept[name], patterns)
    for name in ("messages", "input"):
        turns = kept.get(name)
        if isinstance(turns, list):
            kept[name] = [
                {**turn, "content": _blank(turn.get("content"), patterns)}
                if isinstance(turn, dict) and turn.get("role") in {"system", "developer"}
                else turn
                for turn in turns
            ]


def _blank(value: Json, patterns: Sequence[re.Pattern[str]]) -> Json:
    if isinstance(value, str):
        for pattern in patterns:
            value = pattern.sub(_IGNORED, value)
        return value
    if isinstance(value, list):
        return [
            {**block, "text": _blank(block["text"], patterns)} if isinstance(block, dict) and "text" in block else block
            for block in value
        ]
    return value
