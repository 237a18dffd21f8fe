"""What a caller asks of the cache for one request: headers, and LiteLLM's ``cache`` object in the body.

A caller may only tighten what the operator set, never loosen it; ``core.eligibility`` holds the two together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.errors import BadRequest
from cacheproxy.model import Mode

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL_HEADERS: Final = tuple(f"x-cacheproxy-{name}" for name in ("mode", "ttl", "namespace", "max-wrong", "tags"))
MAX_TAGS: Final = 32
MAX_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class Controls:
    """The wishes of one request. The default wishes for nothing."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: float | None = None
    ttl_s: float | None = None
    mode: Mode | None = None
    namespace: str = ""
    tags: tuple[str, ...] = ()
    max_wrong: float | None = None


NO_CONTROLS: Final = Controls()


def from_headers(headers: Mapping[str, str]) -> Controls:
    """Read the control headers (names in any case). Raises ``BadRequest`` for a value that cannot be meant."""
    asked = NO_CONTROLS
    if "Cache-Control" in headers:  # it may stand on several lines
        asked = _cache_control(",".join(value for name, value in headers.items() if name.lower() == "cache-control"))
    if (mode := headers.get("X-CacheProxy-Mode")) is not None:
        asked = replace(asked, mode=_mode(mode))
    if (ttl := headers.get("X-CacheProxy-TTL")) is not None:
        asked = replace(asked, ttl_s=_seconds("X-CacheProxy-TTL", ttl))
    if (namespace := headers.get("X-CacheProxy-Namespace")) is not None:
        asked = replace(asked, namespace=_name("X-CacheProxy-Namespace", namespace))
    if (max_wrong := headers.get("X-CacheProxy-Max-Wrong")) is not None:
        asked = replace(asked, max_wrong=_share("X-CacheProxy-Max-Wrong", max_wrong))
    if (tags := headers.get("X-CacheProxy-Tags")) is not None:
        asked = replace(asked, tags=_tags(tags))
    return asked


def from_body(asked: Controls, cache: Mapping[str, Any]) -> Controls:
    """Add LiteLLM's ``"cache": {...}`` to what the headers asked; where both speak, the tighter wish counts."""
    ttl_s = _body_seconds(cache, "ttl")
    max_age_s = _body_seconds(cache, "s-maxage")
    namespace = cache.get("namespace")
    if namespace is not None and not isinstance(namespace, str):
        raise BadRequest("cache.namespace must be a string")
    return replace(
        asked,
        no_cache=asked.no_cache or _body_flag(cache, "no-cache"),
        no_store=asked.no_store or _body_flag(cache, "no-store"),
        ttl_s=tighter(asked.ttl_s, ttl_s),
        max_age_s=tighter(asked.max_age_s, max_age_s),
        namespace=asked.namespace or _name("cache.namespace", namespace or ""),
    )


def tighter(one: float | None, other: float | None) -> float | None:
    """The smaller of two limits, where None is no limit and zero is one."""
    if one is None:
        return other
    return one if other is None else min(one, other)


def _cache_control(value: str) -> Controls:
    asked = NO_CONTROLS
    for directive in value.split(","):
        name, _, argument = directive.strip().partition("=")
        match name.lower():
            case "no-cache":
                asked = replace(asked, no_cache=True)
            case "no-store":
                asked = replace(asked, no_store=True)
            case "only-if-cached":
                asked = replace(asked, only_if_cached=True)
            case "max-age":
                asked = replace(asked, max_age_s=_seconds("Cache-Control: max-age", argument.strip('"')))
            case _:
                pass  # RFC 9111, section 5.2.3: a cache ignores directives that it does not know
    return asked


def _mode(value: str) -> Mode:
    try:
        return Mode(value.strip().lower())
    except ValueError:
        raise BadRequest(f"X-CacheProxy-Mode must be one of {', '.join(Mode)}") from None


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise BadRequest(f"{name} must be a number, zero or more")
    return number


def _seconds(name: str, value: str) -> float:
    return _number(name, value)


def _share(name: str, value: str) -> float:
    share = _number(name, value)
    if share > 1:
        raise BadRequest(f"{name} must be between 0 and 1")
    return share


def _name(name: str, value: str) -> str:
    value = value.strip()
    if len(value) > MAX_NAME or not value.isprintable():
        raise BadRequest(f"{name} must be printable and at most {MAX_NAME} characters")
    return value


def _tags(value: str) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(_name("X-CacheProxy-Tags", tag) for tag in value.split(",") if tag.strip()))
    if len(tags) > MAX_TAGS:
        raise BadRequest(f"X-CacheProxy-Tags may hold at most {MAX_TAGS} tags")
    return tags


def _body_seconds(cache: Mapping[str, Any], name: str) -> float | None:
    value = cache.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"cache.{name} must be a number of seconds")
    return _number(f"cache.{name}", str(value))


def _body_flag(cache: Mapping[str, Any], name: str) -> bool:
    value = cache.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"cache.{name} must be true or false")
    return value
