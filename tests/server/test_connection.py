"""What is not HTTP is answered as an error, and neither logged nor sent back: it may hold a key."""

import asyncio
import json
import logging

import pytest
from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.errors import ProxyError
from cacheproxy.flow.messages import Whole
from cacheproxy.server.listen import admin_listener

UNREADABLE = [
    pytest.param(b"Authorization: Bearer sk-se\x01cret\r\n\r\n", id="a control character in a header"),
    pytest.param(b"Authorization : Bearer sk-secret\r\n\r\n", id="a blank before a colon"),
    pytest.param(b"Authorization: Bearer " + b"sk-se" * 20_000 + b"\r\n\r\n", id="a header over the limit"),
    pytest.param(b"Transfer-Encoding: chunked\r\n\r\nsk-secret\r\n", id="no chunk"),
]


async def answer(_incoming):
    return Whole(200, [], b"ok")


def reading(read):
    """A flow that tells an error by its status, as the real one does."""

    async def handle(incoming):
        try:
            return await read(incoming)
        except ProxyError as error:
            return Whole(error.status, [], error.message.encode())

    return handle


@pytest.mark.parametrize("rest", UNREADABLE)
async def test_a_key_in_a_malformed_request_was_logged_and_echoed(serve, talk, caplog, rest):
    base, flow = await serve(answer)
    with caplog.at_level(logging.DEBUG):
        told = await talk(base, b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n" + rest)
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].endswith(b"400 Bad Request")
    assert json.loads(body)["error"]["code"] == "cacheproxy_bad_request"
    assert b"sk-se" not in told
    assert "sk-se" not in caplog.text
    assert "not readable as HTTP" in caplog.text
    assert not flow.incoming


async def test_the_admin_plane_does_not_log_it_either(talk, caplog):
    async with admin_listener(web.Application(), Address("127.0.0.1", 0)) as address:
        with caplog.at_level(logging.DEBUG):
            await talk(f"http://{address}", b"GET / HTTP/1.1\r\nAuthorization : Bearer sk-secret\r\n\r\n")
    assert "not readable as HTTP" in caplog.text
    assert "sk-secret" not in caplog.text


async def test_a_failure_while_a_reply_is_written_is_logged_in_full(serve, talk, caplog):
    async def bad_header(_incoming):
        return Whole(200, [("X-Bad", "a\nb")], b"")

    base, _ = await serve(bad_header)
    await talk(base, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "a header value with a line break: X-Bad" in caplog.text


async def test_a_broken_body_is_told_to_whoever_reads_it_even_if_nobody_did_yet(serve):
    read = asyncio.Event()

    async def later(incoming):
        await read.wait()
        return Whole(200, [], await incoming.read(1000))

    base, flow = await serve(reading(later))
    host, _, port = base.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    while not flow.incoming:  # noqa: ASYNC110 - the flow sets no event
        await asyncio.sleep(0.01)
    writer.write(b"no chunk\r\n")
    await asyncio.sleep(0.05)
    read.set()
    told = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    assert told.startswith(b"HTTP/1.1 400 ")
    assert told.count(b"HTTP/1.1") == 1


async def test_a_request_sent_ahead_is_answered_after_the_one_before_it(serve, talk):
    base, flow = await serve(answer)
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    told = await talk(base, one + one + last)
    assert told.count(b"HTTP/1.1 200") == 3
    assert len(flow.incoming) == 3


@pytest.mark.parametrize("size", [10, 2**20], ids=["small", "large enough to pause reading"])
async def test_requests_sent_ahead_are_read_behind_bodies_of_any_size(serve, talk, size):
    async def read(incoming):
        return Whole(200, [], b"%d bytes;" % len(await incoming.read(2**21)))

    base, _ = await serve(reading(read))
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n" + b"x" * size
    told = await talk(base, request % (size, b"") * 3 + request % (size, b"Connection: close\r\n"))
    assert told.count(b"%d bytes;" % size) == 4
