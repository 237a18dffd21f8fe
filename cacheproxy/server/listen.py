"""Opening and closing the two listeners. On closing, requests under way get time to finish."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.server.connection import CallersServer, OperatorsRunner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from pathlib import Path
    from types import TracebackType

    from cacheproxy.server.data_plane import DataPlane

_BACKLOG: Final = 1024
_ACCEPTED_AT_ONCE: Final = 16
"""uvloop accepts one connection from a socket in each turn of its loop, and a turn takes long while many are served: of
256 callers that came at once the last one waited two seconds. So each socket is listened at so many times."""
_OPERATORS_S: Final = 1.0
_LOOK_S: Final = 0.05


@asynccontextmanager
async def data_listener(plane: DataPlane, address: Address, *, drain_s: float) -> AsyncIterator[Address]:
    """Serve callers; yields the address that was bound."""
    async with _listening(web.ServerRunner(CallersServer(plane), shutdown_timeout=drain_s), address) as bound:
        yield bound


class Slots:
    """A share of listening sockets that outlive the server: it may take some up and leave them again.

    Whoever connects waits in a socket's queue until some server takes it up, so nobody is turned away in between.
    """

    def __init__(self, runner: web.BaseRunner, sockets: Sequence[int]) -> None:
        self._runner = runner
        self._sockets = sockets
        self._taken: dict[int, list[web.SockSite]] = {}

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.take(())
        await self._runner.cleanup()

    async def take(self, slots: Collection[int]) -> None:
        """Accept from these sockets, by their places, and from no others."""
        for slot in slots:
            if slot not in self._taken:
                self._taken[slot] = []
                for _ in range(_ACCEPTED_AT_ONCE):
                    # A copy: it is closed with the site, and the socket itself stays.
                    copy = socket.socket(fileno=os.dup(self._sockets[slot]))
                    site = web.SockSite(self._runner, copy, backlog=_BACKLOG)
                    await site.start()
                    self._taken[slot].append(site)
        for slot in self._taken.keys() - set(slots):
            for site in self._taken.pop(slot):
                await site.stop()

    async def take_all(self) -> None:
        """Accept from every one."""
        await self.take(range(len(self._sockets)))


class CallersSlots(Slots):
    """Those of the data plane."""

    def __init__(self, plane: DataPlane, sockets: Sequence[int], *, drain_s: float) -> None:
        self._plane = plane
        self._drain_s = self._left_s = drain_s
        self._hurried = False
        self._server = CallersServer(plane)
        super().__init__(web.ServerRunner(self._server, shutdown_timeout=0.0), sockets)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.take(())
        self._server.pre_shutdown()
        await self._server.shutdown(self._left_s)
        await super().__aexit__(kind, error, trace)

    async def retire(self) -> None:
        """Accept no more, and wait until every connection has had its last answer, which says so, and is closed.

        A caller may be sending its next request at the moment, so nothing is closed under it before ``drain_s``, or
        until there is a ``hurry``.
        """
        await self.take(())
        self._plane.closing = True
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_s
        while self._server.connections and not self._hurried and loop.time() < until:  # noqa: ASYNC110 - aiohttp sets no event for it
            await asyncio.sleep(_LOOK_S)
        self._left_s = max(0.0, until - loop.time())

    def hurry(self) -> None:
        """Wait for answers under way alone: whoever asks next would find nobody anyway."""
        self._hurried = True


def operators_slots(app: web.Application, sockets: Sequence[int]) -> Slots:
    """Those of the admin plane."""
    return Slots(OperatorsRunner(app, shutdown_timeout=_OPERATORS_S), sockets)


@asynccontextmanager
async def admin_socket(app: web.Application, path: Path) -> AsyncIterator[None]:
    """Serve the supervisor alone, on a unix socket in a folder of its own."""
    runner = OperatorsRunner(app, shutdown_timeout=_OPERATORS_S)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def admin_listener(app: web.Application, address: Address) -> AsyncIterator[Address]:
    """Serve operators; yields the address that was bound."""
    async with _listening(OperatorsRunner(app, shutdown_timeout=_OPERATORS_S), address) as bound:
        yield bound


@asynccontextmanager
async def _listening(runner: web.BaseRunner, address: Address) -> AsyncIterator[Address]:
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host, address.port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise address.taken(error) from error
        yield Address(address.host, runner.addresses[0][1])
    finally:
        await runner.cleanup()
