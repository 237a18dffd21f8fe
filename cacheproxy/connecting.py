"""Reaches the store that the settings name: at the start, or as soon as it is there.

A Redis that is away must not keep callers from their upstreams. What is wrong and stays wrong, a password or a name,
ends the start; where that turns up only later, it is told in the log and tried again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from cacheproxy.behind import stand_over, stand_without
from cacheproxy.errors import PortUnavailable, ProxyError
from cacheproxy.opening import open_kept
from cacheproxy.server.api.calls import handing_on
from cacheproxy.server.data_plane import DataPlane
from cacheproxy.store.away import AwaitedLedger
from cacheproxy.tasks import TaskSet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from cacheproxy.behind import Behind, Lasting
    from cacheproxy.opening import Kept
    from cacheproxy.server.api.calls import Handler
    from cacheproxy.settings import Settings

AGAIN_S: Final = 1.0
log = logging.getLogger(__name__)


class Connecting:
    """A store, and what stands over it. As an async context manager it tries once to reach the store.

    Raises ``ConfigError``. The store is closed when the block is left, after all that needs it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keeping = AsyncExitStack()
        self._kept: Kept | None = None
        self._why_away = ""
        self._ledger = AwaitedLedger()
        self._behind: Behind | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except PortUnavailable as error:
            self._wait_for_it(error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._keeping.aclose()

    @asynccontextmanager
    async def standing(self, lasting: Lasting) -> AsyncIterator[DataPlane]:
        """What callers' requests are handed to, whatever stands behind it. Raises ``ConfigError``."""
        async with AsyncExitStack() as over, TaskSet("store") as tasks:
            if not self._why_away:
                try:
                    self._behind = await self._stand(lasting, over)
                except PortUnavailable as error:
                    self._wait_for_it(error)
            behind = self._behind or stand_without(self._ledger, lasting, why=self._why_away)
            self._behind = behind
            body_s = self._settings.deadlines.body_s
            plane = DataPlane(behind.proxy, lasting.ready, now=lasting.world.now, body_s=body_s, door=behind.door)
            if self._why_away:
                tasks.start(self._connect(lasting, over, plane), name="connect")
            try:
                yield plane
            finally:
                self._behind = None  # aiohttp's caches keep handlers for a while, and they need keep nothing else

    def state(self) -> Mapping[str, object]:
        """What ``/readyz`` tells."""
        return {} if self._behind is None else self._behind.state()

    def handlers(self) -> Mapping[str, Handler]:
        """The admin API's handlers, by operation, of what stands there when they are called."""
        return handing_on(lambda: {} if self._behind is None else self._behind.handlers)

    async def _open(self) -> Kept:
        if self._kept is None:
            self._kept = await self._keeping.enter_async_context(open_kept(self._settings))
        return self._kept

    async def _stand(self, lasting: Lasting, over: AsyncExitStack) -> Behind:
        kept = await self._open()
        async with AsyncExitStack() as built:
            behind = await stand_over(kept, lasting, built)
            over.push_async_exit(built.pop_all())
        return behind

    def _wait_for_it(self, error: PortUnavailable) -> None:
        if self._settings.redis_url is None:
            raise error
        self._why_away = error.message
        log.warning("requests are forwarded past the cache until the store can be reached: %s", error)

    async def _connect(self, lasting: Lasting, over: AsyncExitStack, plane: DataPlane) -> None:
        """Try until the store is there, and have everything stand over it from then on."""
        behind = None
        while behind is None:
            await asyncio.sleep(AGAIN_S)
            try:
                behind = await self._stand(lasting, over)
            except ProxyError as error:
                self._still_away(error.message)
            except Exception as error:
                if self._still_away(str(error)):
                    log.exception("nothing can be put together over the store")
        plane.proxy, plane.door, self._behind = behind.proxy, behind.door, behind
        gc.freeze()  # as at the start, without the pause that collecting first would be
        log.warning("the store has been reached: the cache is in use")
        await self._ledger.adopt((await self._open()).ledger)

    def _still_away(self, why: str) -> bool:
        """Whether that is news."""
        if why == self._why_away:
            return False
        self._why_away = why
        if self._behind is not None:
            self._behind = replace(self._behind, away=why)
        log.warning("the store cannot be used yet: %s", why)
        return True
