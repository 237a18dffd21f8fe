"""Opening and closing the two listeners. On closing, requests under way get time to finish."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.server.connection import CallersServer, OperatorsRunner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cacheproxy.server.data_plane import DataPlane

_BACKLOG: Final = 1024


@asynccontextmanager
async def data_listener(plane: DataPlane, address: Address, *, drain_s: float) -> AsyncIterator[Address]:
    """Serve callers; yields the address that was bound."""
    async with _listening(web.ServerRunner(CallersServer(plane), shutdown_timeout=drain_s), address) as bound:
        yield bound


@asynccontextmanager
async def admin_listener(app: web.Application, address: Address) -> AsyncIterator[Address]:
    """Serve operators; yields the address that was bound."""
    async with _listening(OperatorsRunner(app, shutdown_timeout=1.0), address) as bound:
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
