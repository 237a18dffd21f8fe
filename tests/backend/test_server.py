"""The server on a real socket: official clients, plain HTTP where those cannot misbehave."""

from __future__ import annotations

import asyncio
import json
import re

import aiohttp
import anthropic
import openai
import pytest
import pytest_asyncio

from cacheproxy.address import Address
from cacheproxy.backend.batched import BatchOptions
from cacheproxy.backend.loading import ModelOptions
from cacheproxy.backend.running import BackendOptions, open_backend
from cacheproxy.backend.server import Server

HAMLET = [{"role": "user", "content": "Who wrote Hamlet?"}]
ANSWER = "Shakespeare wrote Hamlet."
COUNT = [{"role": "user", "content": "Count."}]
STRANGE = [{"role": "user", "content": "Legs blue Paris four? Who colour plus wrote!"}]
"""The model knows nothing of it: what it says depends on chance."""


GREEDY = {"temperature": 0}
"""Anthropic's own client does not send it any more."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def backend(model):
    """A warm server; its ``url`` ends in ``/v1``."""
    options = BackendOptions(ModelOptions(model, device="cpu"), name="tiny", listen=Address("127.0.0.1", 0))
    async with open_backend(options, now=lambda: 1_700_000_000.5) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(backend):
    async with openai.AsyncOpenAI(base_url=backend.url, api_key="any", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def claude(backend):
    base = backend.url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=base, api_key="any", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def http(backend):
    async with aiohttp.ClientSession(base_url=backend.url.removesuffix("v1")) as session:
        yield session


def tokens(tokenizer, text):
    return len(tokenizer.encode(text, add_special_tokens=False))


async def test_a_chat_is_answered_and_counted(client, tokenizer):
    answer = await client.chat.completions.create(model="tiny", messages=HAMLET, temperature=0)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", ANSWER, "stop")
    prompt = tokenizer.apply_chat_template(HAMLET, add_generation_prompt=True, tokenize=False)
    assert answer.usage.prompt_tokens == tokens(tokenizer, prompt)
    assert answer.usage.completion_tokens == tokens(tokenizer, ANSWER + "<|im_end|>")
    assert (answer.model, answer.created, answer.object) == ("tiny", 1_700_000_000, "chat.completion")


async def test_a_stream_says_the_same(client):
    whole = await client.chat.completions.create(model="tiny", messages=HAMLET, temperature=0)
    stream = await client.chat.completions.create(
        model="tiny", messages=HAMLET, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == ANSWER
    assert len(chunks) > 5
    assert chunks[-1].usage == whole.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:-1]] == ["stop"]


async def test_usage_is_told_to_those_who_ask(client):
    stream = await client.chat.completions.create(model="tiny", messages=HAMLET, stream=True)
    assert all(chunk.usage is None for chunk in [chunk async for chunk in stream])


async def test_several_choices_are_each_their_own(client, tokenizer):
    answer = await client.chat.completions.create(
        model="tiny", messages=STRANGE, n=3, temperature=2, seed=5, max_tokens=9
    )
    texts = [choice.message.content for choice in answer.choices]
    assert len(set(texts)) == 3
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens > 9
    again = await client.chat.completions.create(
        model="tiny", messages=STRANGE, n=3, temperature=2, seed=5, max_tokens=9
    )
    assert [choice.message.content for choice in again.choices] == texts


async def test_several_choices_stream_side_by_side(client):
    stream = await client.chat.completions.create(model="tiny", messages=HAMLET, n=2, temperature=0, stream=True)
    texts = {0: "", 1: ""}
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: ANSWER, 1: ANSWER}


@pytest.mark.parametrize(
    ("limits", "reason", "text"),
    [
        ({"max_tokens": 2}, "length", None),
        ({"max_completion_tokens": 2}, "length", None),
        ({"stop": "wrote"}, "stop", "Shakespeare "),
        ({"stop": ["nothing", " Hamlet"]}, "stop", "Shakespeare wrote"),
    ],
)
async def test_it_stops_where_it_is_told_to(client, limits, reason, text):
    answer = await client.chat.completions.create(model="tiny", messages=HAMLET, temperature=0, **limits)
    (choice,) = answer.choices
    assert choice.finish_reason == reason
    assert text is None or choice.message.content == text
    assert ANSWER.startswith(choice.message.content)


async def test_a_limit_past_the_context_is_the_context(client):
    answer = await client.chat.completions.create(
        model="tiny", messages=STRANGE, temperature=2, max_tokens=100_000, seed=3
    )
    assert answer.usage.total_tokens <= 512


async def test_logprobs_are_told_token_by_token(client):
    answer = await client.chat.completions.create(
        model="tiny", messages=HAMLET, temperature=0, logprobs=True, top_logprobs=2
    )
    content = answer.choices[0].logprobs.content
    assert "".join(entry.token for entry in content) == ANSWER
    assert all(entry.top_logprobs[0].logprob == entry.logprob <= 0 for entry in content)
    assert bytes(byte for entry in content for byte in entry.bytes) == ANSWER.encode()


async def test_tools_are_called_and_their_results_are_read(client):
    tool = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
    asked = [{"role": "user", "content": "Weather in Rome?"}]
    answer = await client.chat.completions.create(model="tiny", messages=asked, tools=[tool], temperature=0)
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Rome"})
    stream = await client.chat.completions.create(
        model="tiny", messages=asked, tools=[tool], temperature=0, stream=True
    )
    streamed = [chunk.choices[0].delta.tool_calls async for chunk in stream if chunk.choices[0].delta.tool_calls]
    assert [part[0].function.to_dict() for part in streamed] == [call.function.to_dict()]
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    said = await client.chat.completions.create(
        model="tiny", messages=[*asked, choice.message.to_dict(), result], tools=[tool], temperature=0
    )
    assert said.choices[0].message.content == "It is sunny in Rome."


async def test_a_text_is_completed(client, tokenizer):
    prompt = tokenizer.apply_chat_template(HAMLET, add_generation_prompt=True, tokenize=False)
    answer = await client.completions.create(model="tiny", prompt=prompt, temperature=0, logprobs=1, max_tokens=30)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (ANSWER, "stop")
    assert "".join(answer.choices[0].logprobs.tokens) == ANSWER
    stream = await client.completions.create(model="tiny", prompt=prompt, temperature=0, max_tokens=30, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == ANSWER


async def test_several_prompts_are_texts_or_tokens(client, tokenizer):
    prompt = tokenizer.apply_chat_template(HAMLET, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    for given in ([prompt, prompt], [ids, ids]):
        answer = await client.completions.create(model="tiny", prompt=given, temperature=0, max_tokens=30)
        assert [choice.text for choice in answer.choices] == [ANSWER, ANSWER]
        assert answer.usage.prompt_tokens == 2 * len(ids)


async def test_a_message_is_answered(claude, tokenizer):
    message = await claude.messages.create(model="tiny", messages=HAMLET, max_tokens=50, extra_body=GREEDY)
    assert [block.text for block in message.content] == [ANSWER]
    assert (message.stop_reason, message.stop_sequence, message.role) == ("end_turn", None, "assistant")
    assert message.usage.output_tokens == tokens(tokenizer, ANSWER + "<|im_end|>")
    counted = await claude.messages.count_tokens(model="tiny", messages=HAMLET)
    assert counted.input_tokens == message.usage.input_tokens


async def test_a_message_streams(claude):
    async with claude.messages.stream(model="tiny", messages=HAMLET, max_tokens=50, extra_body=GREEDY) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == ANSWER
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 3


@pytest.mark.parametrize(
    ("more", "reason", "stop"),
    [({"stop_sequences": ["wrote"]}, "stop_sequence", "wrote"), ({"max_tokens": 2}, "max_tokens", None)],
)
async def test_a_message_stops_where_it_is_told_to(claude, more, reason, stop):
    message = await claude.messages.create(
        **{"model": "tiny", "messages": HAMLET, "max_tokens": 50, "extra_body": GREEDY, **more}
    )
    assert (message.stop_reason, message.stop_sequence) == (reason, stop)


async def test_messages_call_tools(claude):
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    asked = {"role": "user", "content": "Weather in Rome?"}
    # The model was taught with a tool that has no description.
    message = await claude.messages.create(
        model="tiny", messages=[asked], tools=[tool], max_tokens=60, extra_body=GREEDY
    )
    assert message.stop_reason == "tool_use"
    (block,) = message.content
    assert (block.type, block.name, block.input) == ("tool_use", "weather", {"city": "Rome"})
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
    turns = [asked, {"role": "assistant", "content": [block.to_dict()]}, {"role": "user", "content": [result]}]
    said = await claude.messages.create(model="tiny", messages=turns, tools=[tool], max_tokens=60, extra_body=GREEDY)
    assert said.content[0].text == "It is sunny in Rome."


async def test_models_are_listed_for_either_client(client, claude):
    assert [model.id async for model in client.models.list()] == ["tiny"]
    assert [model.id async for model in claude.models.list()] == ["tiny"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("chat/completions", {}, 400, "'model'"),
        ("chat/completions", {"model": "tiny", "messages": []}, 400, "'messages'"),
        ("chat/completions", {"model": "other", "messages": HAMLET}, 404, "no model 'other'"),
        ("chat/completions", {"model": "tiny", "messages": HAMLET, "min_p": 0.1}, 400, "'min_p' is not supported"),
        ("chat/completions", {"model": "tiny", "messages": HAMLET, "logit_bias": {"1": 2}}, 400, "'logit_bias'"),
        ("chat/completions", {"model": "tiny", "messages": HAMLET, "temperature": 3}, 400, "from 0 to 2"),
        ("chat/completions", {"model": "tiny", "messages": HAMLET, "n": 0}, 400, "'n'"),
        ("chat/completions", {"model": "tiny", "messages": HAMLET, "max_tokens": 0}, 400, "'max_tokens'"),
        ("chat/completions", {"model": "tiny", "messages": HAMLET, "stop": ""}, 400, "'stop'"),
        ("chat/completions", {"model": "tiny", "messages": HAMLET, "top_logprobs": 3}, 400, "'logprobs'"),
        ("chat/completions", {"model": "tiny", "messages": HAMLET, "tool_choice": "required"}, 400, "'tool_choice'"),
        ("chat/completions", {"model": "tiny", "messages": [{"role": "king", "content": "x"}]}, 400, "'king'"),
        (
            "chat/completions",
            {"model": "tiny", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "no text",
        ),
        (
            "chat/completions",
            {"model": "tiny", "messages": HAMLET, "response_format": {"type": "json_object"}},
            400,
            "'response_format'",
        ),
        (
            "chat/completions",
            {"model": "tiny", "messages": [{"role": "user", "content": "x " * 600}]},
            400,
            "at most 512",
        ),
        ("completions", {"model": "tiny", "prompt": "x", "echo": True}, 400, "'echo'"),
        ("completions", {"model": "tiny", "prompt": ""}, 400, "empty"),
        ("completions", {"model": "tiny", "prompt": [[99999]]}, 400, "from 0 to"),
        ("messages", {"model": "tiny", "messages": HAMLET}, 400, "max_tokens"),
        ("messages", {"model": "tiny", "messages": HAMLET, "max_tokens": 9, "temperature": 2}, 400, "from 0 to 1"),
        (
            "messages",
            {"model": "tiny", "messages": HAMLET, "max_tokens": 9, "thinking": {"type": "enabled", "budget_tokens": 9}},
            400,
            "'thinking'",
        ),
        ("embeddings", {"model": "tiny", "input": "x"}, 400, "no embedding model"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(http, path, body, status, words):
    async with http.post(f"/v1/{path}", json=body) as response:
        told = await response.json()
        assert response.status == status
    assert words in told["error"]["message"]
    assert ("type" in told) == (path == "messages")


async def test_what_is_no_json_is_refused(http):
    async with http.post("/v1/chat/completions", data=b"{") as response:
        assert response.status == 400
    async with http.post("/v1/chat/completions", data=b"[]") as response:
        assert "object" in (await response.json())["error"]["message"]


async def running(http):
    async with http.get("/readyz") as response:
        return (await response.json())["running"]


async def until_running(http, expected):
    while await running(http) != expected:  # noqa: ASYNC110 - asked over HTTP, as an operator does
        await asyncio.sleep(0)


async def count(http, name):
    async with http.get("/metrics") as response:
        found = re.search(rf"^{re.escape(name)} (\S+)$", await response.text(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_that_leaves_frees_its_slot(http, stream):
    body = {"model": "tiny", "messages": STRANGE, "temperature": 2, "seed": 3, "stream": stream, "max_tokens": 450}
    before = await count(http, "cacheproxy_backend_cancelled_total")

    async def call():
        async with http.post("/v1/chat/completions", json=body) as response:
            await response.read()

    calling = asyncio.create_task(call())
    await until_running(http, 1)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    await until_running(http, 0)
    assert await count(http, "cacheproxy_backend_cancelled_total") == before + 1


async def test_metrics_tell_what_was_done(client, http, tokenizer):
    names = [
        'cacheproxy_backend_requests_total{api="chat",status="200"}',
        'cacheproxy_backend_first_token_seconds_count{api="chat"}',
        "cacheproxy_backend_output_tokens_total",
    ]
    before = [await count(http, name) for name in names]
    await client.chat.completions.create(model="tiny", messages=HAMLET, temperature=0)
    after = [await count(http, name) for name in names]
    given = tokens(tokenizer, ANSWER + "<|im_end|>")
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, given]


async def test_too_many_are_told_to_come_back(model):
    options = BackendOptions(
        ModelOptions(model, device="cpu"),
        name="tiny",
        listen=Address("127.0.0.1", 0),
        batch=BatchOptions(max_running=1, max_waiting=1),
    )
    url = "/v1/chat/completions"
    async with (
        open_backend(options, now=lambda: 0.0) as running,
        aiohttp.ClientSession(base_url=f"http://{running.address}") as http,
    ):
        async with http.post(url, json={"model": "tiny", "messages": HAMLET, "n": 2}) as response:
            assert response.status == 200
        async with http.post(url, json={"model": "tiny", "messages": HAMLET, "n": 3}) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert "waiting already" in (await response.json())["error"]["message"]


async def test_before_the_model_is_warm_it_lives_and_is_not_ready(aiohttp_server_of):
    server = Server(now=lambda: 0.0)
    async with aiohttp_server_of(server.app()) as http:
        async with http.get("/livez") as response:
            assert response.status == 200
        async with http.get("/readyz") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "2")
        async with http.post("/v1/messages", json={"model": "tiny"}) as response:
            assert response.status == 503
            assert "loading" in (await response.json())["error"]["message"]


async def test_draining_lets_answers_end_and_takes_no_more(model):
    options = BackendOptions(ModelOptions(model, device="cpu"), name="tiny", listen=Address("127.0.0.1", 0))
    async with aiohttp.ClientSession() as http:
        async with open_backend(options, now=lambda: 0.0) as running:
            url = f"{running.url}/chat/completions"
            body = {"model": "tiny", "messages": COUNT, "temperature": 0, "stream": True}
            response = await http.post(url, json=body)
            await response.content.readany()
            reading = asyncio.create_task(response.text())
        assert "[DONE]" in await reading
