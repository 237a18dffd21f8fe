"""Every waiter is answered, whatever happens to the model, the other callers or the process."""

import asyncio
import threading
from contextlib import suppress

import pytest
from support.doubling import Model, settled, submitting

from cacheproxy.batching.batcher import Batcher
from cacheproxy.errors import Overloaded, PortUnavailable, TurnTooLong


async def all_wait(batcher, count):
    await asyncio.sleep(0)  # each submitting task takes its first step
    assert len(batcher._waiting) == count


async def test_each_caller_gets_the_result_of_its_own_item(opened):
    batcher = opened(Model())
    assert await settled(submitting(batcher, *range(200))) == [2 * item for item in range(200)]


async def test_an_idle_batcher_starts_with_the_first_item_and_collects_the_rest(opened):
    model = Model(gated=True)
    batcher = opened(model)
    first = submitting(batcher, 1)
    await model.has_started()
    rest = submitting(batcher, 2, 3, 4)
    await all_wait(batcher, 3)
    model.let_through(2)
    assert await settled(first + rest) == [2, 4, 6, 8]
    assert model.calls == [[1], [2, 3, 4]]


async def test_the_model_runs_in_one_thread_that_is_not_the_event_loops(opened):
    model = Model()
    batcher = opened(model)
    for item in range(3):
        await batcher.submit(item)
    assert len(model.threads) == 1
    assert threading.current_thread().name not in model.threads


async def test_a_batch_holds_at_most_max_items(opened):
    model = Model()
    batcher = opened(model, max_items=4)
    await settled(submitting(batcher, *range(10)))
    assert max(map(len, model.calls)) == 4
    assert [item for call in model.calls for item in call] == list(range(10))


async def test_after_a_batch_of_several_it_waits_for_its_callers_to_come_back(opened):
    model = Model()
    batcher = opened(model, max_wait_s=30)

    async def caller(item):
        await batcher.submit(item)
        for _ in range(item):  # they come back one after another
            await asyncio.sleep(0)
        await batcher.submit(item + 100)

    await asyncio.gather(*(caller(item) for item in range(5)))
    assert [len(call) for call in model.calls] == [5, 5]


async def test_equal_items_are_computed_once_waiting_or_running(opened):
    model = Model(gated=True)
    batcher = opened(model)
    running = submitting(batcher, 1)
    await model.has_started()
    more = submitting(batcher, 1, 2, 2, 1)
    await all_wait(batcher, 1)
    model.let_through(2)
    assert await settled(running + more) == [2, 2, 4, 4, 2]
    assert model.calls == [[1], [2]]


async def test_a_full_queue_says_so_at_once_and_equal_items_still_share(opened):
    model = Model(gated=True)
    batcher = opened(model, max_waiting=2)
    tasks = submitting(batcher, 1)
    await model.has_started()
    tasks += submitting(batcher, 2, 3)
    await all_wait(batcher, 2)
    with pytest.raises(Overloaded) as full:
        await batcher.submit(4)
    assert full.value.retry_after_s is not None
    tasks += submitting(batcher, 3)
    model.let_through(2)
    assert await settled(tasks) == [2, 4, 6, 6]


async def test_callers_that_left_are_dropped_before_their_batch_and_free_their_place(opened):
    model = Model(gated=True)
    batcher = opened(model, max_waiting=2)
    first = submitting(batcher, 1)
    await model.has_started()
    left, stayed = submitting(batcher, 2, 3)
    await all_wait(batcher, 2)
    left.cancel()
    await settled([left])
    late = submitting(batcher, 4)
    await all_wait(batcher, 2)
    model.let_through(2)
    assert await settled([*first, stayed, *late]) == [2, 6, 8]
    assert model.calls == [[1], [3, 4]]


async def test_an_item_stays_while_one_of_its_callers_does(opened):
    model = Model(gated=True)
    batcher = opened(model)
    first = submitting(batcher, 1)
    await model.has_started()
    left, stayed = submitting(batcher, 2, 2)
    await all_wait(batcher, 1)
    left.cancel()
    model.let_through(2)
    assert await settled([*first, stayed]) == [2, 4]


async def test_results_are_delivered_batch_by_batch(opened):
    second = threading.Event()

    def compute(items):
        yield [(0, "first")]
        assert second.wait(30)
        yield [(1, "second")]

    early, late = submitting(opened(compute), "a", "b")
    assert await early == "first"
    assert not late.done()
    second.set()
    assert await late == "second"


async def test_an_items_own_error_reaches_its_caller_only(opened):
    def compute(items):
        yield [(0, TurnTooLong("too long")), (1, "fine")]

    bad, good = await settled(submitting(opened(compute), "a", "b"))
    assert isinstance(bad, TurnTooLong)
    assert good == "fine"


async def test_one_poisonous_item_does_not_fail_the_others(opened):
    class Poisoned(Model):
        def answer(self, items):
            if 13 in items:
                raise ValueError("unlucky")
            yield from super().answer(items)

    model = Poisoned()
    *good, bad = await settled(submitting(opened(model), 1, 2, 13))
    assert good == [2, 4]
    assert isinstance(bad, PortUnavailable)
    assert "unlucky" in str(bad)
    assert model.calls == [[1, 2, 13], [1], [2], [13]]


async def test_what_was_answered_before_a_failure_is_not_computed_again(opened):
    calls = []

    def compute(items):
        calls.append(list(items))
        yield [(0, items[0])]
        if len(items) > 1:
            raise ValueError("half way")

    assert await settled(submitting(opened(compute), "a", "b")) == ["a", "b"]
    assert calls == [["a", "b"], ["b"]]


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(1), KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize("count", [1, 3])
async def test_a_model_that_always_raises_answers_every_caller_and_the_batcher_lives_on(opened, error, count):
    broken = True

    def compute(items):
        if broken:
            raise error
        yield [(position, item) for position, item in enumerate(items)]

    batcher = opened(compute)
    answers = await settled(submitting(batcher, *range(count)))
    assert [type(answer) for answer in answers] == [PortUnavailable] * count
    broken = False
    assert await batcher.submit(7) == 7


@pytest.mark.parametrize(
    "compute",
    [lambda items: [], lambda items: [[(5, "nobody's")]], lambda items: [[]], lambda items: None],
    ids=["nothing", "unknown position", "empty batch", "no batches at all"],
)
async def test_a_missing_result_is_an_error_for_its_caller(opened, compute):
    with pytest.raises(PortUnavailable):
        await opened(compute).submit("a")


async def test_closing_answers_the_running_and_the_waiting_without_waiting_for_the_model(opened):
    model = Model(gated=True)
    batcher = opened(model)
    tasks = submitting(batcher, 1)
    await model.has_started()
    tasks += submitting(batcher, 2, 3)
    await all_wait(batcher, 2)
    await batcher.aclose()
    assert [type(answer) for answer in await settled(tasks)] == [PortUnavailable] * 3
    model.let_through(9)
    with pytest.raises(PortUnavailable, match="shut down"):
        await batcher.submit(4)


async def test_closing_answers_a_caller_that_came_in_the_same_moment():
    batcher = Batcher(Model(), name="doubler")
    task = asyncio.ensure_future(batcher.submit(1))
    await asyncio.sleep(0)
    await batcher.aclose()
    assert isinstance((await settled([task]))[0], PortUnavailable)


async def test_a_batch_that_outlives_its_event_loop_ends_quietly():
    model = Model(gated=True)

    async def leave():
        batcher = Batcher(model, name="doubler")
        submitting(batcher, 1)
        await model.has_started()
        await batcher.aclose()
        return batcher

    batcher = await asyncio.to_thread(asyncio.run, leave())
    model.let_through()
    await asyncio.to_thread(batcher._thread.shutdown, wait=True)
    assert model.calls == [[1]]


async def test_a_thread_that_cannot_start_is_an_error_for_the_caller(opened):
    batcher = opened(Model())
    batcher._thread.shutdown()
    with pytest.raises(PortUnavailable):
        await batcher.submit(1)


async def test_each_batch_is_reported_with_its_size_and_seconds(opened):
    reports = []

    def compute(items):
        yield [(0, "a")]
        yield [(1, "b"), (2, "c")]

    batcher = opened(compute, on_batch=lambda size, seconds: reports.append((size, seconds)))
    await settled(submitting(batcher, 1, 2, 3))
    assert [size for size, _ in reports] == [1, 2]
    assert all(seconds >= 0 for _, seconds in reports)


async def test_callers_that_come_and_go_at_random_are_all_answered(opened):
    batcher = opened(Model(), max_items=3, max_wait_s=0)

    async def caller(number):
        task = asyncio.ensure_future(batcher.submit(number % 7))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        if number % 3 == 0:
            task.cancel()
        with suppress(asyncio.CancelledError):
            assert await task == number % 7 * 2

    await asyncio.gather(*(caller(number) for number in range(300)))
    assert not batcher._waiting
    assert not batcher._running
