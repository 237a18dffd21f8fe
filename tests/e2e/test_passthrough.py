"""Everything that is not a cached API goes through as if nothing stood between, in both directions."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BINARY = bytes(range(256)) * 40


async def echo(_request, recorded):
    """Answers with the body that came, and with one header of its own."""
    return web.Response(body=recorded.body, headers={"X-Upstream": "here", "Content-Type": "application/x-echo"})


@pytest.fixture
def upstream(record):
    return record(echo)


@pytest.fixture
def through(serve_proxy, upstream, http):
    http.base = serve_proxy(upstream.v1).url
    return http


async def raw_exchange(base, request):
    """Send bytes, read until the server closes."""
    host, _, port = base.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_goes_through(through, upstream, method):
    body = b"x" if method in {"POST", "PUT", "PATCH", "DELETE"} else None
    told = await through.send("/v1/files/file-1", body, method=method)

    assert told.status == 200
    assert told.headers["X-Upstream"] == "here"
    assert [(r.method, r.target, r.body) for r in upstream.requests] == [(method, "/v1/files/file-1", body or b"")]
    assert "X-Cache-Status" not in told.headers


TARGETS = {
    "a plain query": "/v1/files?a=1&b=2",
    "an encoded query": "/v1/files?a=%2F&b=+&c",
    "odd order and repeats": "/v1/files?b&a=1&a=1&=&&",
    "a query mark with nothing behind it": "/v1/files?",
    "two of them": "/v1/files??",
    "a query that ends in one": "/v1/files?a?",
    "unusual characters": "/v1/files?q=a:b/c?d@e!$'()*,;~",
    "percent in lower case": "/v1/files?x=%e2%82%ac&y=%E2%82%AC",
    "encoded slashes in a path": "/v1/files/a%2Fb%2fc",
    "encoded unreserved characters": "/v1/%66iles/%7Ex",
    "dots": "/v1/files/../models/./x",
    "double slashes": "/v1//files//x",
    "a trailing slash": "/v1/files/",
    "a cached path with a trailing slash": "/v1/chat/completions/",
    "a path outside the version": "/health/check?x",
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
async def test_path_and_query_arrive_to_the_byte(through, upstream, target):
    answer = await raw_exchange(
        through.base, f"GET {target} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert upstream.requests[0].target == target


async def test_a_multipart_upload_arrives_to_the_byte(through, upstream):
    form = aiohttp.FormData()
    form.add_field("purpose", "batch")
    form.add_field("file", BINARY, filename="übung.bin", content_type="application/octet-stream")
    async with through.session.post(f"{through.base}/v1/files", data=form) as response:
        echoed = await response.read()
    (recorded,) = upstream.requests

    assert echoed == recorded.body
    assert BINARY in recorded.body
    assert recorded.headers["Content-Type"].startswith("multipart/form-data; boundary=")


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/images/generations", "/v1/batches", "/v1/moderations"])
async def test_binary_bodies_go_both_ways(through, upstream, path):
    told = await through.send(path, BINARY, headers={"Content-Type": "audio/mpeg"})

    assert told.body == BINARY
    assert told.headers["Content-Type"] == "application/x-echo"
    assert upstream.requests[0].headers["Content-Type"] == "audio/mpeg"


async def test_a_get_on_a_cached_path_is_no_cached_api(through, upstream):
    told = await through.send("/v1/chat/completions?limit=2", None, method="GET")

    assert told.status == 200
    assert upstream.requests[0].target == "/v1/chat/completions?limit=2"


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", bytes)])
async def test_compressed_bodies_pass_as_they_are(through, upstream, coding, pack):
    packed = pack(b"some text " * 100)
    told = await through.send("/v1/files", packed, headers={"Content-Encoding": coding})

    assert upstream.requests[0].body == packed
    assert upstream.requests[0].headers["Content-Encoding"] == coding
    assert told.body == packed


async def test_a_compressed_answer_passes_as_it_is(record, serve_proxy, http):
    packed = gzip.compress(b"answer " * 500)

    async def answer(_request, _recorded):
        return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"})

    upstream = record(answer)
    told = await http.send(
        "/v1/files/x/content", method="GET", headers={"Accept-Encoding": "gzip, br"}, base=serve_proxy(upstream.v1).url
    )
    assert told.body == packed
    assert told.headers["Content-Encoding"] == "gzip"
    assert upstream.requests[0].headers["Accept-Encoding"] == "gzip, br"


async def test_headers_of_one_hop_stay_there_and_the_others_pass(record, serve_proxy, http):
    async def answer(_request, _recorded):
        headers = CIMultiDict(
            [
                ("Connection", "X-Hop-Back"),
                ("X-Hop-Back", "1"),
                ("Proxy-Authenticate", "Basic"),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
                ("X-RateLimit-Remaining", "9"),
            ]
        )
        return web.Response(text="ok", headers=headers)

    upstream = record(answer)
    told = await http.send(
        "/v1/models",
        method="GET",
        headers={
            "Connection": "keep-alive, X-Hop",
            "X-Hop": "1",
            "Proxy-Authorization": "Basic x",
            "TE": "trailers",
            "Keep-Alive": "timeout=5",
            "X-CacheProxy-Mode": "exact",
            "OpenAI-Organization": "org-1",
            "Cookie": "c=3",
        },
        base=serve_proxy(upstream.v1).url,
    )
    came = upstream.requests[0].headers

    assert not {"x-hop", "proxy-authorization", "te", "keep-alive", "x-cacheproxy-mode"} & {n.lower() for n in came}
    assert (came["OpenAI-Organization"], came["Cookie"]) == ("org-1", "c=3")
    assert came["Host"] == upstream.url.removeprefix("http://")
    assert not {"X-Forwarded-For", "Forwarded", "Via"} & set(came)
    assert told.headers.getall("Set-Cookie") == ["a=1", "b=2"]
    assert told.headers["X-RateLimit-Remaining"] == "9"
    assert not {"X-Hop-Back", "Proxy-Authenticate"} & set(told.headers)


async def test_an_expectation_is_answered_before_the_body_is_sent(through, upstream):
    host, _, port = through.base.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/files HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    )
    interim = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    writer.write(b"hello")
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    await writer.wait_closed()

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"hello")
    assert upstream.requests[0].body == b"hello"
    assert "Expect" not in upstream.requests[0].headers


@pytest.mark.parametrize("status", [201, 202, 204, 206, 304, 400, 404, 409, 418, 500])
async def test_every_status_passes(record, serve_proxy, http, status):
    async def answer(_request, _recorded):
        empty = status in {204, 304}
        return web.Response(status=status, body=None if empty else b"body", headers={"ETag": '"1"'})

    upstream = record(answer)
    told = await http.send("/v1/files/1", method="GET", base=serve_proxy(upstream.v1).url)

    assert told.status == status
    assert told.headers["ETag"] == '"1"'
    assert told.body == (b"" if status in {204, 304} else b"body")


async def test_a_head_tells_the_length_that_a_get_would_have(record, serve_proxy, http):
    async def answer(request, _recorded):
        response = web.Response(headers={"Content-Length": "12345"})
        response.force_close()
        return response if request.method == "HEAD" else web.Response(body=b"x")

    upstream = record(answer)
    told = await http.send("/v1/files/1/content", method="HEAD", base=serve_proxy(upstream.v1).url)

    assert told.status == 200
    assert told.headers["Content-Length"] == "12345"
    assert told.body == b""


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_the_callers_business(record, serve_proxy, http, status):
    async def answer(_request, _recorded):
        return web.Response(status=status, headers={"Location": "https://elsewhere.example/x"})

    upstream = record(answer)
    told = await http.send("/v1/files", b"x", base=serve_proxy(upstream.v1).url)

    assert told.status == status
    assert told.headers["Location"] == "https://elsewhere.example/x"
    assert len(upstream.requests) == 1


async def test_a_chunked_upload_stays_one_and_arrives_whole(through, upstream):
    async def parts():
        for number in range(50):
            yield str(number).encode() * 100

    async with through.session.post(f"{through.base}/v1/files", data=parts()) as response:
        echoed = await response.read()
    (recorded,) = upstream.requests

    assert recorded.body == echoed == b"".join(str(number).encode() * 100 for number in range(50))
    assert recorded.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in recorded.headers


async def test_an_answer_streams_while_it_is_made(record, serve_proxy, http):
    """The first part arrives while the upstream holds the second one back."""
    release = {}

    async def answer(request, _recorded):
        release["gate"], release["loop"] = asyncio.Event(), asyncio.get_running_loop()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await release["gate"].wait()
        await response.write(b"second")
        return response

    upstream = record(answer)
    base = serve_proxy(upstream.v1).url
    async with http.session.get(f"{base}/v1/files/x/content") as response:
        assert await response.content.read(5) == b"first"
        release["loop"].call_soon_threadsafe(release["gate"].set)
        assert await response.content.read() == b"second"


async def test_one_connection_serves_many_requests(through, upstream):
    host, _, port = through.base.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for number in range(5):
        writer.write(f"POST /v1/files HTTP/1.1\r\nHost: p\r\nContent-Length: 1\r\n\r\n{number}".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert b" 200 " in head
        assert await reader.readexactly(1) == str(number).encode()
    writer.close()
    await writer.wait_closed()

    assert [recorded.body for recorded in upstream.requests] == [b"0", b"1", b"2", b"3", b"4"]


async def test_the_prefix_of_a_configured_upstream_leads_there(record, serve_proxy, http):
    named, default = record(echo), record(echo)
    base = serve_proxy(default.v1, upstreams={"mine": {"url": f"{named.url}/api/v1"}}).url
    await http.send("/mine/v1/files?x=1", b"x", base=base)

    assert [recorded.target for recorded in named.requests] == ["/api/v1/files?x=1"]
    assert default.requests == []


async def test_life_and_readiness_are_told_here(through, upstream):
    live = await through.send("/livez", method="GET")
    ready = await through.send("/readyz", method="GET")

    assert (live.status, live.json) == (200, {"status": "alive"})
    assert ready.status == 200
    assert ready.json["status"] == "ready"
    assert ready.json["breakers"]["store"] == "closed"
    assert upstream.requests == []
