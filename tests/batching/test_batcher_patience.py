"""Who waits patiently stands behind all others, and is not forgotten."""

import asyncio

import pytest
from support.doubling import Model, settled, submitting

from cacheproxy.batching import batcher as batcher_module
from cacheproxy.errors import Overloaded


async def test_patient_items_stand_behind_all_others(opened):
    model = Model(gated=True)
    batcher = opened(model, max_wait_s=0)
    first = submitting(batcher, 0)
    await model.has_started()
    patient = [asyncio.ensure_future(batcher.submit(item, patient=True)) for item in (1, 2)]
    await asyncio.sleep(0)
    urgent = submitting(batcher, 3, 4)
    await asyncio.sleep(0)
    model.let_through(3)
    assert await settled([*first, *patient, *urgent]) == [0, 2, 4, 6, 8]
    assert model.calls == [[0], [3, 4], [1, 2]]


async def test_an_item_that_waits_patiently_comes_sooner_for_somebody_who_does_not(opened):
    model = Model(gated=True)
    batcher = opened(model, max_wait_s=0)
    first = submitting(batcher, 0)
    await model.has_started()
    patient = [asyncio.ensure_future(batcher.submit(item, patient=True)) for item in (1, 2)]
    await asyncio.sleep(0)
    urgent = submitting(batcher, 2)
    await asyncio.sleep(0)
    model.let_through(3)
    assert await settled([*first, *patient, *urgent]) == [0, 2, 4, 4]
    assert model.calls == [[0], [2], [1]]


async def test_patient_items_get_their_turn_under_steady_load(opened, monkeypatch):
    monkeypatch.setattr(batcher_module, "PATIENCE", 2)
    model = Model(gated=True)
    batcher = opened(model, max_items=1, max_wait_s=0)
    urgent = submitting(batcher, *range(6))
    await model.has_started()
    patient = asyncio.ensure_future(batcher.submit(9, patient=True))
    await asyncio.sleep(0)
    model.let_through(7)
    await settled([*urgent, patient])
    assert model.calls == [[0], [1], [2], [9], [3], [4], [5]]


async def test_few_patient_items_are_computed_at_once(opened, monkeypatch):
    monkeypatch.setattr(batcher_module, "PATIENT_AT_ONCE", 2)
    model = Model()
    batcher = opened(model, clock=lambda: 0.0)
    answers = await asyncio.gather(*(batcher.submit(item, patient=True) for item in range(5)))
    assert answers == [0, 2, 4, 6, 8]
    assert [len(call) for call in model.calls] == [2, 2, 1]


async def test_a_crowd_of_patient_items_keeps_nobody_else_out(opened):
    model = Model(gated=True)
    batcher = opened(model, max_waiting=1, max_wait_s=0)
    first = submitting(batcher, 0)
    await model.has_started()
    patient = [asyncio.ensure_future(batcher.submit(item, patient=True)) for item in (1, 2)]
    await asyncio.sleep(0)
    urgent = submitting(batcher, 3)
    await asyncio.sleep(0)
    model.let_through(3)
    answers = await settled([*first, *patient, *urgent])
    assert isinstance(answers.pop(2), Overloaded)
    assert answers == [0, 2, 6]


async def test_a_patient_caller_that_leaves_takes_its_item_along(opened):
    model = Model(gated=True)
    batcher = opened(model, max_wait_s=0)
    first = submitting(batcher, 0)
    await model.has_started()
    leaving = asyncio.ensure_future(batcher.submit(1, patient=True))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    model.let_through()
    await settled(first)
    await batcher.aclose()
    assert model.calls == [[0]]


class Timed(Model):
    """A model that takes so many seconds for an item, by a clock of its own."""

    def __init__(self, item_s):
        super().__init__()
        self.now = 0.0
        self._item_s = item_s

    def answer(self, items):
        self.now += self._item_s * len(items)
        return super().answer(items)


@pytest.mark.parametrize(
    ("item_s", "wanted"),
    [(0.2, [4, 2, 1, 1, 1, 1]), (0.02, [4, 2, 2, 2]), (0.0001, [4, 6])],
    ids=["a long answer on a busy machine", "sentences", "with time to spare"],
)
async def test_patient_items_hold_nobody_up_for_long(opened, item_s, wanted):
    """Sixteen sentences of answers that were judged took longer than the whole deadline of a question."""
    model = Timed(item_s)
    batcher = opened(model, clock=lambda: model.now)
    await asyncio.gather(*(batcher.submit(item, patient=True) for item in range(10)))
    assert [len(call) for call in model.calls] == wanted
