from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
import torch

from cacheproxy.backend.batched import BatchOptions, open_batched
from cacheproxy.backend.engine import Ask, Finish, Sampling
from cacheproxy.backend.loading import ModelOptions, Quantize, load
from cacheproxy.errors import BadRequest, ConfigError, Overloaded, PortUnavailable

HOT = Sampling(temperature=6.0, seed=7)


async def until(holds):
    """Let the others run until something holds that must come."""
    while not holds():  # noqa: ASYNC110 - it comes from the library's thread, which knows no events of ours
        await asyncio.sleep(0.001)


@pytest.fixture
def ask(prompter):
    async def ask(question, **more):
        prompt = await prompter.chat([{"role": "user", "content": question}])
        return Ask(prompt.tokens, more.pop("max_tokens", 60), **more)

    return ask


@pytest.fixture
def all_of(engine):
    async def all_of(ask, of=None):
        tokens, finish = [], None
        async with aclosing((of or engine).generate(ask)) as steps:
            async for step in steps:
                tokens += step.tokens
                finish = step.finish or finish
        return tokens, finish

    return all_of


def ids(answer):
    return [token.id for token in answer[0]]


def greedily(loaded, ask):
    """What transformers generates, one sequence at a time."""
    prompt = torch.tensor([ask.prompt])
    found = loaded.model.generate(prompt, max_new_tokens=ask.max_tokens, do_sample=False)
    return found[0, prompt.shape[1] :].tolist()


QUESTIONS = ["What is the capital of France?", "Who wrote Hamlet?", "Count.", "What is two plus two?"]


async def test_a_full_batch_gives_what_each_gives_alone(loaded, ask, all_of):
    asks = [await ask(question, max_tokens=limit) for question in QUESTIONS for limit in (3, 60, 61)]
    batched = await asyncio.gather(*map(all_of, asks))
    assert [ids(answer) for answer in batched] == [greedily(loaded, one) for one in asks]


async def test_it_tells_why_it_stopped(ask, all_of):
    assert (await all_of(await ask("Who wrote Hamlet?")))[1] is Finish.STOP
    assert (await all_of(await ask("Who wrote Hamlet?", max_tokens=2)))[1] is Finish.LENGTH


async def test_a_seed_gives_the_same_alone_and_in_company(ask, all_of):
    hot = await ask("Who wrote Hamlet?", sampling=HOT)
    other = [await ask("Count.", sampling=replace(HOT, seed=seed)) for seed in range(5)]
    alone = await all_of(hot)
    among = (await asyncio.gather(*map(all_of, [*other, hot])))[-1]
    assert ids(alone) == ids(among)
    assert ids(alone) != ids(await all_of(replace(hot, sampling=replace(HOT, seed=8))))


async def test_logprobs_are_those_of_the_model(loaded, ask, all_of):
    one = await ask("Who wrote Hamlet?", logprobs=3)
    told, _ = await all_of(one)
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([[*one.prompt, *(token.id for token in told)]])).logits[0]
    expected = torch.log_softmax(logits[len(one.prompt) - 1 : -1], dim=-1)
    for row, token in zip(expected, told, strict=True):
        assert token.logprob == pytest.approx(row[token.id].item(), abs=1e-4)
        assert [number for number, _ in token.top] == row.topk(3).indices.tolist()


async def test_asks_with_and_without_logprobs_share_a_batch(ask, all_of):
    plain, noted = await asyncio.gather(
        all_of(await ask("Who wrote Hamlet?")), all_of(await ask("Who wrote Hamlet?", logprobs=0))
    )
    assert ids(plain) == ids(noted)
    assert plain[0][0].logprob is None
    assert noted[0][0].logprob < 0
    assert noted[0][0].top == ()


async def test_whoever_leaves_frees_the_slot_and_the_cache(engine, ask):
    steps = engine.generate(await ask("Count.", max_tokens=400))
    await anext(steps)
    assert engine.load.running == 1
    assert engine.load.kv_used > 0
    await steps.aclose()
    assert engine.load.running == 0
    assert engine.counts.cancelled == 1
    await until(lambda: not engine._manager.batch_processor.scheduler.active_requests)
    assert engine._manager.output_router.result_handlers == {}


async def test_what_waits_gets_the_slots_of_those_who_leave(loaded, ask, all_of):
    engine = await open_batched(loaded, BatchOptions(max_running=1))
    first = engine.generate(await ask("Count.", max_tokens=400))
    await anext(first)
    waiting = asyncio.create_task(all_of(await ask("Who wrote Hamlet?"), engine))
    left = asyncio.create_task(all_of(await ask("Who wrote Hamlet?"), engine))
    await until(lambda: engine.load.waiting == 2)
    left.cancel()
    await first.aclose()
    assert (await waiting)[1] is Finish.STOP
    assert (engine.load.running, engine.load.waiting) == (0, 0)
    await engine.aclose()


async def test_a_full_queue_says_so_at_once(loaded, ask, all_of):
    engine = await open_batched(loaded, BatchOptions(max_running=1, max_waiting=1))
    first = engine.generate(await ask("Count.", max_tokens=400))
    await anext(first)
    waiting = asyncio.create_task(all_of(await ask("Who wrote Hamlet?"), engine))
    await until(lambda: engine.load.waiting)
    with pytest.raises(Overloaded, match="1 requests are waiting") as refused:
        await all_of(await ask("Who wrote Hamlet?"), engine)
    assert refused.value.retry_after_s
    await first.aclose()
    await waiting
    await engine.aclose()


async def test_closing_answers_everybody(loaded, ask, all_of):
    engine = await open_batched(loaded, BatchOptions(max_running=1))
    long = await ask("Count.", max_tokens=400)
    tasks = [asyncio.create_task(all_of(long, engine)) for _ in range(2)]
    await until(lambda: engine.load.waiting)
    await engine.aclose()
    assert all(isinstance(error, PortUnavailable) for error in await asyncio.gather(*tasks, return_exceptions=True))
    with pytest.raises(PortUnavailable, match="shut down"):
        await all_of(long, engine)


async def test_more_than_the_context_holds_is_refused(engine, ask, all_of):
    with pytest.raises(BadRequest, match="512 tokens"):
        await all_of(await ask("Count.", max_tokens=512))


POISON = 5


@pytest.fixture
def out_of_memory(loaded, monkeypatch):
    """The device has no memory for batches that hold the poison."""
    forward = loaded.model.forward

    def failing(**inputs):
        if (inputs["input_ids"] == POISON).any():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return forward(**inputs)

    monkeypatch.setattr(loaded.model, "forward", failing)


async def test_out_of_memory_fails_one_ask_and_the_others_go_on(loaded, engine, ask, all_of, out_of_memory):
    good = [await ask(question, logprobs=1) for question in QUESTIONS]
    bad = Ask((POISON, 6, 7), 5)
    answers = await asyncio.gather(*map(all_of, [*good, bad]), return_exceptions=True)
    assert isinstance(answers[-1], PortUnavailable)
    assert "out of memory" in answers[-1].message
    assert answers[-1].retry_after_s
    assert [ids(answer) for answer in answers[:-1]] == [greedily(loaded, one) for one in good]
    assert all(len(token.top) == 1 for answer in answers[:-1] for token in answer[0])
    assert engine.counts.restarts >= 1


async def test_out_of_memory_alone_is_told_after_one_restart(engine, ask, all_of, out_of_memory):
    with pytest.raises(PortUnavailable, match="out of memory"):
        await all_of(Ask((POISON,), 5))
    assert engine.counts.restarts == 1
    assert (await all_of(await ask("Who wrote Hamlet?")))[1] is Finish.STOP


async def test_an_ask_in_the_middle_goes_on_where_it_was(loaded, engine, ask, all_of, out_of_memory):
    long = await ask("Count.", max_tokens=90)
    async with aclosing(engine.generate(long)) as steps:
        told = [token.id for token in (await anext(steps)).tokens]
        broken = asyncio.create_task(all_of(Ask((POISON,), 5)))
        async for step in steps:
            told += [token.id for token in step.tokens]
    assert told == greedily(loaded, long)
    with pytest.raises(PortUnavailable):
        await broken


async def test_what_cannot_be_built_anew_answers_everybody(engine, ask, all_of, out_of_memory, monkeypatch):
    def refuse():
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(engine, "_build", refuse)
    with pytest.raises(PortUnavailable, match="the device is gone"):
        await all_of(Ask((POISON,), 5))


async def test_a_model_that_does_not_run_here_is_told_at_the_start(loaded, monkeypatch):
    def failing(**_):
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(loaded.model, "forward", failing)
    with pytest.raises(ConfigError, match="no kernel for this device"):
        await open_batched(loaded, BatchOptions())


async def test_equal_prompts_share_their_beginning(engine, ask, all_of):
    one = await ask("Count. " * 40, max_tokens=2)
    first = await all_of(one)
    prefill = []
    scheduler = engine._manager.batch_processor.scheduler
    schedule = scheduler.schedule_batch
    scheduler.schedule_batch = lambda *args: prefill.append((found := schedule(*args))[2]) or found
    assert ids(await all_of(one)) == ids(first)
    assert prefill[0] < len(one.prompt) / 2


@pytest.mark.parametrize("quantize", [Quantize.INT8, Quantize.INT4])
async def test_a_quantised_model_runs_in_batches_too(model, ask, all_of, tokenizer, quantize):
    engine = await open_batched(load(ModelOptions(model, device="cpu", quantize=quantize)), BatchOptions())
    one = await ask("Who wrote Hamlet?")
    answers = await asyncio.gather(*(all_of(one, engine) for _ in range(3)))
    assert {tokenizer.decode(ids(answer)) for answer in answers} == {"Shakespeare wrote Hamlet.<|im_end|>"}
    await engine.aclose()
