"""The judge's own error: kept, shared, and of the judge that is asked now."""

from __future__ import annotations

import pytest
from support.switch import Holder

from cacheproxy.core.judge_noise import Noise
from cacheproxy.core.labels import LABELS_LIVE_S
from cacheproxy.errors import PortUnavailable


@pytest.fixture
async def open_certified(open_world):
    async def build(**settings):
        return await open_world(policy="certified", **settings)

    return build


def measure(world, *agreed):
    for each in agreed:
        world.clock.now += 1
        world.flow.pools.pairs.measured(agreed=each)


async def test_what_was_measured_of_the_judge_outlives_a_restart_and_reaches_other_processes(open_certified):
    """Each process measured for itself, paid for pairs of its own, and forgot them when it ended."""
    one, other = await open_certified(), await open_certified()
    measure(one, True, False, True)
    await one.upkeep.flush()
    await other.flow.elsewhere.follow()
    measure(other, False)
    await other.upkeep.flush()
    await one.flow.elsewhere.follow()
    again = await open_certified()
    assert [world.flow.pools.pairs.noise for world in (one, other, again)] == [Noise(4, 2)] * 3
    assert [pool.name for pool in again.flow.pools] == ["default"]
    assert again.pool.earlier == again.pool.total == 0  # no label of a pool, and no look that it spends


async def test_what_another_judge_made_of_pairs_says_nothing_of_this_one(open_certified):
    world = await open_certified()
    measure(world, True, False)
    await world.upkeep.flush()
    other = await open_certified(judge_model="gpt-4o-mini")
    assert other.flow.pools.pairs.noise == Noise()


async def test_pairs_age_as_labels_do(open_certified):
    world = await open_certified()
    measure(world, False)
    world.clock.now += LABELS_LIVE_S
    measure(world, True)
    assert world.flow.pools.pairs.noise == Noise(1, 0)


async def test_pairs_that_the_store_did_not_take_are_written_later(open_certified):
    world = await open_certified(around_labels=(holder := Holder()).around)
    holder.adapter.failing = {"add": PortUnavailable("gone")}
    measure(world, True)
    await world.upkeep.flush()
    holder.adapter.failing = {}
    measure(world, False)
    await world.upkeep.flush()
    assert (await open_certified()).flow.pools.pairs.noise == Noise(2, 1)
