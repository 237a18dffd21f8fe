"""How calls over HTTP fail: which error of ours, and what it says."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from support.sockets import LENIENT, abort, answering, forever, http_server, pieces, post, raw_server, read

from cacheproxy.errors import UpstreamTimeout, UpstreamUnreachable
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.http import Deadlines, HttpUpstream

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
