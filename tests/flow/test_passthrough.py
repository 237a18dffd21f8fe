"""Everything that is not cached goes through untouched."""

import asyncio

import pytest

from cacheproxy.errors import PortUnavailable, UpstreamUnreachable
from cacheproxy.flow.messages import Streamed
from cacheproxy.upstream.scripted import Answer, Fails


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models?limit=%20", None),
        ("POST", "/v1/audio/transcriptions", b"--x\r\nmultipart\r\n--x--"),
        ("DELETE", "/v1/files/f%2F1", None),
        ("GET", "/v1/chat/completions", None),
        ("POST", "/v1/batches", b""),
        ("OPTIONS", "/v1/messages", None),
        ("PUT", "/v1/embeddings", b"not even JSON"),
    ],
)
async def test_a_request_goes_and_comes_byte_for_byte(open_world, method, path, body):
    world = await open_world(
        lambda _: Answer(status=207, headers=[("X-Any", "1"), ("X-Any", "2")], chunks=[b"a", b"b"])
    )
    reply = await world.send(body, path=path, method=method, headers={"Cache-Control": "no-cache", "X-Own": "1"})
    (received,) = world.upstream.received
    assert received.method == method
    assert received.url == f"https://llm.example{path}"
    assert received.body == (body or b"")
    assert (received.header("x-own"), received.header("cache-control")) == ("1", "no-cache")
    assert received.header("x-cacheproxy-mode") is None
    assert (reply.status, reply.body, reply.headers.getall("X-Any")) == (207, b"ab", ["1", "2"])
    assert await world.entries() == 0


async def test_a_body_is_streamed_as_it_comes(open_world):
    gate = asyncio.Event()
    world = await open_world(lambda _: Answer(chunks=[b"first", gate, b"second"]))
    reply = await world.handle(None, path="/v1/files/1/content", method="GET")
    assert isinstance(reply, Streamed)
    assert await anext(reply.body) == b"first"
    assert world.upstream.open == 1
    gate.set()
    assert [chunk async for chunk in reply.body] == [b"second"]
    await reply.close()
    assert world.upstream.open == 0


async def test_a_caller_that_leaves_ends_the_upstreams_call(open_world):
    world = await open_world(lambda _: Answer(chunks=[b"first", asyncio.Event()]))
    reply = await world.handle(None, path="/v1/files/1/content", method="GET")
    await reply.close()
    assert (world.upstream.open, world.upstream.abandoned) == (0, 1)


async def test_an_upstream_that_is_down_is_told_in_the_callers_dialect(open_world):
    world = await open_world(lambda _: Fails(UpstreamUnreachable("no route")))
    reply = await world.send(None, path="/v1/models", method="GET", headers={"anthropic-version": "2023-06-01"})
    assert (reply.status, reply.json["type"]) == (502, "error")


async def test_a_body_that_breaks_off_is_raised_so_that_the_connection_is_cut(open_world):
    world = await open_world(lambda _: Answer(chunks=[b"half"], then_fails=UpstreamUnreachable("reset")))
    reply = await world.handle(None, path="/v1/files/1/content", method="GET")
    assert await anext(reply.body) == b"half"
    with pytest.raises(UpstreamUnreachable):
        await anext(reply.body)
    await reply.close()


async def test_deleting_a_response_goes_well_although_the_index_fails(open_world, monkeypatch):
    world = await open_world(lambda _: Answer(chunks=[b'{"deleted": true}']))

    async def fail(_):
        raise PortUnavailable("gone")

    monkeypatch.setattr(world.index, "remove", fail)
    assert (await world.send(None, path="/v1/responses/resp_1", method="DELETE")).status == 200
