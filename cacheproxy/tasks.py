"""Background tasks with a name, an owner and an end.

A ``TaskSet`` is the only place that creates tasks. It keeps each one referenced until it ends, reports the exception
of a task that nobody awaits, and on leaving its ``async with`` block cancels and awaits what still runs.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

T = TypeVar("T")
log = logging.getLogger(__name__)


class TaskSet:
    """The tasks of one owner. Use as an async context manager; leaving it ends every task."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run ``work`` in the background under ``owner/name``; nobody waits for it."""
        _ = self.begin(work, name=name)

    def begin(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """The same, for work whose result is awaited or which may have to be cancelled."""
        task = asyncio.create_task(work, name=f"{self._owner}/{name}")  # noqa: TID251 - this is its one home
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task %s failed", task.get_name(), exc_info=error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def settle(self, timeout_s: float) -> None:
        """Wait until every task has ended by itself, but not longer than this."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def aclose(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
