"""Request bodies that break off: told to the caller in its own dialect, never waited for without end."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

CASES = {
    "openai": ("/v1/chat/completions", ""),
    "anthropic": ("/v1/messages", "anthropic-version: 2023-06-01\r\n"),
    "passed through": ("/v1/files", ""),
}
BROKEN = b"not the length of a chunk\r\n"

every_path = pytest.mark.parametrize(("path", "headers"), CASES.values(), ids=CASES)


@pytest.fixture
def upstream(record):
    async def take(_request, _recorded):
        return web.json_response({})

    return record(take)


def begun(path, headers, framing="Transfer-Encoding: chunked"):
    """The head of a request and the first chunk of its body."""
    body = b'{"model": '
    first = b"%x\r\n%b\r\n" % (len(body), body) if framing.endswith("chunked") else body
    return f"POST {path} HTTP/1.1\r\nHost: proxy\r\n{headers}{framing}\r\n\r\n".encode() + first


async def send(base, *pieces):
    """Send pieces, each on its own; what comes back first, and the connection."""
    host, _, port = base.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.05)  # so that they do not arrive as one; together they are an error at once
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
    length = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
    return int(head.split()[1]), json.loads(await reader.readexactly(length)), (reader, writer)


def error_of(body, path):
    assert body.keys() == ({"type", "error"} if path == "/v1/messages" else {"error"})
    return body["error"]


@every_path
async def test_a_body_that_turned_malformed_in_a_later_chunk_got_no_answer(serve_proxy, upstream, path, headers):
    base = serve_proxy(upstream.v1).url
    status, body, (reader, writer) = await send(base, begun(path, headers), BROKEN)

    assert status == 400
    error = error_of(body, path)
    assert error["code"] == "cacheproxy_bad_request"
    assert "framing" in error["message"]
    assert await asyncio.wait_for(reader.read(), 30) == b""  # one answer, and the connection is closed
    writer.close()


@every_path
@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 1000"])
async def test_a_body_that_stopped_coming_got_no_answer(serve_proxy, upstream, path, headers, framing):
    base = serve_proxy(upstream.v1, deadlines={"body_s": 0.2}).url
    status, body, (_, writer) = await send(base, begun(path, headers, framing))

    assert status == 408
    error = error_of(body, path)
    assert error["code"] == "cacheproxy_request_timeout"
    assert "0.2 s" in error["message"]
    writer.close()


async def test_a_body_may_take_long_as_long_as_it_comes(serve_proxy, upstream):
    base = serve_proxy(upstream.v1, deadlines={"body_s": 2}).url
    chunks = [b"1\r\nx\r\n"] * 50
    status, _, (_, writer) = await send(base, begun("/v1/files", ""), *chunks, b"0\r\n\r\n")

    assert status == 200
    assert upstream.requests[0].body == b'{"model": ' + b"x" * 50
    writer.close()
