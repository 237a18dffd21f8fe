"""Upstreams on real sockets that say exactly what a test wants, and callers of ``HttpUpstream``."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

from cacheproxy.ports import UpstreamRequest
from cacheproxy.upstream.http import Deadlines

SHORT = Deadlines(connect_s=0.5, first_byte_s=0.05, between_bytes_s=0.05)
"""For what must time out."""
LENIENT = Deadlines(first_byte_s=30, between_bytes_s=0.3)
"""For what must not, on a busy machine either."""


@asynccontextmanager
async def raw_server(talk):
    """A TCP server that does what ``talk(reader, writer)`` does; gives its base URL."""

    async def handle(reader, writer):
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def answering(data: bytes, *, then=None):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        if then is not None:
            await then(reader, writer)

    return talk


async def forever(reader, _writer):
    await reader.read()  # until the other side closes


async def abort(_reader, writer):
    writer.transport.abort()


@asynccontextmanager
async def http_server(handler):
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{tail:.*}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def read(upstream, request):
    async with upstream.send(request) as response:
        return response, b"".join([chunk async for chunk in response.chunks()])


def get(url, headers=()):
    return UpstreamRequest("GET", url, list(headers))


def post(url, body, headers=()):
    return UpstreamRequest("POST", url, list(headers), body)


async def pieces(*chunks):
    for chunk in chunks:
        yield chunk
