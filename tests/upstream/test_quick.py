"""What goes the quick way. That it comes to the same as the long way is tested both ways, in the tests of ``http``."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from yarl import URL

from cacheproxy.ports import UpstreamRequest
from cacheproxy.upstream.quick import LARGEST, QuickClient

BASE = "http://127.0.0.1:8/v1"


def post(body=b"{}", *, url=BASE, method="POST", headers=()):
    return UpstreamRequest(method, url, list(headers), body)


async def pieces():
    yield b"{}"


@pytest.mark.parametrize(
    ("request_", "quick"),
    [
        (post(), True),
        (post(b"x" * LARGEST), True),
        (post(url="https://[::1]/v1"), True),
        (post(b"x" * (LARGEST + 1)), False),
        (post(b""), False),
        (post(None), False),
        (post(pieces()), False),
        (post(method="PUT"), False),
        (post(url="http://user:secret@127.0.0.1/v1"), False),
        (post(url="ftp://host/v1"), False),
        (post(url="http:///v1"), False),
    ],
)
def test_only_small_posts_to_plain_addresses_are_taken(request_, quick):
    assert QuickClient.takes(request_, URL(request_.url, encoded=True)) is quick


@pytest.mark.parametrize("header", [("X-A", "a\r\nX-B: b"), ("X-A\n", "a"), ("X-A", "a\0")])
async def test_a_header_that_would_end_early_is_refused_before_anything_is_sent(header):
    async with aiohttp.TCPConnector() as connector:
        client = QuickClient(connector, timeout=aiohttp.ClientTimeout(connect=5), max_header_bytes=8192)
        with pytest.raises(ValueError, match="header"):
            await client.ask(post(headers=[header]), URL(BASE))


async def test_a_header_that_is_no_text_arrives_byte_for_byte():
    got = asyncio.get_running_loop().create_future()

    async def talk(reader, writer):
        got.set_result(await reader.readuntil(b"{}"))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = URL.build(scheme="http", host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    async with server, aiohttp.TCPConnector() as connector:
        client = QuickClient(connector, timeout=aiohttp.ClientTimeout(connect=5), max_header_bytes=8192)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.ask(post(headers=[("X-Odd", "\udcff")]), url)
    assert b"X-Odd: \xff\r\n" in got.result()


async def test_a_connection_that_takes_too_long_is_told_from_an_answer_that_does():
    class Slow(aiohttp.TCPConnector):
        async def _create_connection(self, *_args):
            await asyncio.Event().wait()

    async with Slow() as connector:
        client = QuickClient(connector, timeout=aiohttp.ClientTimeout(connect=0.01), max_header_bytes=8192)
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await client.ask(post(), URL(BASE))
