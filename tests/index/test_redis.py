"""The index in Redis vector sets, on fakeredis: it knows these commands and Lua, and searches exactly.

What it cannot show is how many of the nearest the real graph finds, and what 8-bit numbers cost.
"""

import numpy as np
import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.cluster import key_slot
from support.redis_index import redis_index

from cacheproxy.errors import PortUnavailable
from cacheproxy.index.flat import FlatIndex
from cacheproxy.model import IndexRow

SCOPE = b"scope"
NOW = 1_800_000_000.0


def row(entry_id, *numbers, expires_at=NOW + 60, root=None, scope=SCOPE):
    return IndexRow(entry_id, scope, np.array(numbers, np.float32), root or entry_id, expires_at)


async def ids(index, *numbers, k=5, scope=SCOPE):
    return [near.entry_id for near in await index.nearest(scope, np.array(numbers, np.float32), k)]


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def client():
    return FakeAsyncRedis()


@pytest.fixture
def index(client, clock):
    return redis_index(client, now=clock)


async def members(client, index, scope=SCOPE):
    return await client.execute_command("VCARD", index._keys(scope)[0])


async def test_the_nearest_is_the_plain_arrays_own(index):
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(20, 32))
    flat = FlatIndex()
    for number in range(300):
        vector = (centres[number % 20] + 0.3 * rng.normal(size=32)).astype(np.float32)
        for each in (index, flat):
            await each.add(IndexRow(f"{number:03}", SCOPE, vector, f"{number:03}"))
    for _ in range(50):
        query = (centres[rng.integers(20)] + 0.3 * rng.normal(size=32)).astype(np.float32)
        [found], [expected] = [await each.nearest(SCOPE, query, 1) for each in (index, flat)]
        assert found.entry_id == expected.entry_id
        assert found.similarity == pytest.approx(expected.similarity, abs=1e-5)


async def test_what_one_process_adds_the_others_find(client, clock, index):
    await index.add(row("a", 1, 0))
    other = redis_index(client, now=clock)
    assert await ids(other, 1, 0) == ["a"]
    assert await other.keys_of(SCOPE, "a") == 1
    assert other.shared


async def test_other_embeddings_and_another_precision_lie_apart(client, clock, index):
    await index.add(row("a", 1, 0))
    assert await ids(redis_index(client, now=clock, model="other"), 1, 0) == []
    assert await ids(redis_index(client, now=clock, quantised=True), 1, 0) == []


async def test_what_expired_is_not_told_and_is_removed_when_it_is_met(client, clock, index):
    await index.add(row("a", 1, 0, expires_at=NOW + 10))
    await index.add(row("b", 1, 0, expires_at=NOW + 60, root="a"))
    clock.now += 10
    assert await ids(index, 1, 0) == ["b"]
    assert await members(client, index) == 1


async def test_a_crowd_of_expired_entries_does_not_hide_one_that_has_not(clock, index):
    for number in range(30):
        await index.add(row(f"{number:02}", 1, 0, expires_at=NOW + 10))
    await index.add(row("z", 1, 1))
    clock.now += 10
    assert await ids(index, 1, 0) == ["z"]


async def test_additions_remove_expired_entries_that_no_search_meets(client, clock, index):
    for number in range(30):
        await index.add(row(f"old-{number:02}", 1, 0, expires_at=NOW + 10, root="old"))
    clock.now += 10
    for number in range(200):
        await index.add(row(f"new-{number:03}", 0, 1))
    assert await members(client, index) == 200
    assert await index.keys_of(SCOPE, "old") == 0


async def test_a_set_lives_as_long_as_its_last_entry(client, index):
    aliases = index._keys(SCOPE)[1]
    await index.add(row("a", 1, 0, expires_at=NOW + 60, root="b"))
    await index.add(row("b", 1, 0, expires_at=NOW + 10, root="b"))
    for key in (index._keys(SCOPE)[0], aliases):
        assert await client.expiretime(key) == NOW + 60


async def test_an_entry_that_never_expires_keeps_its_set(clock, client, index):
    await index.add(row("a", 1, 0, expires_at=float("inf")))
    await index.add(row("b", 1, 0))
    clock.now += 1e9
    assert await ids(index, 1, 0) == ["a"]


async def test_a_scope_lies_on_one_shard_and_scopes_on_many(index):
    slots = [{key_slot(key.encode()) for key in index._keys(bytes([number]) * 32)} for number in range(20)]
    assert all(len(slot) == 1 for slot in slots)
    assert len(set.union(*slots)) > 15


async def test_a_search_in_a_known_scope_is_one_round_trip(client, index, monkeypatch):
    await index.add(row("a", 1, 0))
    assert not await index.is_empty(SCOPE)
    sent = []
    execute = client.execute_command

    async def counted(*command, **options):
        sent.append(command[0])
        return await execute(*command, **options)

    monkeypatch.setattr(client, "execute_command", counted)
    assert not await index.is_empty(SCOPE)
    assert await ids(index, 1, 0) == ["a"]
    assert sent == ["VSIM"]


async def test_a_scope_that_emptied_is_asked_for_again(index):
    await index.add(row("a", 1, 0))
    assert not await index.is_empty(SCOPE)
    await index.remove("a", SCOPE)
    assert await ids(index, 1, 0) == []
    assert await index.is_empty(SCOPE)


async def test_an_entry_whose_scope_nobody_knows_is_left_to_expire(clock, client, index):
    await index.add(row("a", 1, 0, expires_at=NOW + 10))
    await index.remove("a", b"")
    assert await ids(index, 1, 0) == ["a"]
    clock.now += 10
    assert await ids(index, 1, 0) == []


async def test_a_redis_that_cannot_be_reached_is_unavailable(clock):
    server = FakeServer()
    server.connected = False
    index = redis_index(FakeAsyncRedis(server=server), now=clock)
    for attempt in (index.add(row("a", 1, 0)), index.nearest(SCOPE, np.ones(2, np.float32), 1), index.is_empty(SCOPE)):
        with pytest.raises(PortUnavailable):
            await attempt


async def test_a_redis_with_vector_sets_will_do(index, client):
    await index.prepare()
    assert await client.keys("*") == []
