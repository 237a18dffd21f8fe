"""A data plane on a real socket, over a flow that a test writes itself."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from cacheproxy.address import Address
from cacheproxy.server.data_plane import DataPlane
from cacheproxy.server.listen import data_listener

ANYWHERE = Address("127.0.0.1", 0)


class Flow:
    """Answers as a test says, and keeps what came."""

    def __init__(self, answer):
        self._answer = answer
        self.incoming = []

    async def handle(self, incoming):
        self.incoming.append(incoming)
        return await self._answer(incoming)


@pytest.fixture
async def serve():
    """``serve(answer)``: the base URL and the flow of a data plane whose flow is ``answer(incoming)``."""
    async with AsyncExitStack() as stack:

        async def start(answer, *, ready=lambda: (True, {}), drain_s=0.5, body_s=30.0, door=None):
            flow = Flow(answer)
            plane = DataPlane(flow, ready, now=lambda: 1_700_000_000.0, body_s=body_s, door=door)
            address = await stack.enter_async_context(data_listener(plane, ANYWHERE, drain_s=drain_s))
            return f"http://{address}", flow

        yield start


@pytest.fixture
async def session():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), auto_decompress=False) as session:
        yield session


@pytest.fixture
def talk():
    """Sends bytes to a base URL, and gives everything that comes back until the server closes."""

    async def exchange(base, request):
        host, _, port = base.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request)
            return await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()

    return exchange
