from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from cacheproxy.backend.batched import BatchOptions, open_batched
from cacheproxy.backend.engine import Ask, Finish, Sampling
from cacheproxy.backend.loading import ModelOptions
from cacheproxy.backend.speculative import Drafting, SpeculativeEngine, draft_arguments
from cacheproxy.errors import ConfigError, PortUnavailable


@pytest.fixture(params=["assistant", "prompt-lookup"])
async def speculative(request, loaded, model, assistant):
    drafting = Drafting(assistant=assistant) if request.param == "assistant" else Drafting(prompt_lookup=4)
    more = draft_arguments(loaded, drafting, ModelOptions(model, device="cpu"))
    engine = SpeculativeEngine(await open_batched(loaded, BatchOptions()), loaded, more)
    yield engine
    await engine.aclose()


@pytest.fixture
def ask(prompter):
    async def ask(question, **more):
        prompt = await prompter.chat([{"role": "user", "content": question}])
        return Ask(prompt.tokens, more.pop("max_tokens", 60), **more)

    return ask


async def all_of(engine, ask):
    tokens, finish, steps_taken = [], None, 0
    async with aclosing(engine.generate(ask)) as steps:
        async for step in steps:
            tokens += [token.id for token in step.tokens]
            finish = step.finish or finish
            steps_taken += bool(step.tokens)
    return tokens, finish, steps_taken


@pytest.mark.parametrize("question", ["Who wrote Hamlet?", "What is two plus two?", "Count."])
@pytest.mark.parametrize("most", [2, 60])
async def test_drafts_change_nothing_in_what_is_said(engine, speculative, ask, question, most):
    one = await ask(question, max_tokens=most)
    assert (await all_of(speculative, one))[:2] == (await all_of(engine, one))[:2]


# What a model says to a question that it was not taught is another thing on another processor.
async def test_several_tokens_come_out_of_one_pass(speculative, ask):
    tokens, _, steps = await all_of(speculative, await ask("What is the capital of France?"))
    assert steps < len(tokens)
    assert speculative.counts.drafted == len(tokens) - steps


@pytest.mark.parametrize("more", [{"sampling": Sampling(temperature=1.0, seed=1)}, {"logprobs": 1}])
async def test_what_drafts_do_not_serve_goes_to_the_batch(engine, speculative, ask, more):
    one = await ask("Who wrote Hamlet?", **more)
    assert (await all_of(speculative, one))[:2] == (await all_of(engine, one))[:2]
    assert speculative.counts.drafted == 0


async def test_whoever_comes_meanwhile_goes_to_the_batch(engine, speculative, ask):
    asks = [await ask(question) for question in ("Count.", "Who wrote Hamlet?", "What colour is the sky?")]
    together = await asyncio.gather(*(all_of(speculative, one) for one in asks))
    assert [answer[:2] for answer in together] == [(await all_of(engine, one))[:2] for one in asks]
    assert speculative.load.running == 0


async def test_whoever_leaves_stops_it(speculative, ask):
    steps = speculative.generate(await ask("Count.", max_tokens=450))
    await anext(steps)
    assert speculative.load.running == 1
    await steps.aclose()
    assert speculative.load.running == 0
    assert speculative.counts.cancelled == 1
    assert (await all_of(speculative, await ask("Who wrote Hamlet?")))[1] is Finish.STOP


async def test_a_failure_is_told_and_the_next_one_is_answered(speculative, ask, monkeypatch):
    one = await ask("Who wrote Hamlet?")

    def failing(*_, **__):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(speculative._model, "generate", failing)
        with pytest.raises(PortUnavailable, match="out of memory"):
            await all_of(speculative, one)
    assert (await all_of(speculative, one))[1] is Finish.STOP


def test_an_assistant_that_does_not_exist_is_told(loaded):
    with pytest.raises(ConfigError, match="no such folder"):
        draft_arguments(loaded, Drafting("/nowhere/at-all"), ModelOptions("", device="cpu"))


def test_an_assistant_with_another_tokenizer_is_refused(loaded, assistant, tmp_path):
    other = shutil.copytree(assistant, tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["entirely new"])
    tokenizer.save_pretrained(other)
    roomy = AutoModelForCausalLM.from_pretrained(other)
    roomy.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    roomy.save_pretrained(other)
    with pytest.raises(ConfigError, match="another tokenizer"):
        draft_arguments(loaded, Drafting(str(other)), ModelOptions("", device="cpu"))
