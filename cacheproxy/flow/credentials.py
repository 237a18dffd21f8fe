"""A credential reads the cache only while an upstream accepted it a short time ago, by its own request.

Whoever holds a revoked or made-up key gets nothing: its requests go to the upstream, which refuses them. Where both
keys are ours, the one that the caller showed and the one that goes upstream, there is nothing that an upstream could
say of the caller: it is vouched for.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy.core import scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cacheproxy.flow.messages import Incoming
    from cacheproxy.flow.routing import Route
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.ports import Store
    from cacheproxy.tasks import TaskSet

REMEMBERED: Final = 100_000
REFRESH_SHARE: Final = 0.1
"""A proof is written again once this share of its life has passed, so that busy callers cost few writes."""

VOUCHED: Final = ""
"""The name of whatever a caller shows that this proxy itself has let in."""


def name_of(incoming: Incoming, route: Route, credential: str, *, secret: bytes) -> str:
    """How the caller's credential is called where this request goes."""
    if incoming.caller is not None and route.target.inject is not None:
        return VOUCHED
    return scope.credential_name(route.target.base_url, credential, secret=secret)


class Proofs:
    """When each credential was last accepted, in memory and in the store. ``life_s`` zero: proofs are not needed."""

    def __init__(
        self, *, store: Store, reads: Shelter, writes: Shelter, tasks: TaskSet, life_s: float, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._reads = reads
        self._writes = writes
        self._tasks = tasks
        self._life_s = life_s
        self._now = now
        self._accepted: OrderedDict[str, float] = OrderedDict()

    async def proven(self, credential: str) -> bool:
        """Whether a credential may read the cache now."""
        if self._life_s == 0 or credential == VOUCHED:
            return True
        accepted = self._accepted.get(credential)
        if accepted is None:
            accepted = await self._reads.call("proven_at", partial(self._store.proven_at, credential))
            # Another request may have learnt more while this one waited.
            accepted = self._accepted.setdefault(credential, accepted or 0.0)
            self._trim()
        return self._now() - accepted < self._life_s

    def hear(self, learnt: Mapping[str, float]) -> None:
        """Take over when other processes saw credentials accepted; 0.0 for a refused one."""
        for credential, at in learnt.items():
            if credential in self._accepted:  # of others the store is asked
                self._accepted[credential] = at and max(at, self._accepted[credential])

    def accept(self, credential: str) -> None:
        """The upstream answered 2xx."""
        if credential == VOUCHED:
            return
        now = self._now()
        before = self._accepted.get(credential, 0.0)
        if now - before < self._life_s * REFRESH_SHARE:
            return
        self._accepted[credential] = now
        self._trim()
        self._write("prove", partial(self._store.prove, credential, now))

    def refuse(self, credential: str) -> None:
        """The upstream answered 401 or 403. Of a key of ours that says nothing about the caller."""
        if credential == VOUCHED or self._accepted.get(credential) == 0.0:
            return
        self._accepted[credential] = 0.0
        self._trim()
        self._write("revoke", partial(self._store.revoke, credential))

    def _write(self, operation: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.start(self._writes.call(operation, work), name=operation)

    def _trim(self) -> None:
        while len(self._accepted) > REMEMBERED:
            self._accepted.popitem(last=False)
