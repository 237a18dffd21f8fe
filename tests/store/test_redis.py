"""What is particular to the store in Redis: round trips, damage, versions, lifetimes, and what is told to whom."""

from __future__ import annotations

import asyncio
import math

import pytest
from support.stores import NOW, digest, direction, embedded, make_entry

from cacheproxy.errors import PortUnavailable
from cacheproxy.model import Selection
from cacheproxy.store import codec
from cacheproxy.store.entries import StoreLimits


def ours(name, **changes):
    """An entry whose id tells its shard, as the proxy's own do."""
    entry = make_entry(name, **changes)
    return make_entry(name, **{"id": f"id-{name}z{entry.key[:2].hex()}", **changes})


def trips(store):
    return store._link.round_trips


# --- round trips


async def test_an_exact_look_up_is_one_round_trip(redis_world):
    store = await redis_world.open()
    entry = ours("a")
    await store.put(entry)
    await store.find(entry.key)  # a server that does not know the script is sent it once
    before = trips(store)
    assert list(await store.find(entry.key)) == [entry]
    assert trips(store) - before == 1


async def test_entries_are_loaded_in_one_round_trip_wherever_they_are(redis_world):
    store = await redis_world.open()
    entries = [ours(str(number)) for number in range(8)]
    await store.put(*entries)
    before = trips(store)
    assert list(await store.load([entry.id for entry in entries])) == entries
    assert trips(store) - before == 1


async def test_an_id_of_another_store_is_looked_for_everywhere_in_one_round_trip(redis_world):
    store = await redis_world.open()
    await store.put(make_entry("a"))
    before = trips(store)
    assert list(await store.load(["id-a"])) == [make_entry("a")]
    assert trips(store) - before == 1


async def test_look_ups_at_the_same_moment_share_a_round_trip(redis_world):
    store = await redis_world.open()
    entries = [ours(str(number)) for number in range(50)]
    await store.put(*entries)
    await store.find(entries[0].key)
    before = trips(store)
    found = await asyncio.gather(*(store.find(entry.key) for entry in entries))
    assert [list(each) for each in found] == [[entry] for entry in entries]
    assert trips(store) - before == 1


async def test_many_entries_are_stored_in_one_round_trip(redis_world):
    store = await redis_world.open()
    await store.put(ours("before"))
    before = trips(store)
    await store.put(*(ours(str(number)) for number in range(50)))
    assert trips(store) - before == 1


async def test_following_a_quiet_store_is_one_round_trip(redis_world):
    store = await redis_world.open()
    before = trips(store)
    assert list(await store.changes()) == []
    assert trips(store) - before == 1


# --- damage, and other releases


async def stored_bytes(world, entry, change):
    """Changes an entry's bytes behind the store's back."""
    client = await world.client()
    (name,) = [key async for key in client.scan_iter(f"{{{world.prefix}:*}}:e:{entry.id}")]
    await client.hset(name, "p", change(await client.hget(name, "p")))
    return client, name


async def test_a_damaged_entry_is_absent_counted_and_deleted(redis_world):
    store, entry = await redis_world.open(), ours("a")
    await store.put(entry)
    client, name = await stored_bytes(redis_world, entry, lambda text: text[:-1] + b"?")
    assert list(await store.find(entry.key)) == []
    assert (store.corrupt_rows, await client.exists(name), await store.count()) == (1, 0, 0)
    assert list(await store.load([entry.id])) == []


async def test_an_entry_of_a_later_release_is_absent_and_stays(redis_world):
    store, entry = await redis_world.open(), ours("a")
    await store.put(entry)
    client, name = await stored_bytes(redis_world, entry, lambda text: bytes([codec.VERSION + 1]) + text[1:])
    assert list(await store.find(entry.key)) == []
    assert list(await store.load([entry.id])) == []
    assert (store.corrupt_rows, await client.exists(name), await store.count()) == (0, 1, 1)
    assert await store.remove(Selection(ids=[entry.id])) == 1


async def test_an_entry_of_the_release_before_is_read(redis_world):
    store, entry = await redis_world.open(), ours("a")
    await store.put(entry)
    await stored_bytes(redis_world, entry, lambda _: codec.encode(entry, version=codec.VERSION - 1))
    assert list(await store.find(entry.key)) == [entry]
    assert list(await store.load([entry.id])) == [entry]


# --- lifetimes


@pytest.mark.parametrize("pinned_by", ["put", "expire_at"])
async def test_an_entry_goes_by_itself_some_time_after_it_expired_unless_it_is_pinned(redis_world, pinned_by):
    store, mortal = await redis_world.open(), ours("a", expires_at=NOW + 100)
    pinned = ours("b", expires_at=math.inf if pinned_by == "put" else NOW + 100)
    await store.put(mortal, pinned)
    if pinned_by == "expire_at":
        await store.expire_at(pinned.id, math.inf)
    client = await redis_world.client()
    lives = {
        key.rpartition(b":")[2].decode(): await client.ttl(key)
        async for key in client.scan_iter(f"{{{redis_world.prefix}:*}}:e:*")
    }
    assert 100 < lives[mortal.id] <= 700
    assert lives[pinned.id] == -1


async def test_an_entry_that_went_by_itself_is_swept_from_the_books_and_told(redis_world):
    store, other = await redis_world.open(), await redis_world.open()
    entry = ours("a", expires_at=NOW + 100)
    await store.put(entry)
    await store.set_vector(entry.id, direction(1, 0, 0, 0), entry.id)
    await other.changes()
    client = await redis_world.client()
    async for key in client.scan_iter(f"{{{redis_world.prefix}:*}}:e:*"):
        await client.delete(key)  # as its time to live would
    assert list(await store.find(entry.key)) == []
    assert await store.sweep(NOW + 100) == 1
    assert (await store.count(), [change.entry_id for change in await other.changes()]) == (0, [entry.id])


async def test_a_store_that_is_emptied_leaves_next_to_nothing(redis_world):
    store = await redis_world.open()
    for number in range(20):
        entry = ours(str(number), tags=("t",))
        await store.put(entry)
        await store.set_vector(entry.id, direction(1, 0, 0, 0), "id-root")
    await store.remove(Selection())
    client = await redis_world.client()
    kinds = {key.split(b":")[2] async for key in client.scan_iter(f"{{{redis_world.prefix}:*}}:*")}
    assert kinds == {b"meta", b"log"}


async def test_hits_that_arrive_twice_are_counted_once(redis_world, monkeypatch):
    store, entry = await redis_world.open(), ours("a")
    await store.put(entry)
    ask_all = store._link.ask_all

    async def twice(commands):
        await ask_all(commands)
        return await ask_all(commands)

    monkeypatch.setattr(store._link, "ask_all", twice)
    await store.touch({entry.id: 3}, NOW)
    monkeypatch.undo()
    assert (await store.uses([entry.id]))[entry.id].hits == 3


# --- what is told


async def test_what_is_read_while_it_is_purged_is_not_used(redis_world, monkeypatch):
    """Else a reader would put it into memory just after everybody had dropped it."""
    store, other = await redis_world.open(), await redis_world.open()
    entry = ours("a")
    await store.put(entry)
    read, go_on = asyncio.Event(), asyncio.Event()
    decoded = store._decoded

    async def slowly(rows):
        read.set()
        await go_on.wait()
        return await decoded(rows)

    monkeypatch.setattr(store, "_decoded", slowly)
    finding = asyncio.ensure_future(store.find(entry.key))
    await read.wait()
    await other.remove(Selection())
    assert [change.entry_id for change in await store.changes()] == [entry.id]
    go_on.set()
    assert list(await finding) == []


async def test_an_index_is_filled_from_what_is_there_and_goes_on_from_what_changed_since(redis_world):
    store, other = await redis_world.open(), await redis_world.open()
    for name in "ab":
        await store.put(ours(name))
        await store.set_vector(ours(name).id, direction(1, 0, 0, 0), ours(name).id)
    late = await redis_world.open()
    await other.remove(Selection(ids=[ours("a").id]))
    assert list(await embedded(late)) == [ours("b").id]
    assert [change.row for change in await late.changes()] == [None]


# --- failures


async def test_a_server_without_memory_refuses_and_still_serves(own_redis, own_world):
    store, entry = await own_world.open(), ours("a")
    await store.put(entry)
    own_redis.client.config_set("maxmemory-policy", "noeviction")
    own_redis.client.config_set("maxmemory", 1)
    with pytest.raises(PortUnavailable):
        await store.put(ours("b"))
    assert list(await store.find(entry.key)) == [entry]
    own_redis.client.config_set("maxmemory", 0)
    await store.put(ours("b"))


async def test_a_server_that_became_a_replica_refuses_and_still_serves(own_redis, own_world):
    store, entry = await own_world.open(), ours("a")
    await store.put(entry)
    own_redis.client.replicaof("127.0.0.1", 1)
    with pytest.raises(PortUnavailable, match=r"(?i)read.?only"):
        await store.put(ours("b"))
    assert list(await store.find(entry.key)) == [entry]


async def test_a_server_that_answers_nothing_is_given_up_and_used_again_once_it_does(own_redis, own_world):
    store, entry = await own_world.open(), ours("a")
    await store.put(entry)
    own_redis.freeze()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await store.find(entry.key)
    own_redis.thaw()
    assert list(await store.find(entry.key)) == [entry]


async def test_a_server_that_is_gone_is_unavailable_and_used_again_once_it_is_back(own_redis, own_world):
    store = await own_world.open()
    own_redis.kill()
    with pytest.raises(PortUnavailable):
        await store.find(digest("key a"))
    own_redis.start()
    await store.put(ours("a"))
    assert list(await store.find(ours("a").key)) == [ours("a")]


async def test_limits_hold_over_all_shards(redis_world):
    store = await redis_world.open(StoreLimits(max_entries=10))
    for number in range(40):
        redis_world.now += 1
        await store.put(ours(f"{number:02}"))
    assert [entry.id[:5] for entry in await store.browse(Selection(), limit=99)] == [
        f"id-{number}" for number in range(30, 40)
    ]
