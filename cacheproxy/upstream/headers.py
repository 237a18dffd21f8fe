"""Which headers pass the proxy, in both directions. Pure: pairs in, pairs out, order, spelling and duplicates kept.

Nothing is added that says who the caller is: no ``X-Forwarded-For``, ``Forwarded`` or ``Via``. The upstream sees what
it would see from the caller's own SDK, and the caller's address and network stay here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CONTROL_PREFIX: Final = "x-cacheproxy-"
"""Request controls and response notes of this proxy begin so, and concern this hop alone."""

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that concern one connection only (RFC 9110, section 7.6.1), in lower case."""

_REQUEST: Final = HOP_BY_HOP | {
    "host",  # follows from the upstream's URL
    "expect",  # our server has already answered it with 100 Continue
}
_CACHED_REQUEST: Final = _REQUEST | {"cache-control"}  # there it is an order to this cache, see the request controls
_RESPONSE: Final = HOP_BY_HOP | {"x-cache-status"}  # ours is set in its place
_PERSONAL: Final = frozenset(
    {"set-cookie", "openai-organization", "openai-project", "anthropic-organization-id", "anthropic-workspace-id"}
)
_CONTENT_LENGTH: Final = "content-length"
_NOTHING: Final[frozenset[str]] = frozenset()


def forwarded(
    headers: Iterable[tuple[str, str]],
    *,
    cacheable: bool,
    body_changed: bool = False,
    drop: frozenset[str] = _NOTHING,
) -> list[tuple[str, str]]:
    """The headers of a request as they go upstream.

    ``cacheable`` paths lose Cache-Control, which is meant for this cache, and ask for no content coding, so that
    answers can be read and stored; other paths keep both as they are. ``body_changed`` removes Content-Length.
    ``drop`` names further headers in lower case, for instance a credential that is replaced.
    """
    kept = _kept(list(headers), _CACHED_REQUEST if cacheable else _REQUEST, drop, body_changed=body_changed)
    return _asking_identity(kept) if cacheable else kept


def returned(
    headers: Iterable[tuple[str, str]], *, body_changed: bool = False, drop: frozenset[str] = _NOTHING
) -> list[tuple[str, str]]:
    """The headers of an upstream's answer as they go to the caller; parameters as in ``forwarded``."""
    return _kept(list(headers), _RESPONSE, drop, body_changed=body_changed)


def shared(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of an answer for a caller who shares it: without what concerns only the one whose request it was."""
    return _kept(list(headers), _PERSONAL, _NOTHING, body_changed=False)


def _kept(
    pairs: Sequence[tuple[str, str]], dropped: frozenset[str], more: frozenset[str], *, body_changed: bool
) -> list[tuple[str, str]]:
    names = [name.lower() for name, _ in pairs]
    if "connection" in names:
        values = [value for name, (_, value) in zip(names, pairs, strict=True) if name == "connection"]
        more = more | {token.strip().lower() for value in values for token in value.split(",")}
    return [
        pair
        for name, pair in zip(names, pairs, strict=True)
        if name not in dropped
        and name not in more
        and not name.startswith(CONTROL_PREFIX)
        and not (body_changed and name == _CONTENT_LENGTH)
    ]


def _asking_identity(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without Accept-Encoding any coding would be acceptable (RFC 9110, section 12.5.3), so it is always there."""
    asking = []
    asked = False
    for pair in pairs:
        if pair[0].lower() != "accept-encoding":
            asking.append(pair)
        elif not asked:
            asking.append((pair[0], "identity"))
            asked = True
    if not asked:
        asking.append(("Accept-Encoding", "identity"))
    return asking
