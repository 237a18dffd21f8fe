"""The semantic layer in one request: embed the last user turn, find what is near it in its scope, decide.

Every failure on the way is a miss with its reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from cacheproxy.core.features import Key, Verified, verifier_number
from cacheproxy.core.freshness import staleness
from cacheproxy.core.guards import profile
from cacheproxy.core.policy import Forward, is_close
from cacheproxy.errors import Overloaded, ProxyError, TurnTooLong
from cacheproxy.model import IndexRow, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cacheproxy.core.policy import Decision, Found, Policy
    from cacheproxy.flow.arrival import Arrival
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.feedback import Withdrawn
    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.orphans import Orphans
    from cacheproxy.flow.pools import Pools
    from cacheproxy.flow.prompts import Prompts
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.model import CheckVerdict, Entry, Neighbor, Vector
    from cacheproxy.ports import Embedder, Store, VectorIndex, Verifier

NEIGHBORS: Final = 8
PLACING_S: Final = 10.0
"""How long an embedding may take that no caller waits for."""
log = logging.getLogger(__name__)

_known_profile: Final = lru_cache(maxsize=4096)(profile)
"""The same entries are candidates again and again, and reading a prompt takes most of a guard's time."""


@dataclass(slots=True)
class Finding:
    """What a fresh answer said of the candidate; None while nobody has asked, or could."""

    verdict: CheckVerdict | None = None
    arrival: Arrival | None = None
    """The request that was decided on; None where nobody remembers it."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What the semantic layer says of one request, and what it came to know on the way."""

    decision: Decision
    vector: Vector | None = None
    entry: Entry | None = None
    """What to serve."""
    audit: float | None = None
    """The chance with which this hit was chosen to be asked again; None when it was not chosen."""
    keys: Sequence[Key] = ()
    """What was near."""
    shadowed: bool = False
    """It would have been served, but for shadow mode."""
    finding: Finding = field(default_factory=Finding)
    """Filled in later, by whoever checks."""


class Recall:
    """Finds and decides; also puts new entries where they can be found. Without an embedder it always forwards.

    ``patient`` embeds what no request waits for. ``affords`` says whether asking the upstream for an entry's answer
    again is within the limit for audits.
    """

    def __init__(
        self,
        *,
        embedder: Embedder | None,
        patient: Embedder | None,
        verifier: Verifier | None,
        index: VectorIndex,
        store: Store,
        l1: L1,
        prompts: Prompts,
        orphans: Orphans,
        policy: Policy,
        pools: Pools,
        withdrawn: Withdrawn,
        affords: Callable[[Entry], bool],
        embedding: Shelter,
        verifying: Shelter,
        searching: Shelter,
        loading: Shelter,
        now: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._embedder = embedder
        self._patient = patient
        self._verifier = verifier if policy.keeps_budgets else None
        self._index = index
        self._store = store
        self._l1 = l1
        self._prompts = prompts
        self._orphans = orphans
        self._policy = policy
        self._pools = pools
        self._withdrawn = withdrawn
        self._affords = affords
        self._embedding = embedding
        self._verifying = verifying
        self._searching = searching
        self._loading = loading
        self._now = now
        self._draw = draw
        self._coming: Counter[bytes] = Counter()

    async def decide(self, asked: Asked) -> Recalled:
        """Whether a similar request's answer may be served."""
        if self._embedder is None:
            return Recalled(Forward(Reason.NO_EMBEDDER))
        scope = asked.keys.scope
        if not self._coming[scope] and await self._searching.call("is_empty", partial(self._index.is_empty, scope)):
            # Nothing to compare with: the upstream is asked at once, and the turn is embedded when its answer is here.
            return Recalled(Forward(Reason.NO_NEIGHBOR))
        vector = await self._embed(self._embedder, asked)
        if isinstance(vector, Reason):
            return Recalled(Forward(vector))
        with asked.arrival.trace.step("search"):
            near = await self._searching.call("nearest", partial(self._index.nearest, scope, vector, NEIGHBORS))
        if near is None:
            return Recalled(Forward(Reason.INDEX_UNAVAILABLE), vector)
        loaded: dict[str, Entry] = {}
        keys = await self._keys(near, asked, loaded)
        if keys is None:
            return Recalled(Forward(Reason.STORE_UNAVAILABLE), vector)
        if near and not keys:
            return Recalled(Forward(self._why_none(asked, near), near[0].similarity), vector)
        return await self._decided(asked, keys, vector, loaded)

    async def _decided(
        self, asked: Asked, keys: Sequence[Key], vector: Vector, loaded: Mapping[str, Entry]
    ) -> Recalled:
        pool = self._pools.of(asked)
        found = replace(pool.found(_known_profile(asked.prompt), keys), asked_budget=asked.controls.max_wrong)
        coin = self._draw()  # before deciding, so that what is audited is a fair sample of what is served
        draw = self._draw()
        decision = self._policy.decide(found, draw=draw)
        if self._verifier is not None and is_close(decision):
            decision = await self._verified(self._verifier, found, decision, draw)
        if decision.assessed is not None:
            pool.saw(decision.assessed.group.features)
        if isinstance(decision, Forward):
            return Recalled(decision, vector, keys=keys)
        similarity = decision.key.similarity
        if asked.eligibility.shadow:
            pool.shadowed += 1
            return Recalled(Forward(Reason.SHADOW, similarity, decision.assessed), vector, keys=keys, shadowed=True)
        entry = loaded.get(decision.key.entry_id) or await self._entry(decision.key.entry_id)
        if isinstance(entry, Reason):
            if entry is Reason.EXPIRED:
                self._orphans.doubt([decision.key.entry_id], asked.keys.scope)
            return Recalled(Forward(entry, similarity), vector, keys=keys)
        rate = self._pools.audit_rate(pool, decision, affordable=self._affords(entry))
        pool.hits += 1
        return Recalled(decision, vector, entry, audit=rate if coin < rate else None, keys=keys)

    async def _verified(self, verifier: Verifier, found: Found, close: Decision, draw: float) -> Decision:
        """The decision once the verifier has compared the candidate; a miss where it could not."""
        assert close.assessed is not None  # noqa: S101 - nothing else is close
        group = close.assessed.group
        stored = group.keys[0].profile.text
        score = await self._verifying.call("compare", partial(verifier.compare, found.asked.text, stored))
        if score is None:
            return Forward(Reason.UNVERIFIED, found.keys[0].similarity, close.assessed)
        verified = Verified(group.root, verifier_number(verifier.name), score)
        return self._policy.decide(replace(found, verified=verified), draw=draw)

    async def place(self, entry: Entry, vector: Vector | None, root: str) -> Vector | None:
        """Make an entry findable by similarity, embedding its prompt where that was not done yet.

        Returns its vector; None when it could not be placed, and so stays an exact entry.
        """
        if self._patient is None:
            return None
        try:
            if vector is None:
                async with asyncio.timeout(PLACING_S):
                    vector = await self._patient.embed(entry.prompt)
            await self._index.add(IndexRow(entry.id, entry.scope, vector, root, entry.expires_at))
        except (ProxyError, TimeoutError) as error:
            log.debug("entry %s stays exact: %s", entry.id, error)
            return None
        self._prompts.learn(entry)
        return vector

    def expect(self, scope: bytes) -> None:
        """An entry is on its way into a scope: it is not to be taken for empty."""
        self._coming[scope] += 1

    def arrived(self, scope: bytes) -> None:
        """It came, or will not."""
        self._coming[scope] -= 1
        if not self._coming[scope]:
            del self._coming[scope]

    def _why_none(self, asked: Asked, near: Sequence[Neighbor]) -> Reason:
        """Why nothing that is near may be considered."""
        key = asked.keys.key
        if any(self._withdrawn.holds(each.entry_id) or self._withdrawn.parts(key, each.root) for each in near):
            return Reason.SUSPENDED
        return Reason.EXPIRED if asked.controls.max_age_s is None else Reason.TOO_OLD

    async def _embed(self, embedder: Embedder, asked: Asked) -> Vector | Reason:
        work = partial(embedder.embed, asked.prompt)
        try:
            with asked.arrival.trace.step("embed"):
                vector = await self._embedding.call("embed", work, passing=(TurnTooLong, Overloaded))
        except TurnTooLong:
            return Reason.TURN_TOO_LONG
        except Overloaded:
            vector = None
        return Reason.EMBEDDER_UNAVAILABLE if vector is None else vector

    async def _keys(self, near: Sequence[Neighbor], asked: Asked, loaded: dict[str, Entry]) -> Sequence[Key] | None:
        """The neighbours that may be considered; None when the store did not answer.

        What had to be loaded for it is added to ``loaded``: one round trip to the store is enough.
        """
        prompts = await self._prompts.of([neighbor.entry_id for neighbor in near], loaded)
        if prompts is None:
            return None
        if gone := [neighbor.entry_id for neighbor in near if neighbor.entry_id not in prompts]:
            self._orphans.doubt(gone, asked.keys.scope)
        now, max_age_s = self._now(), asked.controls.max_age_s
        return [
            Key(neighbor.entry_id, neighbor.root, neighbor.similarity, _known_profile(prompt.text))
            for neighbor in near
            if (prompt := prompts.get(neighbor.entry_id)) is not None
            and staleness(prompt, now=now, max_age_s=max_age_s) is None
            and not self._withdrawn.holds(neighbor.entry_id)
            and not self._withdrawn.parts(asked.keys.key, neighbor.root)
        ]

    async def _entry(self, entry_id: str) -> Entry | Reason:
        entry = self._l1.get(entry_id)
        if entry is not None:
            return entry
        loaded = await self._loading.call("load", partial(self._store.load, [entry_id]))
        if loaded is None:
            return Reason.STORE_UNAVAILABLE
        return loaded[0] if loaded else Reason.EXPIRED
