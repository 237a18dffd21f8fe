"""One process that serves by itself. For other settings it opens another proxy beside the one that serves.

Both listen on the same sockets, which are this module's: once the new one is ready it takes them over, and the old one
answers what is under way and is closed. A new one that cannot be opened changes nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from cacheproxy.errors import ConfigError, translating
from cacheproxy.tasks import TaskSet
from cacheproxy.wiring import Running, Seat, open_proxy, settle_memory
from cacheproxy.workers import sockets
from cacheproxy.workers.serving import MARGIN_S, Serving, attend, refuse_change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cacheproxy.server.listen import CallersSlots, Slots
    from cacheproxy.settings import Settings
    from cacheproxy.workers.serving import Operator


def serve_alone(settings: Settings, operator: Operator) -> None:
    """Serve until SIGINT or SIGTERM, then let requests under way finish. Raises ``ProxyError``."""
    uvloop.run(attend(open_alone(settings), operator))


@asynccontextmanager
async def open_alone(settings: Settings) -> AsyncIterator[Alone]:
    """A process that can serve. Leaving the block ends what serves. Raises ``ConfigError``."""
    async with AsyncExitStack() as stack:
        admin, admin_sockets = sockets.bind_alone(settings.admin_listen)
        stack.callback(sockets.close, admin_sockets)
        data, data_sockets = sockets.bind_alone(settings.listen)
        stack.callback(sockets.close, data_sockets)
        tasks = await stack.enter_async_context(TaskSet("alone"))
        seat = Seat(data, [one.fileno() for one in data_sockets], admin, [one.fileno() for one in admin_sockets])
        alone = Alone(settings, seat, tasks)
        stack.push_async_callback(alone.aclose)
        yield alone


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A proxy, and how it is closed."""

    running: Running
    stack: AsyncExitStack

    async def retire(self) -> None:
        """Accept no more, answer what is under way, and close."""
        callers, operators = _slots(self.running)
        await operators.take(())
        await callers.retire()
        await self.stack.aclose()

    def hurry(self) -> None:
        """Have ``retire`` wait for nobody who asks nothing."""
        _slots(self.running)[0].hurry()


def _slots(running: Running) -> tuple[CallersSlots, Slots]:
    assert running.slots is not None  # noqa: S101 - it has a seat
    assert running.operators is not None  # noqa: S101 - likewise
    return running.slots, running.operators


class Alone:
    """The process, whose sockets are in ``seat``."""

    def __init__(self, settings: Settings, seat: Seat, tasks: TaskSet) -> None:
        self._settings = settings
        self._seat = seat
        self._tasks = tasks
        self._serving: _Open | None = None
        self._retiring: set[_Open] = set()
        self._replacing = asyncio.Lock()

    async def start(self) -> Serving:
        """Serve. Raises ``ProxyError``."""
        self._serving = await self._open(self._settings)
        running = self._serving.running
        return Serving(
            running.data,
            running.admin,
            running.upstream_url,
            running.store,
            running.model,
            running.no_model,
            running.settings,
        )

    async def _open(self, settings: Settings) -> _Open:
        """A proxy that accepts from the sockets, or none at all. Raises ``ProxyError``."""
        async with AsyncExitStack() as stack:
            running = await stack.enter_async_context(open_proxy(settings, self._seat))
            with translating({OSError: ConfigError}, "the sockets cannot be taken up"):
                for slots in _slots(running):
                    await slots.take_all()
            return _Open(running, stack.pop_all())

    async def replace_all(self, settings: Settings) -> None:
        """Serve by other settings. Raises ``ProxyError``; then everything is as it was."""
        refuse_change(self._settings, settings, ("listen", "admin_listen", "workers"))
        async with self._replacing:
            start_s = settings.deadlines.start_s
            try:
                async with asyncio.timeout(start_s):
                    fresh = await self._open(settings)
            except TimeoutError as error:
                raise ConfigError(f"the new proxy was not ready within {start_s:g} s (deadlines.start_s)") from error
            old, self._serving, self._settings = self._serving, fresh, settings
            if old is not None:
                self._retiring.add(old)
                self._tasks.start(self._retire(old), name="retire")

    async def _retire(self, old: _Open) -> None:
        try:
            await old.retire()
        finally:
            self._retiring.discard(old)
        settle_memory()

    async def stop(self, *, at_once: bool) -> None:
        """Take no more requests, after time for load balancers to see it unless it is to be ``at_once``."""
        if self._serving is not None:
            self._serving.running.leave()
            await asyncio.sleep(0 if at_once else self._settings.deadlines.unready_s)

    async def aclose(self) -> None:
        """Let requests under way finish, also those of proxies that were replaced, and close."""
        for old in self._retiring:
            old.hurry()
        if self._serving is not None:
            await self._serving.stack.aclose()
        await self._tasks.settle(self._settings.deadlines.drain_s + MARGIN_S)
