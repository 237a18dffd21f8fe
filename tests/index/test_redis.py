"""The index in Redis vector sets: on fakeredis, which searches exactly, on a Redis 8, and on a cluster of it.

fakeredis tells attributes with what a search found, as Redis does from 8.2 on; Redis 8.0 is asked once more.
"""

from contextlib import contextmanager

import numpy as np
import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.cluster import key_slot
from support.redis_index import REDISES, RedisIndexes, indexes_in
from support.redis_server import eventually, needs_redis8, running_server

from cacheproxy.errors import PortUnavailable
from cacheproxy.index.flat import FlatIndex
from cacheproxy.index.redis import RedisIndex
from cacheproxy.model import IndexRow
from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_url import read_url

SCOPE = b"scope"
NOW = 4_000_000_000.0
"""Far ahead of a real server's own clock, which takes away sets whose last entry has expired."""


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


@pytest.fixture(params=REDISES)
async def indexes(request):
    async with indexes_in(request.param, request) as indexes:
        yield indexes


@pytest.fixture
def client(indexes):
    return indexes.client


@pytest.fixture
async def index(indexes, clock):
    return await indexes.open(now=clock)


@contextmanager
def commands_of(client, monkeypatch):
    """The names of the commands that the client sends meanwhile."""
    sent = []
    execute = client.execute_command

    async def counted(*command, **options):
        sent.append(command[0])
        return await execute(*command, **options)

    with monkeypatch.context() as patched:
        patched.setattr(client, "execute_command", counted)
        yield sent


async def members(client, index, scope=SCOPE):
    return await client.execute_command("VCARD", index._keys(scope)[0])


def clustered(rng, count, dimension=32):
    """Vectors around twenty centres."""
    centres = rng.normal(size=(20, dimension))
    return (centres[np.arange(count) % 20] + 0.3 * rng.normal(size=(count, dimension))).astype(np.float32)


FOUND = {"float32": (False, 1e-5), "8 bits": (True, 0.01)}
"""How far similarities may be off. Rounding to a 127th of the largest, about .45 in 32 dimensions, moves each number of
both vectors by .001 (root mean square), and so a similarity by .0015; of 250 some are off by three times that.
"""


@pytest.mark.parametrize(("quantised", "tolerance"), FOUND.values(), ids=FOUND)
async def test_the_nearest_are_the_plain_arrays_own(indexes, quantised, tolerance):
    """A graph this small is walked whole. With 8 bits those that are about equally near may change places."""
    rng = np.random.default_rng(7)
    index, flat = await indexes.open(quantised=quantised), FlatIndex()
    for number, vector in enumerate(clustered(rng, 300)):
        for each in (index, flat):
            await each.add(IndexRow(f"{number:03}", SCOPE, vector, f"{number:03}"))
    for query in clustered(rng, 50):
        found, expected = [await each.nearest(SCOPE, query, 5) for each in (index, flat)]
        assert [near.similarity for near in found] == pytest.approx(
            [near.similarity for near in expected], abs=tolerance
        )
        if not quantised:
            assert found[0].entry_id == expected[0].entry_id


async def test_what_one_process_adds_the_others_find(indexes, clock, index):
    await index.add(row("a", 1, 0))
    other = await indexes.open(now=clock)
    assert await ids(other, 1, 0) == ["a"]
    assert await other.keys_of(SCOPE, "a") == 1
    assert other.shared


async def test_other_embeddings_and_another_precision_lie_apart(indexes, clock, index):
    await index.add(row("a", 1, 0))
    assert await ids(await indexes.open(now=clock, model="other"), 1, 0) == []
    assert await ids(await indexes.open(now=clock, quantised=True), 1, 0) == []


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
    for number in range(1000):
        await index.add(row(f"new-{number:03}", 0, 1))
        if await members(client, index) == number + 1:
            break
    assert await members(client, index) == number + 1
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


async def test_a_search_in_a_known_scope_is_one_round_trip_and_another_where_redis_is_older_than_8_2(
    client, index, monkeypatch
):
    await index.add(row("a", 1, 0))
    assert not await index.is_empty(SCOPE)
    assert await ids(index, 1, 0) == ["a"]  # the server knows the script from now on
    with commands_of(client, monkeypatch) as sent:
        assert not await index.is_empty(SCOPE)
        assert await ids(index, 1, 0) == ["a"]
    assert sent == (["VSIM"] if await tells_attributes(client) else ["VSIM", "EVALSHA"])


async def tells_attributes(client):
    if isinstance(client, FakeAsyncRedis):
        return True
    nodes = await client.info("server")  # of a cluster each node tells
    told = nodes if "redis_version" in nodes else next(iter(nodes.values()))
    return tuple(map(int, told["redis_version"].split(".")))[:2] >= (8, 2)


async def test_a_search_that_finds_nothing_asks_for_no_attributes(client, index, monkeypatch):
    with commands_of(client, monkeypatch) as sent:
        assert await ids(index, 1, 0) == []
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
    index = RedisIndex(FakeAsyncRedis(server=server), now=clock)
    for attempt in (
        index.add(row("a", 1, 0)),
        index.nearest(SCOPE, np.ones(2, np.float32), 1),
        index.is_empty(SCOPE),
        index.prepare(),
    ):
        with pytest.raises(PortUnavailable):
            await attempt


async def test_a_redis_with_vector_sets_will_do_and_keeps_nothing_of_the_trial(indexes, client):
    await indexes.open()
    assert [key async for key in client.scan_iter(f"{indexes.prefix}:*")] == []


async def test_a_scope_whose_last_entry_has_expired_is_gone_by_redis_s_clock_too(client, index, clock):
    clock.now = 1_000_000_000.0
    await index.add(row("a", 1, 0, expires_at=clock.now + 60, root="b"))
    assert await client.exists(index._keys(SCOPE)[0]) == 0
    assert await client.exists(index._keys(SCOPE)[1]) == 0
    assert await ids(index, 1, 0) == []
    assert await index.keys_of(SCOPE, "b") == 0


# --- a real server of the test's own


@pytest.fixture
def server(tmp_path):
    kept = {"appendonly": "yes", "appendfsync": "always", "repl-diskless-sync-delay": "0"}
    with running_server(tmp_path, *kept.items(), path=needs_redis8()) as server:
        yield server


@pytest.fixture
async def own(server):
    async with open_client(read_url(server.url)) as client:
        yield RedisIndexes(client)


async def test_a_set_of_vectors_of_another_dimension_is_unavailable(own, clock):
    index, other = [await own.open(now=clock) for _ in range(2)]
    await index.add(row("a", 1, 0))
    with pytest.raises(PortUnavailable):
        await other.nearest(SCOPE, np.ones(3, np.float32), 1)
    with pytest.raises(PortUnavailable):
        await other.add(row("b", 1, 0, 0))
    assert await ids(index, 1, 0) == ["a"]


async def test_a_full_redis_finds_and_forgets_and_takes_nothing_new(server, own, clock):
    """It counted as one without vector sets, so that proxies did not start; and aliases were not let go of."""
    index = await own.open(now=clock)
    await index.add(row("a", 1, 0))
    await index.add(row("b", 1, 0, root="a"))
    server.client.config_set("maxmemory", 1)
    other = await own.open(now=clock)
    with pytest.raises(PortUnavailable):
        await other.add(row("c", 1, 0))
    assert await ids(other, 1, 0) == ["a", "b"]
    await other.remove("b", SCOPE)
    assert await ids(other, 1, 0) == ["a"]
    assert await other.keys_of(SCOPE, "a") == 1


async def test_a_restart_of_redis_keeps_what_was_added_and_not_what_was_removed(server, own, clock):
    index = await own.open(now=clock, quantised=True)
    vectors = clustered(np.random.default_rng(3), 200)
    for number, vector in enumerate(vectors):
        await index.add(IndexRow(f"{number:03}", SCOPE, vector, "root", NOW + 60))
    for number in range(0, 200, 2):
        await index.remove(f"{number:03}", SCOPE)
    server.client.bgrewriteaof()  # half of it from a snapshot, half command by command
    eventually(lambda: not server.client.info("persistence")["aof_rewrite_in_progress"], "it is rewritten")
    for number in range(1, 100, 2):
        await index.remove(f"{number:03}", SCOPE)
    asked = range(101, 200, 2)
    before = [await index.nearest(SCOPE, vectors[number], 1) for number in asked]
    server.kill()
    server.start()
    assert server.client.exists(index._keys(SCOPE)[0]) == 1
    assert await own.client.expiretime(index._keys(SCOPE)[0]) == NOW + 60
    assert [await index.nearest(SCOPE, vectors[number], 1) for number in asked] == before
    assert [near.entry_id for [near] in before] == [f"{number:03}" for number in asked]
    assert await index.keys_of(SCOPE, "root") == 50


async def test_a_replica_finds_the_same_and_a_proxy_left_on_it_adds_nothing(server, own, tmp_path, clock):
    index = await own.open(now=clock)
    for entry_id in "abc":
        await index.add(row(entry_id, 1, 0, root="a"))
    with running_server(tmp_path, ("replicaof", f"127.0.0.1 {server.port}"), path=needs_redis8()) as replica:
        eventually(lambda: replica.client.info("replication")["master_link_status"] == "up", "it replicates")
        await index.add(row("d", 1, 1))
        await index.remove("b", SCOPE)
        server.client.wait(1, 0)
        async with open_client(read_url(replica.url)) as client:
            left = RedisIndex(client, now=clock, prefix=own.prefix, quantised=False)
            left._tells_attributes = index._tells_attributes
            assert await ids(left, 1, 0) == ["a", "c", "d"]
            with pytest.raises(PortUnavailable):
                await left.add(row("e", 1, 0))
            with pytest.raises(PortUnavailable):
                await left.prepare()
    assert await ids(index, 1, 0) == ["a", "c", "d"]
