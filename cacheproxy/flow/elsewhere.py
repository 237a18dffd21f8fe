"""What other processes of one store learnt, taken over: verdicts, withdrawn answers, proofs of credentials.

Entries that came and went are followed by ``upkeep``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cacheproxy.flow.credentials import Proofs
    from cacheproxy.flow.feedback import Feedback
    from cacheproxy.flow.pools import Pools
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.ports import Labels, Store


class Elsewhere:
    """Asks what is new, and tells it to whom it concerns."""

    def __init__(
        self, *, labels: Labels, store: Store, pools: Pools, feedback: Feedback, proofs: Proofs, shelter: Shelter
    ) -> None:
        self._labels = labels
        self._store = store
        self._pools = pools
        self._feedback = feedback
        self._proofs = proofs
        self._shelter = shelter
        self._marks_changed = False

    async def follow(self) -> None:
        """Take over what is new, and tell what could not be told. What fails is taken over, and told, the next time."""
        await self._feedback.tell()
        news = await self._shelter.call("news", self._labels.news)
        if news is not None:
            self._pools.hear(news)
            self._marks_changed = self._marks_changed or news.marks
        if self._marks_changed:
            self._marks_changed = not await self._shelter.call("marks", self._feedback.follow)
        learnt = await self._shelter.call("proofs", self._store.proofs)
        if learnt:
            self._proofs.hear(learnt)
