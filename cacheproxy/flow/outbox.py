"""What waits to be written, in batches that are written again when a write failed.

A write that failed, or was not waited for any longer, may have arrived all the same. So a batch keeps its number and
what is in it until a write of it has worked, and whoever writes does nothing for a number that it has seen. One batch
is made at a time: what comes meanwhile waits for the next one, in the order in which it came.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T", bound=Sized)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """What is written at once. Numbers grow within an outbox."""

    number: int
    content: T


class Outbox(Generic[T]):
    """Collects into ``waiting``, which ``empty`` makes."""

    def __init__(self, empty: Callable[[], T]) -> None:
        self._empty = empty
        self.waiting = empty()
        self._batch: Batch[T] | None = None
        self._batches = 0

    def __len__(self) -> int:
        """How much is not known to be written."""
        return len(self.waiting) + (len(self._batch.content) if self._batch is not None else 0)

    async def send(self, write: Callable[[Batch[T]], Awaitable[bool]]) -> None:
        """Write all that waits, until ``write`` says that it failed. Two at once may write a batch twice."""
        while (batch := self._next()) is not None:
            if not await write(batch):
                return
            if self._batch is batch:
                self._batch = None

    def clear(self) -> None:
        """Forget what waits."""
        self.waiting = self._empty()
        self._batch = None

    def _next(self) -> Batch[T] | None:
        if self._batch is None and len(self.waiting):
            self._batches += 1
            self._batch = Batch(self._batches, self.waiting)
            self.waiting = self._empty()
        return self._batch
