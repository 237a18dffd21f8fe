from __future__ import annotations

import asyncio
import os
import signal

import aiohttp
import anthropic
import openai
import pytest

from cacheproxy.errors import ConfigError
from cacheproxy.lab.simulate import SimulateOptions, run_simulate
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.rewording import code_word, code_word_in
from cacheproxy.upstream.simulated import count_tokens, knowledge_of

KNOWLEDGE = knowledge_of(
    [
        ("Where is my card?", "card_arrival"),
        ("Has my card been sent", "card_arrival"),
        ("What is the rate?", "exchange_rate"),
    ]
)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Where is my card?"}]}


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


async def stats(session, base):
    async with session.get(f"{base}/simulated/stats") as response:
        return await response.json()


async def test_the_counters_tell_what_reached_it(session, base):
    for stream in (False, True):
        async with session.post(f"{base}/v1/chat/completions", json=CHAT | {"stream": stream}) as response:
            await response.read()
    async with session.post(f"{base}/v1/embeddings", data=b"{") as response:
        assert response.status == 400
    counted = await stats(session, base)
    assert counted["requests"] == {"/v1/chat/completions": 2, "/v1/embeddings": 1}
    assert counted["statuses"] == {"200": 2, "400": 1}
    assert counted["streams"] == 1
    assert counted["open"] == counted["abandoned"] == 0
    assert counted["output_tokens"] > counted["input_tokens"] > 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b'{"a": NaN}'], ids=str)
async def test_a_body_that_is_no_object_is_refused(session, base, body):
    async with session.post(f"{base}/v1/chat/completions", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_an_unknown_path_is_not_found(session, base):
    async with session.get(f"{base}/v1/nothing") as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "unknown_url"


async def test_models_are_listed(base):
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk") as client:
        assert "gpt-4o-mini" in [model.id async for model in client.models.list()]


async def test_requests_have_ids_under_the_providers_names(session, base):
    async with session.post(f"{base}/v1/chat/completions", json=CHAT) as response:
        assert response.headers["x-request-id"]
    async with session.post(f"{base}/v1/messages", json=CHAT | {"max_tokens": 5}) as response:
        assert response.headers["request-id"]


@pytest.mark.parametrize(
    ("options", "openai_error", "anthropic_error"),
    [
        ({"error_rate": 1.0}, openai.InternalServerError, anthropic.InternalServerError),
        ({"rate_limit_rate": 1.0}, openai.RateLimitError, anthropic.RateLimitError),
    ],
    ids=["500", "429"],
)
async def test_failures_are_what_the_sdks_know(simulate, options, openai_error, anthropic_error):
    async with simulate(**options) as base:
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk", max_retries=0) as client:
            with pytest.raises(openai_error) as failure:
                await client.chat.completions.create(**CHAT)
        async with anthropic.AsyncAnthropic(base_url=base, api_key="sk", max_retries=0) as client:
            with pytest.raises(anthropic_error):
                await client.messages.create(**CHAT, max_tokens=5)
    if "rate_limit_rate" in options:
        assert failure.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
async def test_a_reset_cuts_the_answer_in_the_middle(session, simulate, stream):
    async with simulate(reset_rate=1.0) as base:
        async with session.post(f"{base}/v1/chat/completions", json=CHAT | {"stream": stream}) as response:
            assert response.status == 200
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
                await response.read()
        assert (await stats(session, base))["reset"] == 1


async def test_failures_repeat_with_their_seed(session, simulate):
    seen = []
    for _ in range(2):
        async with simulate(error_rate=0.5, seed=7) as base:
            for _ in range(12):
                async with session.post(f"{base}/v1/embeddings", json={"model": "m", "input": "a"}) as response:
                    seen.append(response.status)
    assert seen[:12] == seen[12:]
    assert set(seen) == {200, 500}


async def said(session, base, question):
    body = {"model": "m", "messages": [{"role": "user", "content": question}]}
    async with session.post(f"{base}/v1/chat/completions", json=body) as response:
        answer = await response.json()
    text = answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == count_tokens(text)
    return text


async def test_with_answers_a_class_keeps_its_facts_and_each_call_its_words(session, simulate):
    asked = ["Where is my card?", "Has my card been sent"] * 5
    async with simulate(knowledge={}, answers=KNOWLEDGE) as base:
        card = [await said(session, base, question) for question in asked]
        rate = await said(session, base, "What is the rate?")
        unknown = [await said(session, base, "Who are you?") for _ in range(3)]
    assert len(set(card)) == len(card)
    assert {code_word_in(text) for text in card} == {code_word("card_arrival")}
    assert code_word_in(rate) == code_word("exchange_rate")
    assert len({code_word_in(text) for text in unknown}) == 1
    assert code_word_in(unknown[0]) not in {code_word("card_arrival"), code_word("exchange_rate")}


async def test_the_words_repeat_with_their_seed(session, simulate):
    asked = ["Where is my card?", "Where is my card?", "Who are you?"]
    told = []
    for seed in (1, 1, 2):
        async with simulate(knowledge={}, answers=KNOWLEDGE, seed=seed) as base:
            told.append([await said(session, base, question) for question in asked])
    assert told[0] == told[1]
    assert told[0] != told[2]


async def test_the_first_token_waits_and_the_others_follow_in_time(session, simulate):
    """The pace is a lower bound: nothing comes before its time, whatever the machine does."""
    loop = asyncio.get_running_loop()
    async with simulate(delay_ms=60, tokens_per_s=500) as base:
        for stream in (False, True):
            began = loop.time()
            async with session.post(f"{base}/v1/chat/completions", json=CHAT | {"stream": stream}) as response:
                await response.content.readany()
                assert loop.time() - began >= 0.06
                await response.content.read()
        tokens = (await stats(session, base))["output_tokens"] / 2
        assert loop.time() - began >= 0.06 + (tokens - 1) / 500


async def test_a_caller_that_leaves_is_noticed(session, simulate):
    async with simulate(delay_ms=3_600_000) as base, TaskSet("test") as tasks:
        asking = tasks.begin(asyncio.wait_for(session.post(f"{base}/v1/chat/completions", json=CHAT), 60), name="ask")
        while not (await stats(session, base))["open"]:
            pass
        asking.cancel()
        while not (counted := await stats(session, base))["abandoned"]:
            pass
        assert counted["open"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"error_rate": 1.1},
        {"error_rate": -0.1},
        {"error_rate": 0.6, "reset_rate": 0.6},
        {"delay_ms": -1},
        {"knowledge": {"a": "x"}, "answers": {"a": "x"}},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError):
        SimulateOptions(**options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_it_serves_until_it_is_told_to_stop(session, number):
    started = asyncio.get_running_loop().create_future()
    async with TaskSet("test") as tasks:
        serving = tasks.begin(run_simulate(SimulateOptions(port=0), started=started.set_result), name="simulate")
        async with session.get(f"{await started}/models") as response:
            assert response.status == 200
        os.kill(os.getpid(), number)
        await serving


async def test_an_address_that_is_taken_is_named(simulate):
    async with simulate() as base:
        port = int(base.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            await run_simulate(SimulateOptions(port=port))
