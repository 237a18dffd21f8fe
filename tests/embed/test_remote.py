from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web

from cacheproxy.embed.remote import open_remote
from cacheproxy.errors import Overloaded, PortUnavailable, TurnTooLong


class Elsewhere:
    """An embedding server that says what it is told to; at first, what a good one does."""

    def __init__(self):
        self.asked = []
        self.headers = []
        self.answer = self.good
        self.gate = asyncio.Event()
        self.gate.set()

    @staticmethod
    def good(body):
        words = body["input"].split()
        vector = [float(len(words)), 2.0, 2.0]
        return 200, {"data": [{"index": 0, "embedding": vector}], "usage": {"prompt_tokens": len(words) + 2}}

    async def handle(self, request):
        body = await request.json()
        self.asked.append(body)
        self.headers.append(request.headers)
        await self.gate.wait()
        status, told = self.answer(body)
        return web.json_response(told, status=status)


@asynccontextmanager
async def serving(server):
    app = web.Application()
    app.router.add_post("/v1/embeddings", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@pytest.fixture
def elsewhere():
    return Elsewhere()


@pytest.fixture
async def url(elsewhere):
    async with serving(elsewhere) as url:
        yield url


@pytest.fixture
async def embedder(url):
    async with await open_remote(url, "some/model", key="k", window_tokens=8, max_waiting=2) as embedder:
        yield embedder


async def test_a_vector_comes_as_a_unit(embedder, elsewhere):
    vector = await embedder.embed("one")
    assert np.allclose(vector, [1 / 3, 2 / 3, 2 / 3])
    assert (vector.dtype, embedder.dimension, embedder.model) == (np.float32, 3, "some/model")
    assert elsewhere.asked[-1] == {"model": "some/model", "input": "one", "encoding_format": "float"}
    assert elsewhere.headers[-1]["Authorization"] == "Bearer k"


async def test_a_text_that_may_have_been_cut_is_refused(embedder):
    await embedder.embed("one two three four five")
    with pytest.raises(TurnTooLong, match="window of 8"):
        await embedder.embed("one two three four five six")


async def test_without_token_counts_only_what_surely_fits_is_taken(embedder, elsewhere):
    elsewhere.answer = lambda _: (200, {"data": [{"embedding": [1.0, 0.0, 0.0]}]})
    await embedder.embed("12345678")
    with pytest.raises(TurnTooLong):
        await embedder.embed("123456789")


@pytest.mark.parametrize(
    ("status", "told", "error"),
    [
        (400, {"error": {"code": "cacheproxy_turn_too_long"}}, TurnTooLong),
        (413, {"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 600"}, TurnTooLong),
        (400, {"error": {"message": "This model's maximum context length is 8192 tokens"}}, TurnTooLong),
        (400, {"error": {"message": "no such model"}}, PortUnavailable),
        (401, {}, PortUnavailable),
        (500, {}, PortUnavailable),
        (503, {}, Overloaded),
        (429, {}, Overloaded),
        (200, {"data": []}, PortUnavailable),
        (200, [], PortUnavailable),
        (200, {"data": [{"embedding": "x"}], "usage": {"prompt_tokens": 3}}, PortUnavailable),
        (200, {"data": [{"embedding": [0, 0, 0]}], "usage": {"prompt_tokens": 3}}, PortUnavailable),
        (200, {"data": [{"embedding": [1, 2]}], "usage": {"prompt_tokens": 3}}, PortUnavailable),
    ],
)
async def test_what_is_no_vector_is_an_error_of_ours(embedder, elsewhere, status, told, error):
    elsewhere.answer = lambda _: (status, told)
    with pytest.raises(error):
        await embedder.embed("one")


async def test_too_many_at_a_time_are_told_at_once(embedder, elsewhere):
    elsewhere.gate.clear()
    waiting = [asyncio.create_task(embedder.embed("one")) for _ in range(2)]
    while len(elsewhere.asked) < 3:  # noqa: ASYNC110 - counted by the server
        await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await embedder.embed("one")
    elsewhere.gate.set()
    await asyncio.gather(*waiting)


async def test_a_server_that_is_not_there_is_told_when_it_is_opened():
    with pytest.raises(PortUnavailable, match=r"127\.0\.0\.1:9"):
        await open_remote("http://127.0.0.1:9/v1", "some/model")


async def test_a_busy_one_is_told_the_same_way(elsewhere, url):
    elsewhere.answer = lambda _: (503, {})
    with pytest.raises(PortUnavailable, match="busy"):
        await open_remote(url, "some/model")
