"""Following the logs: nothing is missed unnoticed, whatever became of the log."""

from __future__ import annotations

import asyncio

import pytest
from support.stores import NOW, direction, make_entry

from cacheproxy.model import MISSED, Selection


def ours(name):
    entry = make_entry(name)
    return make_entry(name, id=f"id-{name}z{entry.key[:2].hex()}")


async def placed(store, *names):
    for name in names:
        await store.put(ours(name))
        await store.set_vector(ours(name).id, direction(1, 0, 0, 0), ours(name).id)


async def told(store):
    """All that there is to tell: ids that went, and ids that are there."""
    gone, there, missed = set(), set(), False
    while changes := await store.changes():
        for change in changes:
            missed = missed or change is MISSED
            (gone if change.row is None else there).add(change.entry_id)
            (there if change.row is None else gone).discard(change.entry_id)
    return gone - {""}, there, missed


@pytest.fixture
async def follower(redis_world):
    """A process that has two entries in its index."""
    store = await redis_world.open()
    other = await redis_world.open()
    await placed(other, "kept", "purged")
    assert await told(store) == (set(), {ours("kept").id, ours("purged").id}, False)
    return store


async def test_a_follower_whose_place_was_trimmed_away_is_told_what_is_there_and_what_is_not(redis_world, follower):
    other = await redis_world.open()
    await other.remove(Selection(ids=[ours("purged").id]))
    await placed(other, "new")
    client = await redis_world.client()
    async for log in client.scan_iter(f"{{{redis_world.prefix}:*}}:log"):
        await client.xtrim(log, maxlen=0, approximate=False)
        await client.xadd(log, {"w": "", "k": "put", "i": "", "K": "", "S": ""})
    gone, there, missed = await told(follower)
    assert (gone, missed) == ({ours("purged").id}, True)
    assert there == {ours("kept").id, ours("new").id}
    assert await told(follower) == (set(), set(), False)


async def test_a_follower_of_a_server_that_lost_everything_forgets_everything(redis_world, follower):
    client = await redis_world.client()
    async for key in client.scan_iter(f"{{{redis_world.prefix}:*}}:*"):
        await client.delete(key)
    gone, there, missed = await told(follower)
    assert (gone, there, missed) == ({ours("kept").id, ours("purged").id}, set(), True)


async def test_a_follower_notices_that_a_replica_took_over_without_the_latest_records(redis_world, follower):
    """The log goes on, and the record that this process saw last is not in it."""
    client = await redis_world.client()
    shard = redis_world.shards_of(ours("purged").key)
    log = f"{{{redis_world.prefix}:{shard}}}:log"
    newest = (await client.xrevrange(log, count=1))[0][0]
    await client.xdel(log, newest)
    other = await redis_world.open()
    await other.remove(Selection(ids=[ours("purged").id]))
    gone, _there, missed = await told(follower)
    assert (ours("purged").id in gone, missed) == (True, True)


async def test_the_log_is_kept_to_about_its_length(redis_world):
    store = await redis_world.open(log_entries=100)
    for start in range(0, 3000, 500):
        await store.put(*(ours(str(number)) for number in range(start, start + 500)))
    client = await redis_world.client()
    logs = [await client.xlen(log) async for log in client.scan_iter(f"{{{redis_world.prefix}:*}}:log")]
    assert all(0 < length <= 250 for length in logs)


async def test_expiry_reaches_who_only_follows(redis_world, follower):
    other = await redis_world.open()
    await other.sweep(NOW + 10_000)
    assert await told(follower) == ({ours("kept").id, ours("purged").id}, set(), False)


async def test_two_who_follow_at_once_do_not_take_the_others_progress_for_a_loss(redis_world, follower, monkeypatch):
    await placed(await redis_world.open(), "new")
    link, first = follower._follower._link, asyncio.Event()
    ask_all, asked = link.ask_all, []

    async def held_back(commands):
        asked.append(commands)
        answers = await ask_all(commands)
        if commands is asked[0] and len(asked) > 1:
            await first.wait()
        return answers

    monkeypatch.setattr(link, "ask_all", held_back)
    slow = asyncio.ensure_future(follower.changes())
    quick = asyncio.ensure_future(follower.changes())
    quick.add_done_callback(lambda _: first.set())
    assert MISSED not in [*await slow, *await quick]


async def test_what_this_process_placed_while_a_shard_was_read_anew_is_not_told_to_be_gone(
    redis_world, follower, monkeypatch
):
    client = await redis_world.client()
    shard = redis_world.shards_of(ours("kept").key)
    await client.delete(f"{{{redis_world.prefix}:{shard}}}:log")
    late = next(name for name in map(str, range(1000)) if redis_world.shards_of(ours(name).key) == shard)
    of_shard = follower._follower._catalogue.of_shard

    async def and_then_one_comes(number):
        async for block in of_shard(number):
            yield block
        await placed(follower, late)

    monkeypatch.setattr(follower._follower._catalogue, "of_shard", and_then_one_comes)
    first = await follower.changes()
    monkeypatch.undo()
    await client.delete(f"{{{redis_world.prefix}:{shard}}}:log")
    await follower.remove(Selection(ids=[ours(late).id]))
    await client.delete(f"{{{redis_world.prefix}:{shard}}}:log")
    second = await follower.changes()
    assert first[0] is second[0] is MISSED
    assert ours(late).id in {change.entry_id for change in second if change.row is None}


async def test_what_got_another_time_to_expire_while_it_was_read_is_not_used_with_the_old_one(
    redis_world, follower, monkeypatch
):
    other = await redis_world.open()
    decoded = follower._decoded

    async def changed_meanwhile(rows):
        entries = await decoded(rows)
        await other.expire_at(ours("kept").id, NOW + 1)
        await follower.changes()
        return entries

    monkeypatch.setattr(follower, "_decoded", changed_meanwhile)
    assert await follower.find(ours("kept").key) == []
    assert await follower.load([ours("kept").id]) == []
    monkeypatch.undo()
    (entry,) = await follower.find(ours("kept").key)
    assert entry.expires_at == NOW + 1
