from __future__ import annotations

import numpy as np
import openai
import pytest


@pytest.fixture
async def client(base):
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk", max_retries=0) as client:
        yield client


async def test_vectors_are_the_same_packed_or_plain(client):
    packed = await client.embeddings.create(model="text-embedding-3-small", input="a")  # the SDK asks for base64
    plain = await client.embeddings.create(model="text-embedding-3-small", input="a", encoding_format="float")
    assert len(packed.data[0].embedding) == 1536
    assert np.allclose(packed.data[0].embedding, plain.data[0].embedding)
    assert np.linalg.norm(plain.data[0].embedding) == pytest.approx(1, abs=1e-5)


async def test_a_list_is_answered_in_its_order(client):
    listed = await client.embeddings.create(model="m", input=["a", "b", "a"], dimensions=8)
    alone = await client.embeddings.create(model="m", input="b", dimensions=8)
    assert [item.index for item in listed.data] == [0, 1, 2]
    assert listed.data[1].embedding == alone.data[0].embedding
    assert listed.data[0].embedding == listed.data[2].embedding
    assert len(alone.data[0].embedding) == 8


@pytest.mark.parametrize(
    ("given", "count", "tokens"),
    [("one two", 1, 2), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3), (["a", "b"], 2, 2)],
    ids=["text", "tokens", "lists of tokens", "texts"],
)
async def test_every_kind_of_input_is_taken(client, given, count, tokens):
    answer = await client.embeddings.create(model="m", input=given, dimensions=4)
    assert (len(answer.data), answer.usage.prompt_tokens) == (count, tokens)


@pytest.mark.parametrize("given", [None, "", [], ["a", ""], [1.5], {"a": 1}], ids=str)
async def test_other_inputs_are_refused(client, given):
    with pytest.raises(openai.BadRequestError):
        await client.post("/embeddings", body={"model": "m", "input": given}, cast_to=object)
