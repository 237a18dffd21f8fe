"""Which upstream a path goes to.

``/v1/...`` goes to the default upstream, Anthropic's API to the one named ``anthropic``, ``/{name}/...`` to the
upstream of that name. Paths are matched and passed on byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import UnknownUpstream

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT: Final = "default"
ANTHROPIC: Final = "anthropic"
OWN: Final = "cacheproxy"
"""The first segment of our own paths, which never go upstream."""
_REMEMBERED: Final = 128
"""Callers ask for few paths, again and again."""


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream. ``base_url`` ends in its version, for instance ``/v1``, without a slash behind it."""

    name: str
    base_url: str
    inject: tuple[str, str] | None = None
    """A header with a credential of ours, which replaces the caller's own."""

    @property
    def root_url(self) -> str:
        """The base without its version."""
        return self.base_url.removesuffix("/v1")


@dataclass(frozen=True, slots=True)
class Route:
    """Where one request goes. ``path`` is the API's own path, for instance ``/v1/messages``; ``url`` has no query."""

    target: Target
    path: str
    url: str
    query: str


class Routes:
    """The table of upstreams; holds ``default`` and ``anthropic``."""

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self._targets = dict(targets)
        self._remembered = lru_cache(_REMEMBERED)(self._resolve)

    @property
    def targets(self) -> Mapping[str, Target]:
        """By name."""
        return self._targets

    def resolve(self, target: str, *, anthropic: bool) -> Route:
        """The route of a request target (path and query). ``anthropic``: the request has an anthropic-version header.

        Raises ``UnknownUpstream`` for ``/<unknown name>/v1/...``.
        """
        return self._remembered(target, anthropic)

    def _resolve(self, target: str, anthropic: bool) -> Route:  # noqa: FBT001 - a key of the memory
        path, mark, query = target.partition("?")
        query = mark + query
        first, _, rest = path[1:].partition("/")
        named = self._targets.get(first)
        if named is not None and first != DEFAULT:
            return _route(named, f"/{rest}", query)
        if first == OWN:
            raise UnknownUpstream(f"there is no {path!r} in this version of cacheproxy")
        if first != "v1" and (rest == "v1" or rest.startswith("v1/")):
            known = ", ".join(sorted(name for name in self._targets if name != DEFAULT))
            raise UnknownUpstream(f"no upstream is named {first!r}; configured are {known}")
        name = ANTHROPIC if anthropic or path.startswith("/v1/messages") else DEFAULT
        return _route(self._targets[name], path, query)


def _route(target: Target, path: str, query: str) -> Route:
    below = path.removeprefix("/v1")
    if below != path and (not below or below.startswith("/")):
        return Route(target, path, target.base_url + below, query)
    return Route(target, path, target.root_url + path, query)
