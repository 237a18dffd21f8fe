"""Misses go to the local server first, and to the upstream when that cannot: overloaded, down, or not entitled.

What the local server does not answer with a success, for whatever reason, the upstream is asked as if there were no
local one: so a request that it does not support costs a moment and changes nothing. A caller is only served locally
while the upstream has accepted its credential lately, unless anyone may be: the local server asks for none, and must
not be a way around that. The credential itself stays here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from cacheproxy.core.breaker import Breaker
from cacheproxy.flow.asked import plain_body
from cacheproxy.flow.routing import Route, Target
from cacheproxy.jsontext import dump
from cacheproxy.wire.splice import set_member

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.credentials import Proofs
    from cacheproxy.ports import CallWatch, Upstream

LOCAL: Final = "local"
"""The upstream's name in the ledger, in entries and in prices."""
RESTING: Final = "resting"
"""Why it is not even asked: it failed a moment ago."""
_SPOKEN: Final = frozenset({"openai-chat", "openai-completions", "anthropic-messages"})
_SERVER_ERRORS: Final = 500
_TOO_MANY: Final = 429
_COOLDOWN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class LocalRules:
    """Which requests the local server may answer. ``models`` are patterns of the names that callers ask for."""

    base_url: str
    models: tuple[str, ...] = ("*",)
    model: str = ""
    """What the local server calls its model; empty leaves the name as it was asked for."""
    anyone: bool = False
    key: str = ""


class LocalFirst:
    """Chooses what is tried locally. ``clock`` is monotonic, in seconds."""

    def __init__(
        self, rules: LocalRules, *, upstream: Upstream, proofs: Proofs, watch: CallWatch, clock: Callable[[], float]
    ) -> None:
        self.upstream = upstream
        self._watch = watch
        self._rules = rules
        self._proofs = proofs
        self._clock = clock
        # One failure is enough to leave it alone for a moment: the next request need not find out again.
        self._breaker = Breaker(threshold=1, first_cooldown_s=_COOLDOWN_S, cooldown_s=_COOLDOWN_S)
        self._target = Target(LOCAL, rules.base_url, ("Authorization", f"Bearer {rules.key or LOCAL}"))

    async def asked(self, asked: Asked) -> Asked | None:
        """The request as it goes to the local server; None when it is not for that."""
        rules = self._rules
        name = asked.view.model.lower()
        if asked.dialect.name not in _SPOKEN or not any(fnmatchcase(name, pattern.lower()) for pattern in rules.models):
            return None
        if not rules.anyone and not await self._proofs.proven(asked.credential):
            return None
        if not self._breaker.allows(self._clock()):
            self._watch.fell_back(RESTING)
            return None
        path = asked.route.path
        route = Route(self._target, path, self._target.base_url + path.removeprefix("/v1"), "")
        if not rules.model:
            return replace(asked, route=route)
        return replace(asked, route=route, raw=set_member(plain_body(asked), "model", dump(rules.model)), recoded=True)

    def note(self, status: int | None) -> None:
        """What came of it: an HTTP status, or None when the server could not be reached."""
        if status is None or status >= _SERVER_ERRORS or status == _TOO_MANY:
            self._breaker.failed(self._clock())
        else:
            self._breaker.succeeded()
