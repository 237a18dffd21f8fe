"""The official OpenAI client through the proxy: a hit is what the miss was, in either stream mode."""

from __future__ import annotations

import pytest
from aiohttp import web
from openai import (
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)
from pydantic import BaseModel
from support.openai_requests import MODEL, WEATHER, without_identity

TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"zone": {"type": "string"}},
            "required": ["zone"],
            "additionalProperties": False,
        },
    },
}


class Capital(BaseModel):
    country: str
    capital: str
    inhabitants: int


def asking(question, **members):
    return {"model": MODEL, "messages": [{"role": "user", "content": question}], **members}


CHATS = {
    "text": asking("Why is the sky blue?"),
    "system and history": asking("And what about Mars?")
    | {
        "messages": [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": "How many moons has the Earth?"},
            {"role": "assistant", "content": "One."},
            {"role": "user", "content": "And Mars?"},
        ]
    },
    "content parts": asking([{"type": "text", "text": "Why is"}, {"type": "text", "text": "grass green?"}]),
    "three choices": asking("Name a colour.", n=3),
    "parallel tools": asking("Call get_weather and get_time for Oslo.", tools=[WEATHER, TIME]),
    "a tool's result": asking("")
    | {
        "messages": [
            {"role": "user", "content": "What is the weather?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "rain, 9 degrees"},
        ]
    },
    "json object": asking("Describe a cat as JSON.", response_format={"type": "json_object"}),
    "unknown members": asking("Why do cats purr?", extra_body={"safety_mode": "x", "reasoning": {"effort": "low"}}),
    "cut by its limit": asking("Tell me everything.", max_completion_tokens=3),
}


@pytest.fixture
def client(proxy, api_key):
    with OpenAI(base_url=proxy.v1, api_key=api_key, max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
async def async_client(proxy, api_key):
    async with AsyncOpenAI(base_url=proxy.v1, api_key=api_key, max_retries=0, timeout=60) as client:
        yield client


def streamed(client, request):
    with client.chat.completions.stream(**request) as stream:
        return stream.get_final_completion()


@pytest.mark.parametrize("name", CHATS)
def test_a_hit_is_what_the_miss_was(client, seen, name):
    request = CHATS[name]
    miss = client.chat.completions.with_raw_response.create(**request)
    hit = client.chat.completions.with_raw_response.create(**request)

    assert seen(miss.headers) == ("Miss", "credential-unproven")
    assert seen(hit.headers) == ("Hit", "exact")
    assert without_identity(hit.parse()) == without_identity(miss.parse())
    assert hit.parse().id != miss.parse().id


@pytest.mark.parametrize("name", CHATS)
def test_a_streamed_hit_is_what_the_streamed_miss_was(client, seen, name):
    request = CHATS[name] | {"stream_options": {"include_usage": True}}
    miss, miss_headers = chunks_of(client, request)
    hit, hit_headers = chunks_of(client, request)

    assert seen(miss_headers)[0] == "Miss"
    assert seen(hit_headers) == ("Hit", "exact")
    assert accumulated(hit) == accumulated(miss)
    assert {chunk.id for chunk in hit}.isdisjoint({chunk.id for chunk in miss})


def chunks_of(client, request):
    raw = client.chat.completions.with_raw_response.create(**request, stream=True)
    return list(raw.parse()), raw.headers


def accumulated(chunks):
    """A stream added up, choice by choice."""
    choices = {}
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            held = choices.setdefault(choice.index, {"content": "", "calls": {}, "finish": None})
            held["content"] += choice.delta.content or ""
            held["finish"] = choice.finish_reason or held["finish"]
            for call in choice.delta.tool_calls or ():
                part = held["calls"].setdefault(call.index, {"id": "", "name": "", "arguments": ""})
                part["id"] += call.id or ""
                part["name"] += call.function.name or ""
                part["arguments"] += call.function.arguments or ""
    return {"choices": choices, "usage": usage, "model": chunks[0].model}


@pytest.mark.parametrize("name", ["text", "three choices", "parallel tools", "json object"])
def test_the_helper_for_streams_adds_a_hit_up_to_what_the_miss_was(client, calls, name):
    miss = streamed(client, CHATS[name])
    before = calls()
    hit = streamed(client, CHATS[name])

    assert calls() == before
    assert without_identity(hit) == without_identity(miss)


@pytest.mark.parametrize("first", ["json", "stream"])
def test_one_entry_serves_both_stream_modes(client, calls, first):
    request = CHATS["parallel tools"]
    before = calls()
    asked = {"json": lambda: client.chat.completions.create(**request), "stream": lambda: streamed(client, request)}
    one = asked.pop(first)()
    other = next(iter(asked.values()))()

    assert calls() == before + 1
    assert gist(one) == gist(other)


def gist(completion):
    """What both stream modes tell of an answer."""
    (choice,) = completion.choices
    calls = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls]
    return choice.finish_reason, choice.message.content, calls, completion.model


def test_parallel_tool_calls_come_whole(client):
    for _ in range(2):
        completion = client.chat.completions.create(**CHATS["parallel tools"])
        calls = completion.choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["get_weather", "get_time"]
        assert completion.choices[0].finish_reason == "tool_calls"


def test_a_structured_output_parses_from_a_hit(client):
    request = asking("What is the capital of Norway?", response_format=Capital)
    miss = client.chat.completions.parse(**request)
    hit = client.chat.completions.parse(**request)

    assert isinstance(hit.choices[0].message.parsed, Capital)
    assert hit.choices[0].message.parsed == miss.choices[0].message.parsed
    assert hit.id != miss.id


def test_usage_that_was_not_asked_for_stays_away(client):
    for _ in range(2):
        chunks, _ = chunks_of(client, asking("Who wrote Emma?"))
        assert all(chunk.usage is None for chunk in chunks)
        assert all(chunk.choices for chunk in chunks)


def test_a_hit_that_was_streamed_first_without_usage_knows_its_tokens(client):
    chunks_of(client, asking("Who wrote Ulysses?"))
    hit = client.chat.completions.create(**asking("Who wrote Ulysses?"))

    assert hit.usage.completion_tokens > 0


def test_the_headers_tell_what_the_cache_did(client):
    request = asking("Who painted the Scream?")
    miss = client.chat.completions.with_raw_response.create(**request).headers
    hit = client.chat.completions.with_raw_response.create(**request).headers

    assert miss["cache-status"] == "cacheproxy; fwd=miss; detail=credential-unproven"
    assert float(miss["x-cacheproxy-cost"]) > 0
    assert hit["cache-status"].startswith("cacheproxy; hit; ttl=")
    assert float(hit["x-cacheproxy-saved"]) == pytest.approx(float(miss["x-cacheproxy-cost"]))
    assert hit["x-cacheproxy-cost"] == "0"
    assert hit["x-cacheproxy-entry"]
    assert int(hit["age"]) >= 0
    assert hit["x-request-id"] != miss["x-request-id"]


def test_a_streaming_response_tells_the_same_before_its_first_byte(client, seen):
    request = asking("Who composed the Moldau?")
    for expected in (("Miss", "credential-unproven"), ("Hit", "exact")):
        with client.chat.completions.with_streaming_response.create(**request) as response:
            assert seen(response.headers) == expected
            assert response.parse().choices[0].message.content


@pytest.mark.parametrize("question", ["Why is the sea salt?", "Call get_weather now"])
async def test_the_asynchronous_client_sees_the_same(async_client, seen, question):
    request = asking(question, tools=[WEATHER])
    miss = await async_client.chat.completions.with_raw_response.create(**request)
    hit = await async_client.chat.completions.with_raw_response.create(**request)
    async with async_client.chat.completions.stream(**request) as stream:
        told = await stream.get_final_completion()

    assert seen(hit.headers) == ("Hit", "exact")
    assert without_identity(hit.parse()) == without_identity(miss.parse())
    assert told.choices[0].message.content == miss.parse().choices[0].message.content
    assert told.choices[0].finish_reason == miss.parse().choices[0].finish_reason


def test_controls_travel_as_headers_and_as_litellms_body_object(client, seen):
    request = asking("Why is snow white?")
    client.chat.completions.create(**request)

    def status(**more):
        return seen(client.chat.completions.with_raw_response.create(**request, **more).headers)

    assert status() == ("Hit", "exact")
    assert status(extra_headers={"Cache-Control": "no-cache"}) == ("Refresh", "no-cache")
    assert status(extra_headers={"X-CacheProxy-Mode": "off"}) == ("Bypass", "mode-off")
    assert status(extra_body={"cache": {"no-store": True}}) == ("Bypass", "no-store")
    assert status(extra_body={"cache": {"ttl": 60}}) == ("Hit", "exact")
    assert status(extra_headers={"X-CacheProxy-Namespace": "other"}) == ("Miss", "no-neighbor")


def test_only_if_cached_is_a_504_on_a_miss(client):
    with pytest.raises(APIStatusError) as caught:
        client.chat.completions.create(**asking("Not yet asked?"), extra_headers={"Cache-Control": "only-if-cached"})
    assert caught.value.status_code == 504
    assert caught.value.code == "cacheproxy_not_cached"


def test_an_error_of_ours_is_a_bad_request_with_our_code(client):
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(**asking("x"), extra_headers={"X-CacheProxy-TTL": "soon"})
    assert caught.value.code == "cacheproxy_bad_request"
    assert "X-CacheProxy-TTL" in caught.value.message


def test_an_unknown_provider_is_not_found(proxy, api_key):
    with (
        OpenAI(base_url=f"{proxy.url}/nobody/v1", api_key=api_key, max_retries=0) as client,
        pytest.raises(NotFoundError) as caught,
    ):
        client.chat.completions.create(**asking("x"))
    assert caught.value.code == "cacheproxy_unknown_upstream"


ERRORS = {
    401: (AuthenticationError, {"type": "invalid_request_error", "code": "invalid_api_key", "message": "no such key"}),
    429: (RateLimitError, {"type": "requests", "code": "rate_limit_exceeded", "message": "slow down"}),
}


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("status", ERRORS)
def test_an_upstreams_error_is_the_clients_own(record, serve_proxy, api_key, status, stream):
    kind, error = ERRORS[status]

    async def refuse(_request, _recorded):
        return web.json_response({"error": error}, status=status, headers={"retry-after": "7", "x-request-id": "r-1"})

    upstream = record(refuse)
    served = serve_proxy(upstream.v1)
    with OpenAI(base_url=served.v1, api_key=api_key, max_retries=0) as client:
        for _ in range(2):
            with pytest.raises(kind) as caught:
                client.chat.completions.create(**asking("Hello?"), stream=stream)
            assert caught.value.code == error["code"]
            assert caught.value.response.headers["retry-after"] == "7"
            assert caught.value.request_id == "r-1"
    assert len(upstream.requests) == 2


def test_the_clients_own_retries_work(record, serve_proxy, api_key):
    left = iter([True])

    async def first_refuse(_request, recorded):
        if next(left, False):
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"retry-after-ms": "1"})
        return web.json_response(completion(recorded.json["model"]))

    upstream = record(first_refuse)
    with OpenAI(base_url=serve_proxy(upstream.v1).v1, api_key=api_key, max_retries=2) as client:
        assert client.chat.completions.create(**asking("Hello?")).choices[0].message.content == "Hi."
    assert len(upstream.requests) == 2


def completion(model):
    message = {"role": "assistant", "content": "Hi."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
