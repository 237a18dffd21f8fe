from __future__ import annotations

import asyncio

import pytest

from cacheproxy.errors import UpstreamTimeout, UpstreamUnreachable
from cacheproxy.ports import UpstreamRequest
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.scripted import EVENT_STREAM, Answer, Fails, ScriptedUpstream

REQUEST = UpstreamRequest("POST", "http://api/v1/chat/completions?a=1", [("Content-Type", "application/json")], b"{}")


async def read(upstream: ScriptedUpstream, request: UpstreamRequest = REQUEST) -> tuple[int, bytes]:
    async with upstream.send(request) as response:
        return response.status, b"".join([chunk async for chunk in response.chunks()])


async def test_steps_are_played_in_order_and_requests_are_remembered():
    upstream = ScriptedUpstream([Answer(chunks=[b"a", b"b"]), Answer(status=429, headers=[("Retry-After", "1")])])
    assert await read(upstream) == (200, b"ab")
    assert await read(upstream) == (429, b"")
    first, _ = upstream.received
    assert (first.method, first.url, first.body) == ("POST", REQUEST.url, b"{}")
    assert first.header("content-type") == "application/json"
    assert first.header("x-none") is None
    assert upstream.abandoned == 0


async def test_a_streamed_body_is_read_to_its_end():
    async def body():
        yield b"one"
        yield b"two"

    upstream = ScriptedUpstream([Answer()])
    await read(upstream, UpstreamRequest("PUT", "http://api/", [], body()))
    assert upstream.received[0].body == b"onetwo"


async def test_no_body_is_an_empty_one():
    upstream = ScriptedUpstream([Answer()])
    await read(upstream, UpstreamRequest("GET", "http://api/", []))
    assert upstream.received[0].body == b""


async def test_a_failure_comes_before_the_head_or_after_the_last_chunk():
    upstream = ScriptedUpstream(
        [Fails(UpstreamTimeout("slow")), Answer(chunks=[b"x"], then_fails=UpstreamUnreachable("reset"))]
    )
    with pytest.raises(UpstreamTimeout, match="slow"):
        await read(upstream)
    async with upstream.send(REQUEST) as response:
        chunks = aiter(response.chunks())
        assert await anext(chunks) == b"x"
        with pytest.raises(UpstreamUnreachable, match="reset"):
            await anext(chunks)
    assert upstream.open == 0


async def test_a_gate_holds_the_stream_open():
    head, gate = asyncio.Event(), asyncio.Event()
    upstream = ScriptedUpstream([Answer(headers=EVENT_STREAM, head_waits=head, chunks=[b"one", gate, b"two"])])
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen():
        async with upstream.send(REQUEST) as response:
            async for chunk in response.chunks():
                got.put_nowait(chunk)

    async with TaskSet("test") as tasks:
        listening = tasks.begin(listen(), name="listen")
        head.set()
        assert await got.get() == b"one"
        assert upstream.open == 1
        assert got.empty()
        gate.set()
        await listening
    assert got.get_nowait() == b"two"
    assert upstream.open == 0


async def test_leaving_early_is_seen():
    upstream = ScriptedUpstream([Answer(chunks=[b"one", b"two"])])
    async with upstream.send(REQUEST) as response:
        async for _ in response.chunks():
            break
    assert (upstream.open, upstream.abandoned) == (0, 1)


async def test_a_function_may_answer():
    upstream = ScriptedUpstream(lambda received: Answer(chunks=[received.body]))
    assert await read(upstream) == (200, b"{}")


async def test_a_script_that_has_run_out_says_so():
    with pytest.raises(UpstreamUnreachable, match=r"no step left for POST"):
        await read(ScriptedUpstream([]))
