"""Following the logs: nothing is missed unnoticed, whatever became of the log."""

from __future__ import annotations

import asyncio
from itertools import islice

import pytest
from support.stores import NOW, direction, make_entry

from cacheproxy.model import MISSED, Selection
from cacheproxy.store import redis_catalogue, redis_log


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


async def lose_the_log(redis_world, name):
    client = await redis_world.client()
    await client.delete(f"{{{redis_world.prefix}:{redis_world.shards_of(ours(name).key)}}}:log")


def of_one_shard(redis_world, name, count):
    """Names whose entries lie where another's does."""
    shard = redis_world.shards_of(ours(name).key)
    same = (each for each in map(str, range(100_000)) if redis_world.shards_of(ours(each).key) == shard)
    return list(islice(same, count))


async def test_a_large_shard_is_read_anew_in_parts_while_the_log_is_followed(redis_world, follower, monkeypatch):
    """All of it in one call took longer than a call may, and so was begun anew for ever."""
    monkeypatch.setattr(redis_log, "_ANEW_AT_ONCE", 1)
    monkeypatch.setattr(redis_catalogue, "_AT_ONCE", 2)
    other = await redis_world.open()
    many = of_one_shard(redis_world, "kept", 7)
    await placed(other, *many)
    await lose_the_log(redis_world, "kept")
    first = await follower.changes()
    assert first == [MISSED]
    elsewhere = next(each for each in map(str, range(1000)) if each not in many)
    seen = []
    for number in range(4):
        changes = await follower.changes()
        assert len([change for change in changes if change.row is not None]) <= 4
        seen += [change.entry_id for change in changes]
        if number == 0:
            await placed(other, elsewhere)
            await other.remove(Selection(ids=[ours(many[-1]).id]))
    gone, there, _ = await told(follower)
    assert ours(elsewhere).id in {*seen, *there}
    assert ours(many[-1]).id in {*seen, *gone}
    assert {ours(name).id for name in many[:-1]} <= {*seen, *there}


async def test_what_came_while_a_shard_was_read_anew_is_not_told_to_be_gone(redis_world, follower, monkeypatch):
    monkeypatch.setattr(redis_log, "_ANEW_AT_ONCE", 1)
    monkeypatch.setattr(redis_catalogue, "_AT_ONCE", 1)
    other = await redis_world.open()
    mine, back, *many = of_one_shard(redis_world, "kept", 6)
    await placed(other, back, *many)
    await told(follower)
    await other.remove(Selection(ids=[ours(back).id]))
    await lose_the_log(redis_world, "kept")
    changes = [*await follower.changes(), *await follower.changes()]
    await placed(follower, mine)
    await placed(other, back)
    while more := await follower.changes():
        changes += more
    gone = {change.entry_id for change in changes if change.row is None and change is not MISSED}
    assert gone <= {ours(back).id}
    assert [change.row is not None for change in changes if change.entry_id == ours(back).id][-1]


async def test_a_call_that_nobody_waited_for_while_a_shard_is_read_anew_loses_nothing(
    redis_world, follower, monkeypatch
):
    await placed(await redis_world.open(), "new")
    await lose_the_log(redis_world, "new")
    await follower.changes()
    page, called = follower._follower._catalogue.page, asyncio.Event()

    async def hangs(*_):
        called.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(follower._follower._catalogue, "page", hangs)
    asking = asyncio.ensure_future(follower.changes())
    await called.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    monkeypatch.setattr(follower._follower._catalogue, "page", page)
    assert ours("new").id in (await told(follower))[1]


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


async def test_a_process_of_one_index_for_all_reads_nothing_of_what_others_stored(redis_world):
    """It read each record of that and made nothing of it, which was a quarter of a busy worker's time."""
    store, other = await redis_world.open(), await redis_world.open()
    await store.index_is_shared()
    await placed(other, "kept", "purged", "pinned")
    client = await redis_world.client()
    shards = {redis_world.shards_of(ours(name).key) for name in ("kept", "purged", "pinned")}
    lengths = [await client.xlen(f"{{{redis_world.prefix}:{shard}}}:went") for shard in shards]
    assert set(lengths) == {1}
    assert await store.changes() == []
    await other.remove(Selection(ids=[ours("purged").id]))
    await other.expire_at(ours("pinned").id, NOW + 10)
    changed = {change.entry_id: change.row is None for change in await store.changes()}
    assert changed.keys() == {ours("purged").id, ours("pinned").id}
    assert changed[ours("purged").id]


async def test_a_process_of_one_index_for_all_notices_that_its_log_was_lost(redis_world):
    store, other = await redis_world.open(), await redis_world.open()
    await store.index_is_shared()
    await placed(store, "purged", "kept")
    client = await redis_world.client()
    await other.remove(Selection(ids=[ours("purged").id]))
    async for log in client.scan_iter(f"{{{redis_world.prefix}:*}}:went"):
        await client.delete(log)
    gone, there, missed = await told(store)
    assert (gone, there, missed) == ({ours("purged").id}, set(), True)


async def test_what_went_has_no_log_of_its_own_before_somebody_follows_it(redis_world):
    store = await redis_world.open()
    await placed(store, "purged")
    await store.remove(Selection(ids=[ours("purged").id]))
    client = await redis_world.client()
    assert [log async for log in client.scan_iter(f"{{{redis_world.prefix}:*}}:went")] == []
