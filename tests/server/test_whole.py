"""A whole reply is one well-formed HTTP message, whatever asked for it."""

import asyncio
from contextlib import suppress

import aiohttp
import pytest

from cacheproxy.flow.messages import Whole

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%b\r\n"
CLOSING = b"Connection: close\r\n"


def answering(*replies):
    replies = list(replies)

    async def answer(incoming):
        return replies.pop(0) if len(replies) > 1 else replies[0]

    return answer


async def test_head_and_body_are_written_as_they_are(serve, talk):
    base, _ = await serve(
        answering(Whole(200, [("Content-Type", "application/json"), ("X-Two", "1"), ("X-Two", "2")], b"{}"))
    )
    assert await talk(base, REQUEST % CLOSING) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 2\r\n"
        b"Date: Tue, 14 Nov 2023 22:13:20 GMT\r\nServer: cacheproxy\r\nConnection: close\r\n\r\n{}"
    )


async def test_the_upstreams_date_and_server_stay(serve, talk):
    base, _ = await serve(answering(Whole(200, [("date", "yesterday"), ("Server", "upstream")], b"")))
    head = await talk(base, REQUEST % CLOSING)
    assert head.lower().count(b"\r\ndate:") == head.lower().count(b"\r\nserver:") == 1
    assert b"yesterday" in head


async def test_one_connection_takes_many(serve, talk):
    base, flow = await serve(answering(Whole(200, [], b"one"), Whole(429, [("Retry-After", "3")], b"two")))
    answers = await talk(base, REQUEST % b"" + REQUEST % CLOSING)
    assert answers.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 3\r\n" in answers
    assert answers.endswith(b"two")
    assert len(flow.incoming) == 2


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(serve, talk, status):
    base, _ = await serve(answering(Whole(status, [], b"never")))
    answer = await talk(base, REQUEST % CLOSING)
    assert b"Content-Length" not in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_head_gets_the_length_and_no_body(serve, talk):
    base, _ = await serve(answering(Whole(404, [], b"not here")))
    answer = await talk(base, b"HEAD /nope HTTP/1.1\r\nHost: x\r\n" + CLOSING + b"\r\n")
    assert b"Content-Length: 8\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_http_1_0_is_told_whether_the_connection_stays(serve, talk):
    base, _ = await serve(answering(Whole(200, [], b"x")))
    old = b"POST /v1/messages HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n%b\r\n"
    assert b"Connection: close" in await talk(base, old % b"")
    both = await talk(base, old % b"Connection: keep-alive\r\n" + old % b"")
    assert both.count(b"Connection: keep-alive") == 1
    assert both.count(b"HTTP/1.1 200") == 2


async def test_a_line_break_in_a_header_is_not_written(serve, talk):
    base, _ = await serve(answering(Whole(200, [("X-Bad", "a\r\nSet-Cookie: stolen")], b"x")))
    assert b"stolen" not in await talk(base, REQUEST % CLOSING)


async def test_bytes_that_are_no_text_pass(serve, talk):
    base, _ = await serve(answering(Whole(200, [("X-Odd", "\udcff")], b"\xff\x00")))
    answer = await talk(base, REQUEST % CLOSING)
    assert b"X-Odd: \xff\r\n" in answer
    assert answer.endswith(b"\r\n\r\n\xff\x00")


async def test_a_large_reply_reaches_a_slow_reader_whole(serve):
    body = b"0123456789abcdef" * 250_000
    base, _ = await serve(answering(Whole(200, [], body)))
    host, _, port = base.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
    writer.write(REQUEST % CLOSING)
    await reader.readuntil(b"\r\n\r\n")
    got = bytearray()
    while chunk := await reader.read(100_000):
        got += chunk
        await asyncio.sleep(0)
    writer.close()
    assert got == body


async def test_replies_to_a_caller_that_never_read_piled_up_in_memory(serve):
    """Requests sent ahead on one connection wait until the reply before them was taken."""
    # Far more than the kernel's own buffers take, or the first reply would be gone before its reader wanted it.
    base, flow = await serve(answering(Whole(200, [], b"x" * 32_000_000)))
    host, _, port = base.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    try:
        writer.write((REQUEST % b"") * 8)
        await reader.readuntil(b"\r\n\r\n")
        async with aiohttp.ClientSession() as others:
            for number in range(8):
                async with others.post(f"{base}/other/{number}") as answer:
                    await answer.read()
        pipelined = [incoming for incoming in flow.incoming if incoming.target == "/v1/chat/completions"]
        assert len(pipelined) == 1
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
