"""Labels that a store takes late, not at all, or twice."""

import asyncio

import pytest
from support.judging import ScriptedJudge, same
from support.promises import ASKED, SIMILAR, audit_wrong_hits, teach
from support.switch import Holder

from cacheproxy.errors import PortUnavailable
from cacheproxy.flow import pools


@pytest.fixture
async def open_certified(open_world):
    async def build(**settings):
        return await open_world(judge=ScriptedJudge(same), policy="certified", max_wrong_per_hit=0.01, **settings)

    return build


@pytest.mark.parametrize(
    "how", ["hang", PortUnavailable("gone"), RuntimeError("bug")], ids=["hangs", "fails", "breaks"]
)
async def test_labels_that_cannot_be_kept_break_no_request(open_certified, how, monkeypatch):
    monkeypatch.setattr("cacheproxy.assembly.WRITE_DEADLINE_S", 0.2)
    world = await open_certified(around_labels=(holder := Holder()).around)
    holder.adapter.failing = dict.fromkeys(("add", "forget", "suspend", "block"), how)
    await world.ask(ASKED)
    await world.ask(SIMILAR[0])
    await world.flow.pools.flush()
    assert (await world.ask(SIMILAR[0])).cache == ("Hit", "exact")
    assert len(world.pool.labels) == 1


async def test_labels_whose_write_failed_are_written_with_the_next_ones(open_certified):
    """They were lost: other processes never heard of them, and after a restart they were gone."""
    world = await open_certified(around_labels=(holder := Holder()).around)
    other = await open_certified()
    holder.adapter.failing = {"add": PortUnavailable("gone")}
    teach(world, 3)
    await world.flow.pools.flush()
    teach(world, 2)
    await world.flow.pools.flush()
    assert list(await world.labels.recent("default", 9)) == []
    holder.adapter.failing = {}
    await world.flow.pools.flush()
    assert list(await world.labels.recent("default", 9)) == list(world.pool.labels)
    await other.flow.elsewhere.follow()
    assert list(other.pool.labels) == list(world.pool.labels)


async def test_labels_whose_write_was_given_up_and_arrived_all_the_same_count_once(open_certified, monkeypatch):
    """The answer is lost, as when a deadline passes or a connection breaks, and what was written is there."""
    monkeypatch.setattr("cacheproxy.assembly.WRITE_DEADLINE_S", 0.2)
    world = await open_certified()
    add, slow = world.labels.add, [True]

    async def answering_late(*labels, **batch):
        done = await add(*labels, **batch)
        if slow:
            slow.pop()
            await asyncio.Event().wait()
        return done

    monkeypatch.setattr(world.labels, "add", answering_late)
    teach(world, 3)
    for _ in range(2):
        await world.flow.pools.flush()
    assert (len(await world.labels.recent("default", 9)), await world.labels.total("default")) == (3, 3)


async def test_labels_of_a_promise_that_broke_are_not_written_again(open_certified):
    world = await open_certified(around_labels=(holder := Holder()).around)
    holder.adapter.failing = {"add": PortUnavailable("gone")}
    teach(world, 3)
    await world.flow.pools.flush()
    holder.adapter.failing = {}
    other = await open_certified()
    await other.labels.forget("default", world.clock.now)
    await world.flow.elsewhere.follow()
    await world.flow.pools.flush()
    assert list(await world.labels.recent("default", 9)) == []


async def test_labels_that_wait_are_bounded_and_what_is_dropped_is_counted(open_certified, monkeypatch):
    monkeypatch.setattr(pools, "MOST_UNWRITTEN", 3)
    world = await open_certified(around_labels=(holder := Holder()).around)
    holder.adapter.failing = {"add": PortUnavailable("gone")}
    for _ in range(2):
        teach(world, 2)
        await world.flow.pools.flush()
    assert 'cacheproxy_dropped_total{what="labels"} 1.0' in world.metrics.render().decode()
    holder.adapter.failing = {}
    await world.flow.pools.flush()
    assert list(await world.labels.recent("default", 9)) == list(world.pool.labels)[:3]


async def test_labels_are_forgotten_as_soon_as_that_is_possible(open_certified):
    world = await open_certified(around_labels=(holder := Holder()).around)
    teach(world, 5)
    await world.flow.pools.flush()
    holder.adapter.failing = {"forget": PortUnavailable("gone")}
    audit_wrong_hits(world)
    await world.flow.pools.flush()
    assert len(await world.labels.recent("default", 99)) == 5
    holder.adapter.failing = {}
    await world.flow.pools.flush()
    # What came after the promise was broken counts again, and is kept.
    assert list(await world.labels.recent("default", 99)) == list(world.pool.labels)


async def test_labels_that_come_while_others_are_being_forgotten_are_kept(open_certified, monkeypatch):
    """They were written at once, and then forgotten with the others."""
    world = await open_certified()
    forget, go_on = world.labels.forget, asyncio.Event()

    async def late(*about):
        await go_on.wait()
        await forget(*about)

    monkeypatch.setattr(world.labels, "forget", late)
    audit_wrong_hits(world)
    assert world.pool.broke_at is not None
    flushing = asyncio.ensure_future(world.flow.pools.flush())
    await asyncio.wait({flushing}, timeout=0.2)  # it must not end before they are forgotten
    go_on.set()
    await flushing
    await world.settled()
    assert list(await world.labels.recent("default", 99)) == list(world.pool.labels) != []
