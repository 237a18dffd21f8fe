from __future__ import annotations

import base64

import numpy as np
import pytest

from cacheproxy.backend.embeddings import embedded
from cacheproxy.embed.local import open_local
from cacheproxy.errors import BadRequest, TurnTooLong


@pytest.fixture
async def embedder():
    embedder = await open_local(device="cpu")
    yield embedder
    await embedder.aclose()


async def test_texts_get_the_vectors_that_the_proxy_would_compute(embedder):
    answer = await embedded({"model": embedder.model, "input": ["What is a cache?", "A cat."]}, embedder)
    assert [row["index"] for row in answer["data"]] == [0, 1]
    for row, text in zip(answer["data"], ["What is a cache?", "A cat."], strict=True):
        assert np.allclose(row["embedding"], await embedder.embed(text), atol=1e-5)
    assert answer["usage"]["prompt_tokens"] == 7 + 5  # two special tokens in each


async def test_packed_or_not_the_numbers_are_the_same(embedder):
    body = {"model": embedder.model, "input": "A cat."}
    plain = await embedded(body, embedder)
    packed = await embedded({**body, "encoding_format": "base64"}, embedder)
    numbers = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    assert np.allclose(plain["data"][0]["embedding"], numbers)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": [[1, 2]]}, "token numbers"),
        ({"input": ""}, "none of them empty"),
        ({"input": "x", "dimensions": 5}, "384"),
        ({"input": ["x"] * 2049}, "2048"),
        ({"input": "x", "truncate": True}, "'truncate'"),
        ({}, "input"),
    ],
)
async def test_what_cannot_be_done_is_named(embedder, body, words):
    with pytest.raises(BadRequest, match=words):
        await embedded({"model": embedder.model, **body}, embedder)


async def test_a_text_over_the_window_is_refused_and_not_cut(embedder):
    with pytest.raises(TurnTooLong, match="256 tokens"):
        await embedded({"model": embedder.model, "input": "word " * 300}, embedder)
