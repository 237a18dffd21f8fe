"""The semantic layer in one request: embed the last user turn, find what is near it in its scope, decide.

Every failure on the way is a miss with its reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy.core.freshness import staleness
from cacheproxy.core.policy import Forward, Serve
from cacheproxy.errors import Overloaded, ProxyError, TurnTooLong
from cacheproxy.model import Candidate, IndexRow, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cacheproxy.core.policy import Decision, Policy
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.model import Entry, Neighbor, Vector
    from cacheproxy.ports import Embedder, Store, VectorIndex

NEIGHBORS: Final = 8
PLACING_S: Final = 10.0
"""How long an embedding may take that no caller waits for."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recalled:
    """What the semantic layer says, and the vector that it computed on the way, if any."""

    decision: Decision
    vector: Vector | None = None


class Recall:
    """Finds and decides; also puts new entries where they can be found. Without an embedder it always forwards."""

    def __init__(
        self,
        *,
        embedder: Embedder | None,
        index: VectorIndex,
        store: Store,
        l1: L1,
        policy: Policy,
        embedding: Shelter,
        searching: Shelter,
        loading: Shelter,
        now: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._embedder = embedder
        self._index = index
        self._store = store
        self._l1 = l1
        self._policy = policy
        self._embedding = embedding
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
        vector = await self._embed(self._embedder, asked.prompt)
        if isinstance(vector, Reason):
            return Recalled(Forward(vector))
        found = await self._searching.call("nearest", partial(self._index.nearest, scope, vector, NEIGHBORS))
        if found is None:
            return Recalled(Forward(Reason.INDEX_UNAVAILABLE), vector)
        candidates = await self._candidates(found, asked)
        if candidates is None:
            return Recalled(Forward(Reason.STORE_UNAVAILABLE), vector)
        decision = self._policy.decide(asked.prompt, candidates, draw=self._draw())
        if isinstance(decision, Forward) and decision.nearest is None and found:
            decision = Forward(self._why_none(asked, found[0]), found[0].similarity)
        if isinstance(decision, Serve) and asked.eligibility.shadow:
            decision = Forward(Reason.SHADOW, decision.chosen.similarity)
        return Recalled(decision, vector)

    async def place(self, entry: Entry, vector: Vector | None) -> Vector | None:
        """Make an entry findable by similarity, embedding its prompt where that was not done yet.

        Returns its vector; None when it could not be placed, and so stays an exact entry.
        """
        if self._embedder is None:
            return None
        self._coming[entry.scope] += 1
        try:
            if vector is None:
                async with asyncio.timeout(PLACING_S):
                    vector = await self._embedder.embed(entry.prompt)
            await self._index.add(IndexRow(entry.id, entry.scope, vector))
        except (ProxyError, TimeoutError) as error:
            log.debug("entry %s stays exact: %s", entry.id, error)
            return None
        finally:
            self._coming[entry.scope] -= 1
            if not self._coming[entry.scope]:
                del self._coming[entry.scope]
        return vector

    def _why_none(self, asked: Asked, nearest: Neighbor) -> Reason:
        """Why no neighbour could be loaded for the policy to decide on."""
        if nearest.similarity < self._policy.floor:
            return Reason.BELOW_THRESHOLD
        return Reason.EXPIRED if asked.controls.max_age_s is None else Reason.TOO_OLD

    async def _embed(self, embedder: Embedder, prompt: str) -> Vector | Reason:
        try:
            vector = await self._embedding.call(
                "embed", partial(embedder.embed, prompt), passing=(TurnTooLong, Overloaded)
            )
        except TurnTooLong:
            return Reason.TURN_TOO_LONG
        except Overloaded:
            vector = None
        return Reason.EMBEDDER_UNAVAILABLE if vector is None else vector

    async def _candidates(self, found: Sequence[Neighbor], asked: Asked) -> Sequence[Candidate] | None:
        """The neighbours that could be served, loaded; None when the store did not answer."""
        similarity = {near.entry_id: near.similarity for near in found if near.similarity >= self._policy.floor}
        here = {entry_id: entry for entry_id in similarity if (entry := self._l1.get(entry_id)) is not None}
        missing = [entry_id for entry_id in similarity if entry_id not in here]
        if missing:
            loaded = await self._loading.call("load", partial(self._store.load, missing))
            if loaded is None:
                return None
            here.update((entry.id, entry) for entry in loaded)
        now = self._now()
        return [
            Candidate(entry, similarity[entry_id])
            for entry_id in similarity
            if (entry := here.get(entry_id)) is not None
            and staleness(entry, now=now, max_age_s=asked.controls.max_age_s) is None
        ]
