"""The official OpenAI client through the proxy, in the APIs besides chat."""

from __future__ import annotations

import pytest
from openai import (
    OpenAI,
)
from support.openai_requests import MODEL, WEATHER, without_identity


@pytest.fixture
def client(proxy, api_key):
    with OpenAI(base_url=proxy.v1, api_key=api_key, max_retries=0, timeout=60) as client:
        yield client


def test_completions_are_cached_in_both_stream_modes(client, seen):
    request = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon a time"}
    miss = client.completions.with_raw_response.create(**request)
    hit = client.completions.with_raw_response.create(**request)
    stream = client.completions.with_raw_response.create(**request, stream=True)

    assert seen(hit.headers) == seen(stream.headers) == ("Hit", "exact")
    assert without_identity(hit.parse()) == without_identity(miss.parse())
    text = "".join(chunk.choices[0].text for chunk in stream.parse() if chunk.choices)
    assert text == miss.parse().choices[0].text


RESPONSES = {
    "text": {"input": "Why do leaves fall?"},
    "items": {"input": [{"role": "user", "content": "Why do birds sing?"}], "instructions": "Be brief."},
    "tools": {
        "input": "Use get_weather for Oslo.",
        "tools": [{"type": "function", "name": "get_weather", "parameters": WEATHER["function"]["parameters"]}],
    },
}


@pytest.mark.parametrize("store", [False, None], ids=["not stored", "stored"])
@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_is_cached(client, seen, name, store):
    request = {"model": MODEL, **RESPONSES[name]} | ({} if store is None else {"store": store})
    miss = client.responses.with_raw_response.create(**request)
    hit = client.responses.with_raw_response.create(**request)

    assert seen(hit.headers) == ("Hit", "exact")
    assert without_identity_of_response(hit.parse()) == without_identity_of_response(miss.parse())
    assert (hit.parse().id == miss.parse().id) == (store is None)


def without_identity_of_response(response):
    return {name: value for name, value in without_identity(response).items() if name != "completed_at"}


@pytest.mark.parametrize("name", RESPONSES)
def test_a_streamed_response_hits_and_adds_up(client, name):
    request = {"model": MODEL, "store": False, **RESPONSES[name]}
    told = []
    for _ in range(2):
        with client.responses.stream(**request) as stream:
            kinds = [event.type for event in stream]
            told.append((kinds, stream.get_final_response()))
    (_, miss), (kinds, hit) = told

    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert hit.id != miss.id
    assert hit.output_text == miss.output_text
    assert without_identity_of_response(hit)["output"] == without_identity_of_response(miss)["output"]
    assert hit.usage == miss.usage


def test_a_deleted_response_is_evicted(client, seen):
    request = {"model": MODEL, "input": "Why is blood red?"}
    first = client.responses.create(**request)
    assert client.responses.create(**request).id == first.id
    assert client.responses.retrieve(first.id).id == first.id
    client.responses.delete(first.id)
    again = client.responses.with_raw_response.create(**request)

    assert seen(again.headers)[0] == "Miss"
    assert again.parse().id != first.id


def test_embeddings_are_cached_input_by_input(client, calls, seen):
    def embed(*texts):
        raw = client.embeddings.with_raw_response.create(model="text-embedding-3-small", input=list(texts))
        return raw.headers, [row.embedding for row in raw.parse().data]

    _, (one, two) = embed("one", "two")
    before = calls()
    headers, turned = embed("two", "one")
    assert seen(headers) == ("Hit", "exact")
    assert turned == [two, one]
    assert calls() == before

    headers, mixed = embed("two", "three", "one")
    assert seen(headers)[0] == "Miss"
    assert calls() == before + 1
    assert (mixed[0], mixed[2]) == (two, one)
    assert mixed[1] not in (one, two)


def test_a_single_embedding_keeps_its_encoding(client, seen):
    request = {"model": "text-embedding-3-small", "input": "four", "encoding_format": "float"}
    miss = client.embeddings.with_raw_response.create(**request)
    hit = client.embeddings.with_raw_response.create(**request)

    assert seen(hit.headers) == ("Hit", "exact")
    assert hit.parse().to_dict() == miss.parse().to_dict()


def test_models_pass_through(client):
    assert MODEL in {model.id for model in client.models.list()}
