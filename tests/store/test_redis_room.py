"""Making room: the oldest of all shards go first, wherever they are."""

from __future__ import annotations

import pytest
from support.stores import make_entry

from cacheproxy.model import Selection
from cacheproxy.store.entries import StoreLimits


def ours(number, **changes):
    entry = make_entry(f"{number:03}")
    return make_entry(f"{number:03}", id=f"id-{number:03}z{entry.key[:2].hex()}", **changes)


async def numbers(store):
    return [int(entry.id[3:6]) for entry in await store.browse(Selection(), limit=999)]


@pytest.mark.parametrize("shards", [1, 16])
async def test_what_was_used_longest_ago_goes_whatever_its_shard(redis_world, shards):
    store = await redis_world.open(StoreLimits(max_entries=30), shards=shards)
    for number in range(30):
        redis_world.now += 1
        await store.put(ours(number))
    await store.touch({ours(number).id: 1 for number in range(5)}, redis_world.now + 1)
    redis_world.now += 2
    await store.put(*(ours(number) for number in range(100, 110)))
    assert await numbers(store) == [*range(5), *range(15, 30), *range(100, 110)]


async def test_a_put_of_more_than_fits_keeps_its_last(redis_world):
    store = await redis_world.open(StoreLimits(max_entries=3))
    await store.put(*(ours(number) for number in range(10)))
    kept = await numbers(store)
    assert len(kept) == 3
    assert 9 in kept


async def test_what_other_processes_stored_counts_at_the_next_sweep(redis_world):
    store = await redis_world.open(StoreLimits(max_entries=10))
    generous = await redis_world.open(StoreLimits(max_entries=1000))
    for number in range(20):
        redis_world.now += 1
        await generous.put(ours(number))
    assert await store.sweep(redis_world.now) == 10
    assert await numbers(store) == list(range(10, 20))


async def test_a_full_store_does_not_evict_with_every_put(redis_world):
    store = await redis_world.open(StoreLimits(max_entries=200))
    for start in range(0, 200, 50):
        redis_world.now += 1
        await store.put(*(ours(number) for number in range(start, start + 50)))
    await store.put(ours(300))
    assert await store.count() == 198
