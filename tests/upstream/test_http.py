from __future__ import annotations

import asyncio
import gzip
import re

import pytest
from aiohttp import web
from support.sockets import LENIENT, answering, get, http_server, pieces, post, raw_server, read

from cacheproxy.errors import Overloaded, UpstreamUnreachable
from cacheproxy.ports import UpstreamRequest
from cacheproxy.upstream.http import HttpUpstream


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

    @pytest.mark.parametrize(
        "target", ["/?", "/v1/x?", "/v1/x??", "/v1/x?a?", "/v1/x#y?", "/x#/x", "/v1//x/../?a=%2f#", "/"]
    )
    async def test_path_and_query_arrive_to_the_byte(self, upstream, target, ask):
        got = []

        async def talk(reader, writer):
            got.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        async with raw_server(talk) as base:
            await read(upstream, ask(base + target))
        assert re.match(rb"(GET|POST) %b HTTP/1\.1\r\n" % re.escape(target.encode()), got[0])

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


async def test_an_answer_before_the_end_of_the_upload_is_passed_on(upstream):
    never = asyncio.Event()

    async def endless():
        yield b"x"
        await never.wait()

    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    async with raw_server(answering(refusal)) as base:
        response, body = await read(upstream, post(base, endless()))
    assert (response.status, body) == (413, b"no")


class TestLimit:
    async def test_a_call_past_it_is_refused_and_may_come_back(self, ask):
        async with http_server(ok) as base, HttpUpstream(most_calls=2) as upstream:
            async with upstream.send(ask(base)), upstream.send(ask(base)):
                assert upstream.calls == 2
                with pytest.raises(Overloaded, match=r"limits\.upstream_calls") as refused:
                    await read(upstream, ask(base))
                assert refused.value.retry_after_s == 1
            response, _ = await read(upstream, ask(base))
        assert (response.status, upstream.calls) == (200, 0)

    async def test_a_call_that_failed_counts_no_more(self, unused_tcp_port, ask):
        async with HttpUpstream(most_calls=1) as upstream:
            for _ in range(3):
                with pytest.raises(UpstreamUnreachable):
                    await read(upstream, ask(f"http://127.0.0.1:{unused_tcp_port}/"))


async def ok(_request):
    return web.Response(text="ok")
