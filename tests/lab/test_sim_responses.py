from __future__ import annotations

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

QUESTION = "Where is my card?"
TOOLS = [
    {"type": "function", "name": name, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    for name in ("get_weather", "get_time")
]


@pytest.fixture
async def client(base):
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk", max_retries=0) as client:
        yield client


async def events_of(client, **request):
    return [event async for event in await client.responses.create(model="gpt-4o-mini", stream=True, **request)]


async def test_an_answer_has_the_providers_shape(client):
    answer = await client.responses.create(model="gpt-4o-mini", input=QUESTION, instructions="Be brief.")
    Response.model_validate(answer.to_dict())
    assert answer.output_text.startswith("[card_arrival] ")
    assert (answer.status, answer.instructions, answer.store) == ("completed", "Be brief.", True)


async def test_a_stream_tells_the_same_answer_in_numbered_events(client):
    whole = await client.responses.create(model="gpt-4o-mini", input=QUESTION)
    events = await events_of(client, input=QUESTION)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[0].response.usage is None
    assert events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage == whole.usage
    Response.model_validate(events[-1].response.to_dict())


async def test_tools_are_called_and_their_arguments_streamed(client):
    request = {"input": "get_weather and get_time", "tools": TOOLS}
    whole = await client.responses.create(model="gpt-4o-mini", **request)
    Response.model_validate(whole.to_dict())
    called = [(item.type, item.name, item.arguments) for item in whole.output]
    assert [name for _, name, _ in called] == ["get_weather", "get_time"]
    events = await events_of(client, **request)
    arguments = ["", ""]
    for event in events:
        if event.type == "response.function_call_arguments.delta":
            arguments[event.output_index] += event.delta
    assert arguments == [text for _, _, text in called]


async def test_a_tools_result_is_answered_with_words(client):
    conversation = [
        {"role": "user", "content": [{"type": "input_text", "text": "get_weather in Ulm"}]},
        {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "12 degrees"},
    ]
    answer = await client.responses.create(model="m", input=conversation, tools=TOOLS)
    assert answer.output_text == "The tool answered: 12 degrees"


async def test_a_limit_leaves_the_answer_incomplete(client):
    events = await events_of(client, input=QUESTION, max_output_tokens=4)
    assert events[-1].type == "response.incomplete"
    answer = events[-1].response
    assert (answer.status, answer.incomplete_details.reason, answer.usage.output_tokens) == (
        "incomplete",
        "max_output_tokens",
        4,
    )
    assert answer.output[0].status == "incomplete"


async def test_a_schema_is_conformed_to(client):
    class Answer(BaseModel):
        answer: str

    parsed = await client.responses.parse(model="m", input=QUESTION, text_format=Answer)
    assert parsed.output_parsed.answer.startswith("[card_arrival]")
    free = await client.responses.create(model="m", input=QUESTION, text={"format": {"type": "json_object"}})
    assert Answer.model_validate_json(free.output_text)


async def test_stored_responses_are_kept_until_they_are_deleted(client):
    stored = await client.responses.create(model="m", input=QUESTION)
    assert (await client.responses.retrieve(stored.id)).output_text == stored.output_text
    await client.responses.delete(stored.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(stored.id)
    fleeting = await client.responses.create(model="m", input=QUESTION, store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(fleeting.id)


@pytest.mark.parametrize("body", [{"input": "x"}, {"model": "m"}, {"model": "m", "input": []}], ids=str)
async def test_a_wrong_request_is_refused(client, body):
    with pytest.raises(openai.BadRequestError):
        await client.post("/responses", body=body, cast_to=object)
