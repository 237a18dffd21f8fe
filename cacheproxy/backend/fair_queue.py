"""Who is next: a bounded queue that is fair between long and short asks. Pure.

Self-clocked fair queueing (Golestani, 1994), each ask a flow of its own: an ask may have to wait behind as much work as
it brings itself. A short one overtakes a long one that came a little earlier; a long one is overtaken by at most its
own length of others, so it never starves.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(order=True, slots=True)
class _Place(Generic[T]):
    tag: float
    number: int
    item: T = field(compare=False)
    gone: bool = field(default=False, compare=False)


class FairQueue(Generic[T]):
    """Items with their cost in tokens. ``limit`` is how many may wait."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[_Place[T]] = []
        self._places: dict[int, _Place[T]] = {}
        self._numbers = count()
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def full(self) -> bool:
        """Whether nothing more may wait."""
        return len(self._places) >= self._limit

    def push(self, item: T, cost: int) -> int:
        """Let an item wait; the number to withdraw it with. Raises ``OverflowError`` when the queue is full."""
        if self.full:
            raise OverflowError
        place = _Place(self._now + cost, next(self._numbers), item)
        heapq.heappush(self._heap, place)
        self._places[place.number] = place
        return place.number

    def withdraw(self, number: int) -> bool:
        """Take an item out wherever it stands; False when it is not waiting any more."""
        place = self._places.pop(number, None)
        if place is None:
            return False
        place.gone = True
        return True

    def pop(self) -> T | None:
        """The next item; None when nothing waits."""
        while self._heap:
            place = heapq.heappop(self._heap)
            if not place.gone:
                del self._places[place.number]
                self._now = max(self._now, place.tag)
                return place.item
        return None
