"""Replies: an entry told again in the caller's dialect, the headers that say what the cache did, and errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cacheproxy import jsontext
from cacheproxy.flow.messages import Whole
from cacheproxy.model import CacheStatus, Layer

if TYPE_CHECKING:
    from cacheproxy.errors import ProxyError
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.told import Hit, Miss
    from cacheproxy.jsontext import Json
    from cacheproxy.wire.dialect import Dialect, Fresh

JSON: Final = ("Content-Type", "application/json")
EVENTS: Final = ("Content-Type", "text/event-stream; charset=utf-8")
NO_BUFFERING: Final = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
_FORWARDED: Final = {
    CacheStatus.MISS: "miss",
    CacheStatus.BYPASS: "bypass",
    CacheStatus.REFRESH: "request",
}
"""RFC 9211, section 2.2: why a request went forward."""
_UNAUTHORIZED: Final = 401
_SHORT: Final = 4 * 1024
"""Bytes up to which an answer is kept parsed while it is among the latest told: some megabytes for all of them."""


@dataclass(frozen=True, slots=True)
class RenderRules:
    """``expose_headers`` False hides every header of ours; ``zero_usage`` shows hits as costing no tokens."""

    expose_headers: bool = True
    zero_usage: bool = False


def replay(asked: Asked, hit: Hit, *, fresh: Fresh, now: float, rules: RenderRules) -> Whole:
    """The entry as the caller's dialect and stream mode want it, with an id and a creation time of its own."""
    dialect, view = asked.dialect, asked.view
    answer = _parsed(hit.entry.answer)
    if not view.retained_upstream:
        answer = dialect.refresh(answer, fresh, zero_usage=rules.zero_usage)
    headers = [(dialect.request_id_header, asked.arrival.id)]
    if rules.expose_headers:
        headers += hit_headers(hit, now=now)
    if not view.stream:
        return Whole(200, [JSON, *headers], jsontext.dump(answer))
    body = b"".join(event.encode() for event in dialect.replay(answer, with_usage=view.asks_usage))
    return Whole(200, [EVENTS, *NO_BUFFERING, *headers], body)


def _parsed(answer: bytes) -> Json:
    """An entry's answer to be told, never to be changed: whoever asks for it again may get the same object."""
    return _parsed_once(answer) if len(answer) <= _SHORT else jsontext.parse(answer)


_parsed_once = lru_cache(maxsize=1024)(jsontext.parse)


def hit_headers(hit: Hit, *, now: float) -> list[tuple[str, str]]:
    """What is said of an answer from the cache."""
    entry = hit.entry
    ttl = "" if math.isinf(entry.expires_at) else f"; ttl={max(0, round(entry.expires_at - now))}"
    headers: list[tuple[str, str]] = [
        ("X-Cache-Status", CacheStatus.HIT),
        ("Age", str(max(0, round(now - entry.created_at)))),
        ("Cache-Status", f"cacheproxy; hit{ttl}; detail={hit.layer}"),
        ("X-CacheProxy-Layer", hit.layer),
        ("X-CacheProxy-Entry", entry.id),
        ("X-CacheProxy-Cost", "0"),
    ]
    if entry.cost_usd is not None:
        headers.append(("X-CacheProxy-Saved", usd(entry.cost_usd)))
    if hit.similarity is not None:
        headers.append(("X-CacheProxy-Similarity", f"{hit.similarity:.4f}"))
    return headers


def miss_headers(miss: Miss, *, cost_usd: float | None = None) -> list[tuple[str, str]]:
    """What is said of an answer from the upstream. ``cost_usd`` None: not known, as that of a stream that begins."""
    headers: list[tuple[str, str]] = [
        ("X-Cache-Status", miss.status),
        ("Cache-Status", f"cacheproxy; fwd={_FORWARDED[miss.status]}; detail={miss.reason}"),
        ("X-CacheProxy-Reason", miss.reason),
    ]
    if miss.similarity is not None:
        headers.append(("X-CacheProxy-Similarity", f"{miss.similarity:.4f}"))
    if cost_usd is not None:
        headers.append(("X-CacheProxy-Cost", usd(cost_usd)))
    return headers


def coalesced_headers() -> list[tuple[str, str]]:
    """What is said of an answer shared with an equal request in flight, before its end: the saving is not known yet."""
    return [
        ("X-Cache-Status", CacheStatus.HIT.value),
        ("Age", "0"),
        ("Cache-Status", f"cacheproxy; hit; detail={Layer.COALESCED}"),
        ("X-CacheProxy-Layer", Layer.COALESCED.value),
        ("X-CacheProxy-Cost", "0"),
    ]


def failure(dialect: Dialect, error: ProxyError, *, request_id: str = "") -> Whole:
    """An error of ours, in the caller's dialect."""
    headers = [JSON]
    if request_id:
        headers.append((dialect.request_id_header, request_id))
    if error.retry_after_s is not None:
        headers.append(("Retry-After", str(max(1, round(error.retry_after_s)))))
    if error.status == _UNAUTHORIZED:
        headers.append(("WWW-Authenticate", "Bearer"))  # a 401 has to say what is asked for (RFC 9110, 15.5.2)
    return Whole(error.status, headers, jsontext.dump(dialect.error(error.status, error.code, error.message)))


@lru_cache(maxsize=1024)
def usd(amount: float) -> str:
    """An amount of money without an exponent, at most ten decimals."""
    return f"{amount:.10f}".rstrip("0").rstrip(".")
