from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cacheproxy.errors import BadRequest
from cacheproxy.lab.outcomes import Share
from cacheproxy.lab.questions import Question
from cacheproxy.lab.replay import Progress, ReplayOptions, replay
from cacheproxy.upstream.rewording import reworded

CARD, RATE = Question("Where is my card?", "card_arrival"), Question("What is the rate?", "exchange_rate")


def completion(text, **headers):
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return web.json_response(
        {"choices": [{"message": {"content": text}}], "usage": usage},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


@asynccontextmanager
async def proxy(handler):
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1"))


async def test_questions_go_out_as_chat_completions():
    seen = []

    async def handler(request):
        seen.append((request.headers["Authorization"], await request.json()))
        return completion("hello")

    async with proxy(handler) as url:
        options = ReplayOptions(url, model="gpt-4o", api_key="sk-1", system="Be brief.", concurrency=1)
        report = await replay([Question("a")], options)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}]
    assert seen == [("Bearer sk-1", {"model": "gpt-4o", "messages": messages})]
    assert report.others == {"none": 1}
    assert "sk-1" not in repr(options)


async def test_the_headers_are_read_and_wrong_hits_are_found():
    answers = {
        CARD.text: completion(
            "[exchange_rate] no",
            X_Cache_Status="Hit",
            X_CacheProxy_Layer="semantic",
            X_CacheProxy_Similarity="0.9512",
            X_CacheProxy_Saved="0.002",
        ),
        RATE.text: completion("[exchange_rate] yes", X_Cache_Status="Hit", X_CacheProxy_Layer="exact"),
        "new": completion(
            "[other] x", X_Cache_Status="Miss", X_CacheProxy_Reason="no-neighbor", X_CacheProxy_Cost="0.5"
        ),
    }

    async def handler(request):
        return answers[(await request.json())["messages"][-1]["content"]]

    async with proxy(handler) as url:
        report = await replay([CARD, RATE, Question("new")], ReplayOptions(url.removesuffix("/v1")))
    assert report.hits == {"exact": 1, "semantic": 1, "coalesced": 0}
    assert (report.wrong_per_semantic_hit, report.wrong_per_hit) == (Share(1, 1), Share(1, 2))
    assert (report.saved_usd, report.spent_usd) == (0.002, 0.5)
    assert (report.saved_tokens, report.bought_tokens) == (30, 15)
    assert report.reasons == {"no-neighbor": 1}


async def test_failures_are_counted_and_never_end_the_replay():
    numbers = count()

    async def handler(request):
        match next(numbers):
            case 0:
                return web.json_response({"error": {}}, status=500)
            case 1:
                return web.Response(text="<html>")
            case 2:
                return web.json_response({"choices": []})
            case 3:
                request.transport.abort()
                return web.Response()
            case 4:
                await asyncio.Event().wait()
        return completion("fine", X_CacheProxy_Similarity="much")

    told = []
    async with proxy(handler) as url:
        report = await replay(
            [Question(str(number)) for number in range(6)],
            ReplayOptions(url, concurrency=1, timeout_s=0.6),
            progress=told.append,
        )
    assert report.errors == {
        "no chat completion": 2,
        "HTTP 500": 1,
        "ServerDisconnectedError": 1,
        "timed out": 1,
    }
    assert report.others == {"none": 1}
    assert told[-1] == Progress(done=6, total=6, hits=0, errors=5)
    assert [progress.done for progress in told] == [1, 2, 3, 4, 5, 6]


async def test_so_many_are_under_way_and_no_more():
    running = peak = 0
    full = asyncio.Event()

    async def handler(_request):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        if running == 3:
            full.set()
        await full.wait()
        running -= 1
        return completion("x")

    async with proxy(handler) as url:
        await replay([Question(str(number)) for number in range(12)], ReplayOptions(url, concurrency=3))
    assert peak == 3


async def test_at_arrival_times_the_order_is_the_recordings_and_slow_answers_hold_nothing_up():
    arrived = []
    last = asyncio.Event()

    async def handler(request):
        arrived.append((await request.json())["messages"][0]["content"])
        if arrived[-1] == "third":
            last.set()
        await last.wait()
        return completion("x")

    questions = [Question("third", at_s=1000.9), Question("first", at_s=1000.0), Question("second", at_s=1000.4)]
    async with proxy(handler) as url:
        report = await replay(questions, ReplayOptions(url, speed=5.0, concurrency=1))
    assert arrived == ["first", "second", "third"]
    assert report.duration_s >= 0.9 / 5
    assert report.failed == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"speed": 1.0}, "questions without 'at'"),
        ({"speed": 0.0}, "speed"),
        ({"concurrency": 0}, "concurrency"),
        ({"proxy_url": "ftp://host/v1"}, "http://"),
    ],
    ids=str,
)
async def test_options_that_make_no_sense_are_refused(options, says):
    with pytest.raises(BadRequest, match=says):
        await replay([CARD], ReplayOptions(**options))


async def test_an_unreachable_proxy_is_reported(unused_tcp_port):
    report = await replay([CARD, RATE], ReplayOptions(f"http://127.0.0.1:{unused_tcp_port}"))
    assert report.failed == 2


async def test_the_simulated_upstream_alone_has_no_hits_and_no_wrong_ones(base):
    report = await replay([CARD, RATE], ReplayOptions(base))
    assert report.others == {"none": 2}
    assert report.wrong_per_request == Share(0, 2)


async def test_wrong_hits_are_found_by_the_code_word_of_answers_that_name_no_class():
    async def handler(request):
        asked = (await request.json())["messages"][-1]["content"]
        return completion(reworded("card_arrival", asked, seed=1), X_Cache_Status="Hit", X_CacheProxy_Layer="semantic")

    async with proxy(handler) as url:
        report = await replay([CARD, RATE, Question("no class")], ReplayOptions(url))
    assert report.wrong_per_semantic_hit == Share(1, 2)
