from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cacheproxy.errors import UpstreamTimeout, UpstreamUnreachable
from cacheproxy.ports import UpstreamRequest
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.http import Deadlines, HttpUpstream

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


@pytest.fixture
async def upstream():
    async with HttpUpstream() as upstream:
        yield upstream


@pytest.fixture
async def hasty():
    async with HttpUpstream(SHORT) as upstream:
        yield upstream


@pytest.fixture
async def lenient():
    async with HttpUpstream(LENIENT) as upstream:
        yield upstream


async def read(upstream, request):
    async with upstream.send(request) as response:
        return response, b"".join([chunk async for chunk in response.chunks()])


def get(url, headers=()):
    return UpstreamRequest("GET", url, list(headers))


def post(url, body, headers=()):
    return UpstreamRequest("POST", url, list(headers), body)


@pytest.fixture(params=["quick", "session"])
def ask(request):
    """A request for each of the two ways there are to send one."""
    return get if request.param == "session" else lambda url, headers=(): post(url, b"{}", headers)


async def pieces(*chunks):
    for chunk in chunks:
        yield chunk


class TestRequest:
    async def test_goes_out_with_nothing_added_but_host_and_framing(self, upstream):
        got = []

        async def talk(reader, writer):
            got.append(await reader.readuntil(b"{}"))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        async with raw_server(talk) as base:
            await read(
                upstream,
                post(
                    f"{base}/v1/x?b=%2f&a=%7E+1&&q", b"{}", [("authorization", "Bearer k"), ("X-A", "ü"), ("x-a", "2")]
                ),
            )
        assert got[0].decode() == (
            "POST /v1/x?b=%2f&a=%7E+1&&q HTTP/1.1\r\n"
            f"Host: {base.removeprefix('http://')}\r\n"
            "authorization: Bearer k\r\nX-A: ü\r\nx-a: 2\r\nContent-Length: 2\r\n\r\n{}"
        )

    @pytest.mark.parametrize("size", [0, 1, 32 * 1024, 32 * 1024 + 1, 3 * 1024 * 1024 + 7], ids=str)
    @pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
    async def test_a_body_of_bytes_arrives_whole_with_its_length(self, upstream, size, declared):
        async def handler(request):
            body = await request.read()
            return web.json_response([request.headers.get("Content-Length"), len(body), body == b"x" * len(body)])

        headers = [("content-length", str(size))] if declared else []
        async with http_server(handler) as base:
            _, body = await read(upstream, post(base, b"x" * size, headers))
        assert body == b'["%d", %d, true]' % (size, size)

    @pytest.mark.parametrize(
        ("headers", "framing"),
        [([("Content-Length", "6")], ["6", None]), ([], [None, "chunked"])],
        ids=["with a length", "chunked"],
    )
    async def test_a_streamed_body_keeps_the_callers_framing(self, upstream, headers, framing):
        async def handler(request):
            head = [request.headers.get(name) for name in ("Content-Length", "Transfer-Encoding")]
            return web.json_response([*head, await request.text()])

        async with http_server(handler) as base:
            response, body = await read(upstream, post(base, pieces(b"abc", b"def"), headers))
        assert response.status == 200
        assert web.json_response([*framing, "abcdef"]).body == body

    @pytest.mark.parametrize("kind", [RuntimeError, ConnectionResetError, TimeoutError])
    async def test_a_failure_of_the_body_itself_passes_through(self, upstream, kind):
        async def broken():
            yield b"abc"
            raise kind("the caller went away")

        async def handler(request):
            await request.read()
            return web.Response()

        async with http_server(handler) as base:
            with pytest.raises(kind, match="the caller went away"):
                await read(upstream, post(base, broken()))

    async def test_a_malformed_header_is_refused_without_naming_its_value(self, upstream):
        with pytest.raises(UpstreamUnreachable) as failure:
            await read(upstream, get("http://127.0.0.1:9/", [("X-Key", "se\ncret")]))
        assert "cret" not in str(failure.value)


class TestAnswer:
    async def test_comes_as_it_was_sent(self, upstream, ask):
        packed = gzip.compress(b"hello")
        head = (
            b"HTTP/1.1 201 Made Up\r\nContent-Encoding: gzip\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"
            b"X-Utf8: \xc3\xbc\r\nX-Latin: \xfc\r\nContent-Length: %d\r\n\r\n" % len(packed)
        )
        async with raw_server(answering(head + packed)) as base:
            response, body = await read(upstream, ask(base))
        assert (response.status, response.reason, body) == (201, "Made Up", packed)
        assert list(response.headers) == [
            ("Content-Encoding", "gzip"),
            ("Set-Cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("X-Utf8", "ü"),
            ("X-Latin", "ü"),
            ("Content-Length", str(len(packed))),
        ]

    async def test_chunks_come_as_they_are_sent(self, upstream, ask):
        heard = asyncio.Event()

        async def handler(request):
            stream = web.StreamResponse()
            await stream.prepare(request)
            await stream.write(b"first")
            await heard.wait()
            await stream.write(b"second")
            return stream

        got = []
        async with http_server(handler) as base, upstream.send(ask(base)) as response:
            async for chunk in response.chunks():
                got.append(chunk)
                heard.set()
        assert got == [b"first", b"second"]

    async def test_a_redirect_is_passed_on(self, upstream, ask):
        async def handler(_request):
            raise web.HTTPFound("/elsewhere")

        async with http_server(handler) as base:
            response, _ = await read(upstream, ask(base))
        assert response.status == 302

    async def test_cookies_are_not_kept(self, upstream, ask):
        async def handler(request):
            answer = web.Response(text=str(dict(request.cookies)))
            answer.set_cookie("session", "1")
            return answer

        async with http_server(handler) as base:
            await read(upstream, ask(base))
            assert (await read(upstream, ask(base)))[1] == b"{}"

    async def test_head_keeps_its_length_and_has_no_body(self, upstream):
        async with raw_server(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")) as base:
            response, body = await read(upstream, UpstreamRequest("HEAD", base, []))
        assert ("Content-Length", "1000") in response.headers
        assert body == b""

    async def test_what_comes_before_the_answer_is_passed_over(self, upstream, ask):
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        async with raw_server(answering(early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as base:
            response, body = await read(upstream, ask(base))
        assert (response.status, body) == (200, b"ok")

    async def test_long_headers_are_read(self, upstream, ask):
        head = b"HTTP/1.1 200 OK\r\nX-Policy: " + b"p" * 30_000 + b"\r\nContent-Length: 0\r\n\r\n"
        async with raw_server(answering(head)) as base:
            response, _ = await read(upstream, ask(base))
        assert len(dict(response.headers)["X-Policy"]) == 30_000

    async def test_connections_are_used_again(self, upstream):
        ports = set()

        async def handler(request):
            ports.add(request.transport.get_extra_info("peername"))
            return web.Response(text="ok")

        async with http_server(handler) as base:
            for _ in range(3):
                await read(upstream, post(base, b"{}"))
        assert len(ports) == 1

    async def test_leaving_early_closes_the_connection(self, upstream, ask):
        closed = asyncio.Event()

        async def endless(reader, _writer):
            await reader.read()
            closed.set()

        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
        async with raw_server(answering(head, then=endless)) as base:
            async with upstream.send(ask(base)) as response:
                assert await anext(aiter(response.chunks())) == b"x"
            await asyncio.wait_for(closed.wait(), 10)

    async def test_a_slow_reader_is_no_slow_upstream(self, lenient, ask):
        async def handler(_request):
            return web.Response(body=b"x" * 4_000_000)

        async with http_server(handler) as base, lenient.send(ask(base)) as response:
            size = 0
            async for chunk in response.chunks():
                if not size:
                    await asyncio.sleep(2 * LENIENT.between_bytes_s)
                size += len(chunk)
        assert size == 4_000_000


TRUNCATED = {
    "fewer bytes than announced": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    "a chunk size that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
}


class TestFailure:
    @pytest.mark.parametrize("data", TRUNCATED.values(), ids=TRUNCATED)
    async def test_a_body_that_breaks_off_is_an_error(self, upstream, data, ask):
        async with raw_server(answering(data)) as base:
            with pytest.raises(UpstreamUnreachable, match=r"127\.0\.0\.1:\d+"):
                await read(upstream, ask(base))

    async def test_a_reset_in_mid_stream_is_an_error(self, upstream, ask):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        got = asyncio.Event()

        async def after_the_first_chunk(_reader, writer):
            await got.wait()
            writer.transport.abort()

        async with (
            raw_server(answering(head, then=after_the_first_chunk)) as base,
            upstream.send(ask(base)) as response,
        ):
            chunks = aiter(response.chunks())
            assert await anext(chunks) == b"abc"
            got.set()
            with pytest.raises(UpstreamUnreachable):
                await anext(chunks)

    @pytest.mark.parametrize(
        ("data", "then", "says"),
        [
            (b"", None, "before it answered"),
            (b"", abort, "broke the connection|before it answered"),
            (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", None, "not HTTP"),
        ],
        ids=["closed", "reset", "another protocol"],
    )
    async def test_no_answer_is_an_error_that_says_what_to_check(self, upstream, data, then, says):
        async with raw_server(answering(data, then=then)) as base:
            with pytest.raises(UpstreamUnreachable, match=says) as failure:
                await read(
                    upstream, post(f"{base}/v1/secret-path?key=sk-secret", b"{}", [("Authorization", "sk-secret")])
                )
        assert base.removeprefix("http://") in str(failure.value)
        assert "secret" not in str(failure.value)

    async def test_a_refused_connection_names_the_host_and_what_to_check(self, upstream, unused_tcp_port, ask):
        with pytest.raises(
            UpstreamUnreachable, match=f"127.0.0.1:{unused_tcp_port} does not accept connections: check"
        ):
            await read(upstream, ask(f"http://127.0.0.1:{unused_tcp_port}/v1/models?key=sk"))

    async def test_an_unknown_name_is_unreachable(self, upstream, ask):
        with pytest.raises(UpstreamUnreachable, match=r"no-such-host\.invalid"):
            await read(upstream, ask("http://no-such-host.invalid/"))

    async def test_tls_towards_a_plain_server_is_unreachable(self, upstream, ask):
        async def plain(reader, writer):
            await reader.readexactly(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with raw_server(plain) as base:
            with pytest.raises(UpstreamUnreachable, match=r"https?://"):
                await read(upstream, ask(base.replace("http:", "https:")))

    @pytest.mark.parametrize("url", ["ftp://host/", "/v1/models", "http:///v1"])
    async def test_a_url_that_is_none_is_unreachable(self, upstream, url, ask):
        with pytest.raises(UpstreamUnreachable, match="check the upstream's URL"):
            await read(upstream, ask(url))

    async def test_no_head_in_time_is_a_timeout(self, hasty):
        async with raw_server(answering(b"", then=forever)) as base:
            with pytest.raises(UpstreamTimeout, match=r"sent nothing for 0\.05 s"):
                await read(hasty, post(base, b"{}"))

    async def test_a_stream_that_falls_silent_is_a_timeout(self, lenient, ask):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        async with raw_server(answering(head, then=forever)) as base, lenient.send(ask(base)) as response:
            chunks = aiter(response.chunks())
            assert await anext(chunks) == b"abc"
            with pytest.raises(UpstreamTimeout, match="sent nothing"):
                await anext(chunks)

    async def test_bytes_may_come_sooner_than_the_head_and_later_than_the_first_patience(self, ask):
        """The deadline for a first byte does not run while the body flows, nor the other way round."""

        async def dripping(_reader, writer):
            for _ in range(6):
                writer.write(b"1\r\nx\r\n")
                await asyncio.sleep(0.1)
            writer.write(b"0\r\n\r\n")

        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with (
            HttpUpstream(Deadlines(first_byte_s=0.4, between_bytes_s=30)) as patient,
            raw_server(answering(head, then=dripping)) as base,
        ):
            assert (await read(patient, ask(base)))[1] == b"xxxxxx"

    @pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "bytes"])
    async def test_an_upstream_that_takes_no_more_of_a_request_is_a_timeout(self, hasty, streamed):
        async def deaf(_reader, writer):
            writer.transport.pause_reading()
            await gone.wait()

        gone = asyncio.Event()
        megabyte = b"x" * 1024 * 1024
        body = pieces(*[megabyte] * 64) if streamed else megabyte * 64
        async with raw_server(deaf) as base:
            with pytest.raises(UpstreamTimeout, match="took none of the request"):
                await read(hasty, post(base, body))
            gone.set()

    async def test_a_slow_caller_is_no_slow_upstream(self, lenient):
        async def slow():
            yield b"a"
            await asyncio.sleep(2 * LENIENT.between_bytes_s)
            yield b"b"

        async def handler(request):
            return web.Response(body=await request.read())

        async with http_server(handler) as base:
            assert (await read(lenient, post(base, slow())))[1] == b"ab"

    async def test_a_cancelled_request_leaves_no_connection(self, upstream):
        arrived, closed = asyncio.Event(), asyncio.Event()

        async def silent(reader, _writer):
            arrived.set()
            await reader.read()
            closed.set()

        async with raw_server(answering(b"", then=silent)) as base, TaskSet("test") as tasks:
            asking = tasks.begin(read(upstream, post(base, b"{}")), name="asking")
            await arrived.wait()
            asking.cancel()
            await asyncio.wait_for(closed.wait(), 10)


async def test_an_answer_before_the_end_of_the_upload_is_passed_on(upstream):
    never = asyncio.Event()

    async def endless():
        yield b"x"
        await never.wait()

    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    async with raw_server(answering(refusal)) as base:
        response, body = await read(upstream, post(base, endless()))
    assert (response.status, body) == (413, b"no")
