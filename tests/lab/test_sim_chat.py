from __future__ import annotations

import json

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

USER = [{"role": "user", "content": "Where is my card?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for name in ("get_weather", "get_time")
]


@pytest.fixture
async def client(base):
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk", max_retries=0) as client:
        yield client


async def collected(client, **request):
    """The stream's chunks, each of them checked against the SDK's types."""
    stream = await client.chat.completions.create(model="gpt-4o-mini", stream=True, **request)
    chunks = [chunk async for chunk in stream]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.to_dict())
    return chunks


async def test_an_answer_has_the_providers_shape(client):
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=USER)
    ChatCompletion.model_validate(answer.to_dict())
    assert answer.choices[0].message.content.startswith("[card_arrival] ")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.created == 1_700_000_000
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_same_prompt_gets_the_same_words_under_another_id(client):
    one, other = [await client.chat.completions.create(model="m", messages=USER) for _ in range(2)]
    assert one.choices == other.choices
    assert one.usage == other.usage
    assert one.id != other.id


async def test_a_stream_tells_the_same_answer(client):
    whole = await client.chat.completions.create(model="gpt-4o-mini", messages=USER)
    chunks = await collected(client, messages=USER, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_stream_has_no_usage_unless_it_is_asked_for(client):
    assert not any("usage" in chunk.to_dict() for chunk in await collected(client, messages=USER))


async def test_several_choices_differ(client):
    answer = await client.chat.completions.create(model="m", messages=USER, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    chunks = await collected(client, messages=USER, n=3)
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1, 2}


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_cuts_the_answer(client, limit):
    answer = await client.chat.completions.create(model="m", messages=USER, **{limit: 3})
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)


async def test_tools_are_called_in_parallel_whole_and_streamed(client):
    request = {"messages": [{"role": "user", "content": "get_weather and get_time"}], "tools": TOOLS}
    answer = await client.chat.completions.create(model="gpt-4o-mini", **request)
    ChatCompletion.model_validate(answer.to_dict())
    calls = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None

    async with client.chat.completions.stream(model="gpt-4o-mini", **request) as stream:
        streamed = await stream.get_final_completion()
    told = [(call.function.name, call.function.arguments) for call in streamed.choices[0].message.tool_calls]
    assert told == [(call.function.name, call.function.arguments) for call in calls]


async def test_an_agents_loop_ends_with_words(client):
    messages = [{"role": "user", "content": "get_weather in Ulm"}]
    first = await client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
    call = first.choices[0].message.tool_calls[0]
    messages += [
        first.choices[0].message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"},
    ]
    second = await client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
    assert second.choices[0].message.content == "The tool answered: 12 degrees"


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_time"}}], ids=["any", "named"]
)
async def test_a_tool_can_be_demanded(client, choice):
    answer = await client.chat.completions.create(model="m", messages=USER, tools=TOOLS, tool_choice=choice)
    expected = "get_weather" if choice == "required" else "get_time"
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == [expected]


async def test_a_schema_is_conformed_to(client):
    class Step(BaseModel):
        explanation: str
        number: int

    class Steps(BaseModel):
        steps: list[Step]
        final: str

    answer = await client.chat.completions.parse(model="gpt-4o-mini", messages=USER, response_format=Steps)
    assert answer.choices[0].message.parsed.final.startswith("[card_arrival]")


async def test_json_can_be_asked_for_without_a_schema(client):
    answer = await client.chat.completions.create(model="m", messages=USER, response_format={"type": "json_object"})
    assert "answer" in json.loads(answer.choices[0].message.content)


async def test_completions_are_told_whole_and_streamed(client):
    request = {"model": "gpt-3.5-turbo-instruct", "prompt": ["Where is my card?", "Other"], "n": 2}
    whole = await client.completions.create(**request)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    texts = dict.fromkeys(range(4), "")
    async for chunk in await client.completions.create(**request, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert list(texts.values()) == [choice.text for choice in whole.choices]


@pytest.mark.parametrize("prompt", ["text", [1, 2, 3], [[1, 2], [3]]], ids=["text", "tokens", "lists of tokens"])
async def test_completions_take_every_kind_of_prompt(client, prompt):
    answer = await client.completions.create(model="m", prompt=prompt, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert len(answer.choices) == (2 if prompt == [[1, 2], [3]] else 1)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": USER},
        {"model": "m"},
        {"model": "m", "messages": []},
        {"model": "m", "messages": USER, "max_tokens": 0},
    ],
    ids=["no model", "no messages", "empty messages", "no tokens"],
)
async def test_a_wrong_request_is_refused(client, body):
    with pytest.raises(openai.BadRequestError) as refusal:
        await client.post("/chat/completions", body=body, cast_to=object)
    assert refusal.value.type == "invalid_request_error"


async def test_a_completion_without_a_prompt_is_refused(client):
    with pytest.raises(openai.BadRequestError):
        await client.post("/completions", body={"model": "m"}, cast_to=object)
