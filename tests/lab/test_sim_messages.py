from __future__ import annotations

import anthropic
import pytest
from anthropic.types import Message

USER = [{"role": "user", "content": "Where is my card?"}]
TOOLS = [
    {"name": name, "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    for name in ("get_weather", "get_time")
]
REQUEST = {"model": "claude-sonnet-5", "max_tokens": 1000, "messages": USER}


@pytest.fixture
async def client(base):
    async with anthropic.AsyncAnthropic(base_url=base, api_key="sk", max_retries=0) as client:
        yield client


async def streamed(client, **request):
    """The events of a stream, and the message that the SDK made of them."""
    async with client.messages.stream(**request) as stream:
        events = [event async for event in stream]
        return events, await stream.get_final_message()


async def test_an_answer_has_the_providers_shape(client):
    answer = await client.messages.create(**REQUEST, system="Be brief.")
    Message.model_validate(answer.to_dict())
    assert answer.content[0].text.startswith("[card_arrival] ")
    assert answer.stop_reason == "end_turn"


async def test_a_stream_tells_the_same_answer(client):
    whole = await client.messages.create(**REQUEST)
    _, message = await streamed(client, **REQUEST)
    assert message.content[0].text == whole.content[0].text
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == (
        whole.stop_reason,
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )


async def test_the_events_come_in_the_providers_order(client):
    raw = await client.messages.create(**REQUEST, stream=True)
    kinds = [event.type async for event in raw]
    deltas = kinds.count("content_block_delta")
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ], "the SDK keeps pings to itself"


async def test_thoughts_come_first_with_a_signature(client):
    request = REQUEST | {"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    whole = await client.messages.create(**request)
    _, message = await streamed(client, **request)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking == whole.content[0].thinking
    assert message.content[0].signature


async def test_tools_are_called_in_parallel_whole_and_streamed(client):
    request = REQUEST | {"messages": [{"role": "user", "content": "get_weather and get_time"}], "tools": TOOLS}
    whole = await client.messages.create(**request)
    Message.model_validate(whole.to_dict())
    assert whole.stop_reason == "tool_use"
    called = [(block.name, block.input) for block in whole.content]
    assert [name for name, _ in called] == ["get_weather", "get_time"]
    _, message = await streamed(client, **request)
    assert [(block.name, block.input) for block in message.content] == called


async def test_an_agents_loop_ends_with_words(client):
    first = await client.messages.create(**REQUEST, tools=TOOLS, tool_choice={"type": "any"})
    messages = [
        *USER,
        {"role": "assistant", "content": [block.to_dict() for block in first.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": first.content[0].id, "content": "sent"}]},
    ]
    second = await client.messages.create(**REQUEST | {"messages": messages}, tools=TOOLS)
    assert second.content[0].text == "[card_arrival] The tool answered: sent"


@pytest.mark.parametrize(
    ("choice", "called"),
    [({"type": "tool", "name": "get_time"}, ["get_time"]), ({"type": "any"}, ["get_weather"]), ({"type": "none"}, [])],
    ids=["named", "any", "none"],
)
async def test_a_tool_can_be_demanded(client, choice, called):
    answer = await client.messages.create(**REQUEST, tools=TOOLS, tool_choice=choice)
    assert [block.name for block in answer.content if block.type == "tool_use"] == called


async def test_a_schema_is_conformed_to(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 4}}, "required": ["n"]}
    answer = await client.messages.create(
        **REQUEST, output_config={"format": {"type": "json_schema", "schema": schema}}
    )
    assert answer.content[0].text == '{"n":4}'


async def test_a_limit_cuts_the_answer(client):
    answer = await client.messages.create(**REQUEST | {"max_tokens": 3})
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 3)


async def test_tokens_can_be_counted_without_an_answer(client):
    counted = await client.messages.count_tokens(model="m", messages=USER)
    answered = await client.messages.create(**REQUEST | {"model": "m"})
    assert counted.input_tokens == answered.usage.input_tokens


async def test_models_are_listed_in_the_providers_shape(client):
    assert "claude-sonnet-5" in [model.id async for model in client.models.list()]


async def test_a_request_without_a_limit_is_refused(client):
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        await client.post("/v1/messages", body={"model": "m", "messages": USER}, cast_to=object)
