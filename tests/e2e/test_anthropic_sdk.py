"""The official Anthropic client through the proxy: a hit is what the miss was, in either stream mode."""

from __future__ import annotations

import pytest
from aiohttp import web
from anthropic import (
    Anthropic,
    APIStatusError,
    AsyncAnthropic,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    RateLimitError,
)

MODEL = "claude-sonnet-5"
WEATHER = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
TIME = {"name": "get_time", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}}


def asking(question, **members):
    return {"model": MODEL, "max_tokens": 2000, "messages": [{"role": "user", "content": question}], **members}


MESSAGES = {
    "text": asking("Why is the sky blue?"),
    "system blocks": asking(
        "What is the policy?",
        system=[
            {"type": "text", "text": "You answer for a bank."},
            {"type": "text", "text": "A long handbook.", "cache_control": {"type": "ephemeral"}},
        ],
    ),
    "content blocks": asking([{"type": "text", "text": "Why is grass green?"}]),
    "parallel tools": asking("Call get_weather and get_time for Oslo.", tools=[WEATHER, TIME]),
    "a tool's result": asking("")
    | {
        "messages": [
            {"role": "user", "content": "What is the weather?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]},
        ]
    },
    "thinking": asking("How many primes are below 20?", thinking={"type": "enabled", "budget_tokens": 1024}),
    "cut by its limit": asking("Tell me everything.", max_tokens=3),
}


@pytest.fixture
def client(proxy, api_key):
    with Anthropic(base_url=proxy.url, api_key=api_key, max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
async def async_client(proxy, api_key):
    async with AsyncAnthropic(base_url=proxy.url, api_key=api_key, max_retries=0, timeout=60) as client:
        yield client


def without_id(message):
    """Everything that a client sees but the id, which every answer has of its own."""
    return {name: value for name, value in message.to_dict().items() if name != "id"}


def streamed(client, request):
    with client.messages.stream(**request) as stream:
        message = stream.get_final_message()
        return message, stream.response.headers


@pytest.mark.parametrize("name", MESSAGES)
def test_a_hit_is_what_the_miss_was(client, seen, name):
    request = MESSAGES[name]
    miss = client.messages.with_raw_response.create(**request)
    hit = client.messages.with_raw_response.create(**request)

    assert seen(miss.headers) == ("Miss", "credential-unproven")
    assert seen(hit.headers) == ("Hit", "exact")
    assert without_id(hit.parse()) == without_id(miss.parse())
    assert hit.parse().id != miss.parse().id
    assert hit.headers["request-id"] != miss.headers["request-id"]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_streamed_hit_is_what_the_streamed_miss_was(client, seen, name):
    miss, _ = streamed(client, MESSAGES[name])
    hit, headers = streamed(client, MESSAGES[name])

    assert seen(headers) == ("Hit", "exact")
    assert without_id(hit) == without_id(miss)


@pytest.mark.parametrize("name", MESSAGES)
def test_one_entry_serves_both_stream_modes(client, calls, name):
    before = calls()
    whole = client.messages.create(**MESSAGES[name])
    told, _ = streamed(client, MESSAGES[name])

    assert calls() == before + 1
    assert [block.to_dict() for block in told.content] == [block.to_dict() for block in whole.content]
    assert (told.stop_reason, told.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


def test_the_events_of_a_hit_come_in_the_documented_order(client):
    for _ in range(2):
        with client.messages.create(**MESSAGES["parallel tools"], stream=True) as events:
            kinds = [event.type for event in events]
        assert kinds[0] == "message_start"
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2


def test_thinking_keeps_its_signature(client):
    first, second = (client.messages.create(**MESSAGES["thinking"]) for _ in range(2))

    assert first.content[0].type == "thinking"
    assert first.content[0].signature
    assert second.content[0].signature == first.content[0].signature


def test_cache_control_does_not_make_another_request(client, seen):
    system = [{"type": "text", "text": "You answer for a bank."}]
    client.messages.create(**asking("What now?", system=system))
    marked = [system[0] | {"cache_control": {"type": "ephemeral"}}]
    hit = client.messages.with_raw_response.create(**asking("What now?", system=marked))

    assert seen(hit.headers) == ("Hit", "exact")


async def test_the_asynchronous_client_sees_the_same(async_client, seen):
    request = MESSAGES["parallel tools"]
    miss = await async_client.messages.create(**request)
    raw = await async_client.messages.with_raw_response.create(**request)
    hit = await raw.parse()
    async with async_client.messages.stream(**request) as stream:
        told = await stream.get_final_message()

    assert seen(raw.headers) == ("Hit", "exact")
    assert without_id(hit) == without_id(miss)
    assert told.content == miss.content


def test_a_streaming_response_tells_the_cache_before_its_first_byte(client, seen):
    for expected in (("Miss", "credential-unproven"), ("Hit", "exact")):
        with client.messages.with_streaming_response.create(**asking("Why is snow white?")) as response:
            assert seen(response.headers) == expected
            assert response.parse().content[0].text


def test_counting_tokens_passes_through(client, calls):
    before = calls()
    counted = [
        client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "How long am I?"}])
        for _ in range(2)
    ]
    assert counted[0].input_tokens == counted[1].input_tokens > 0
    assert calls() == before + 2


def test_models_are_told_in_anthropics_shape(client):
    assert MODEL in {model.id for model in client.models.list()}


def test_an_error_of_ours_is_a_bad_request_in_anthropics_shape(client):
    with pytest.raises(BadRequestError) as caught:
        client.messages.create(**asking("x"), extra_headers={"X-CacheProxy-TTL": "soon"})
    error = caught.value.body["error"]
    assert caught.value.body["type"] == "error"
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "cacheproxy_bad_request"
    assert "X-CacheProxy-TTL" in error["message"]


def test_only_if_cached_is_a_504_on_a_miss(client):
    with pytest.raises(APIStatusError) as caught:
        client.messages.create(**asking("Not yet asked?"), extra_headers={"Cache-Control": "only-if-cached"})
    assert caught.value.status_code == 504
    assert caught.value.body["error"]["code"] == "cacheproxy_not_cached"


def test_an_unknown_provider_is_not_found(proxy, api_key):
    with (
        Anthropic(base_url=f"{proxy.url}/nobody", api_key=api_key, max_retries=0) as client,
        pytest.raises(NotFoundError) as caught,
    ):
        client.messages.create(**asking("x"))
    assert caught.value.body["error"]["code"] == "cacheproxy_unknown_upstream"


ERRORS = {401: (AuthenticationError, "authentication_error"), 429: (RateLimitError, "rate_limit_error")}


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("status", ERRORS)
def test_an_upstreams_error_is_the_clients_own(record, serve_proxy, api_key, status, stream):
    kind, word = ERRORS[status]
    body = {"type": "error", "error": {"type": word, "message": "no"}, "request_id": "req_1"}

    async def refuse(_request, _recorded):
        return web.json_response(body, status=status, headers={"retry-after": "7", "request-id": "req_1"})

    upstream = record(refuse)
    served = serve_proxy(upstream.v1)
    with Anthropic(base_url=served.url, api_key=api_key, max_retries=0) as client:
        for _ in range(2):
            with pytest.raises(kind) as caught:
                client.messages.create(**asking("Hello?"), stream=stream)
            assert caught.value.body == body
            assert caught.value.response.headers["retry-after"] == "7"
            assert caught.value.request_id == "req_1"
    assert len(upstream.requests) == 2


def test_an_error_in_mid_stream_reaches_the_client_and_is_not_stored(record, serve_proxy, api_key):
    start = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    events = [
        {"type": "message_start", "message": start},
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    ]

    async def fail(request, _recorded):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(f"event: {event['type']}\ndata: {web.json_response(event).text}\n\n".encode())
        return response

    upstream = record(fail)
    with Anthropic(base_url=serve_proxy(upstream.v1).url, api_key=api_key, max_retries=0) as client:
        for _ in range(2):
            with pytest.raises(APIStatusError) as caught, client.messages.stream(**asking("Hello?")) as stream:
                stream.get_final_message()
            assert caught.value.body["error"]["type"] == "overloaded_error"
    assert len(upstream.requests) == 2
