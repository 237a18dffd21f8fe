"""How often the judge errs, as all processes of a store have measured it: pairs of answers that should say the same.

They are kept as labels are, under a name that no pool can have, and so they outlive a restart, reach other processes
and age. What another judge made of its pairs says nothing of this one.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy.core.features import FEATURE_NAMES, Features
from cacheproxy.core.judge_noise import PAIRS, PAIRS_WANTED, Noise
from cacheproxy.core.labels import LABELS_LIVE_S, Label, Source
from cacheproxy.flow.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheproxy.flow.outbox import Batch
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.ports import Labels

_NO_FEATURES: Final = Features(*(0.0 for _ in FEATURE_NAMES))


class JudgedPairs:
    """The pairs of one judge."""

    def __init__(self, *, labels: Labels, writes: Shelter, judge: str, now: Callable[[], float]) -> None:
        self._labels = labels
        self._writes = writes
        self._judge = judge
        self._now = now
        self._known: deque[Label] = deque()
        self._unwritten: Outbox[list[Label]] = Outbox(list)

    @property
    def noise(self) -> Noise:
        """What they say of the judge."""
        since = self._now() - LABELS_LIVE_S
        while self._known and self._known[0].at < since:
            self._known.popleft()
        return Noise.of([pair.right for pair in self._known])

    def hear(self, pair: Label) -> None:
        """One that was measured before, or by another process."""
        if pair.root == self._judge and pair not in self._known:
            self._known.append(pair)

    def measured(self, *, agreed: bool) -> None:
        """The judge saw one more pair."""
        pair = Label(self._now(), self._judge, _NO_FEATURES, right=agreed, source=Source.PAIR)
        self._known.append(pair)
        if len(self._unwritten) < PAIRS_WANTED:
            self._unwritten.waiting.append(pair)

    async def flush(self) -> None:
        """Write those that are not written yet."""
        await self._unwritten.send(self._write)

    async def _write(self, batch: Batch[list[Label]]) -> bool:
        add = partial(self._labels.add, PAIRS, batch.content, batch=batch.number)
        return await self._writes.call("pairs", add) is not None
