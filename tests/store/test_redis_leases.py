"""Leases and records between processes, over a real redis-server."""

import asyncio
from contextlib import AsyncExitStack, aclosing

import pytest
from support.redis_server import new_prefix
from support.waiting import until

from cacheproxy.errors import PortUnavailable
from cacheproxy.store import redis_leases
from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_leases import open_flights
from cacheproxy.store.redis_url import read_url

KEY = b"\x01\x02"


class Process:
    """One process's flights, and who joined them."""

    def __init__(self, client, flights):
        self.client = client
        self.flights = flights
        self.joined = []

    async def take(self, key=KEY):
        return await self.flights.take(key, self.joined.append)


@pytest.fixture
async def start(redis_server):
    prefix = new_prefix()
    async with AsyncExitStack() as stack:

        async def process():
            client = await stack.enter_async_context(open_client(read_url(redis_server.url)))
            return Process(client, await stack.enter_async_context(open_flights(client, prefix=prefix)))

        yield process


async def joined(process):
    await until(lambda: process.joined)
    return process.joined[-1]


async def test_one_process_gets_the_lease_and_the_others_its_holder(start):
    one, two = await start(), await start()
    assert (await one.take()).lease is not None
    taken = await two.take()
    assert taken.lease is None
    assert taken.leader is not None
    assert (await two.take(b"another key")).lease is not None


async def test_records_come_in_order_and_whole(start):
    one, two = await start(), await start()
    await one.take()
    sent = [bytes([number]) * 1000 + b"\r\n\x00" for number in range(100)]
    async with aclosing((await two.take()).leader.records()) as records:
        coming = asyncio.ensure_future(anext(records))
        follower = await joined(one)
        await follower.send(*sent[:50])
        for record in sent[50:]:
            await follower.send(record)
        got = [await coming, *[await anext(records) for _ in range(99)]]
    assert got == sent


async def test_every_follower_gets_everything_from_the_start(start):
    one, two, three = await start(), await start(), await start()
    await one.take()
    for other in (two, three):
        async with aclosing((await other.take()).leader.records()) as records:
            coming = asyncio.ensure_future(anext(records))
            await until(lambda: len(one.joined) == (1 if other is two else 2))  # noqa: B023 - awaited at once
            await one.joined[-1].send(b"start")
            assert await coming == b"start"


async def test_a_leader_learns_that_a_follower_left(start):
    one, two = await start(), await start()
    await one.take()
    left = asyncio.Event()
    async with aclosing((await two.take()).leader.records()) as records:
        coming = asyncio.ensure_future(anext(records))
        follower = await joined(one)
        follower.when_left(left.set)
        await follower.send(b"one")
        await coming
        assert not left.is_set()
    async with asyncio.timeout(30):
        await left.wait()


async def test_a_lease_that_was_released_can_be_taken_at_once(start):
    one, two = await start(), await start()
    await (await one.take()).lease.release(kept=False)
    assert (await two.take()).lease is not None


async def test_an_answer_that_was_kept_is_remembered_for_a_moment(start):
    one, two = await start(), await start()
    await (await one.take()).lease.release(kept=True)
    taken = await two.take()
    assert (taken.lease, taken.leader) == (None, None)
    assert 0 < await two.client.pttl(f"{two.flights._prefix}:lease:{KEY.hex()}") <= redis_leases.KEPT_S * 1000


async def test_only_its_holder_releases_a_lease(start, monkeypatch):
    one, two = await start(), await start()
    lease = (await one.take()).lease
    await two.client.set(f"{two.flights._prefix}:lease:{KEY.hex()}", "somebody:1")
    await lease.release(kept=False)
    assert (await two.take()).leader is not None


async def test_nobody_follows_a_flight_of_its_own(start):
    one = await start()
    await one.take()
    assert await one.take() == (None, None)


async def test_a_lease_is_renewed_for_as_long_as_it_is_held(start, monkeypatch):
    monkeypatch.setattr(redis_leases, "RENEW_S", 0.05)
    monkeypatch.setattr(redis_leases, "LEASE_S", 0.5)
    one, two = await start(), await start()
    await one.take()
    await asyncio.sleep(1.0)
    assert (await two.take()).leader is not None


async def test_a_follower_of_a_lease_that_is_lost_is_told(start, monkeypatch):
    monkeypatch.setattr(redis_leases, "CHECK_S", 0.05)
    one, two = await start(), await start()
    await one.take()
    async with aclosing((await two.take()).leader.records()) as records:
        coming = asyncio.ensure_future(anext(records))
        await joined(one)
        await one.client.delete(f"{one.flights._prefix}:lease:{KEY.hex()}")
        with pytest.raises(PortUnavailable, match="holds its lease no more"):
            await coming


async def test_a_record_that_is_missing_is_noticed(start):
    one, two = await start(), await start()
    await one.take()
    async with aclosing((await two.take()).leader.records()) as records:
        coming = asyncio.ensure_future(anext(records))
        follower = await joined(one)
        next(follower._sent)
        await follower.send(b"the second")
        with pytest.raises(PortUnavailable, match="missing"):
            await coming


async def test_a_message_that_comes_twice_is_read_once(start):
    one, two = await start(), await start()
    await one.take()
    async with aclosing((await two.take()).leader.records()) as records:
        coming = asyncio.ensure_future(anext(records))
        follower = await joined(one)
        await follower.send(b"one", b"two")
        follower._sent = iter([0, 1])
        await follower.send(b"one", b"two")
        await follower.send(b"three")
        assert [await coming, await anext(records), await anext(records)] == [b"one", b"two", b"three"]


async def test_who_cannot_say_what_it_wants_does_not_wait_for_long(start, monkeypatch):
    one, two = await start(), await start()
    await one.take()
    leader = (await two.take()).leader
    monkeypatch.setattr(redis_leases, "SEND_S", 0.01)
    monkeypatch.setattr(two.flights, "write", lambda *_: asyncio.Event().wait())
    async with asyncio.timeout(30), aclosing(leader.records()) as records:
        with pytest.raises(PortUnavailable, match="no answer within"):
            await anext(records)


async def test_a_message_that_says_nothing_sensible_is_passed_over(start):
    one, two = await start(), await start()
    await one.take()
    async with aclosing((await two.take()).leader.records()) as records:
        coming = asyncio.ensure_future(anext(records))
        follower = await joined(one)
        await one.flights.write(two.flights._process, {"kind": b"records", "follower": follower._name})
        await one.flights.write(two.flights._process, {"kind": b"want"})
        await follower.send(b"sense")
        assert await coming == b"sense"


async def test_the_inbox_of_a_process_that_is_gone_is_bounded_and_goes_too(start, monkeypatch):
    monkeypatch.setattr(redis_leases, "INBOX_MESSAGES", 3)
    one = await start()
    for _ in range(10):
        await one.flights.write("gone", {"kind": b"records"})
    inbox = one.flights._inbox("gone")
    assert await one.client.xlen(inbox) == 3
    assert 0 < await one.client.pttl(inbox) <= redis_leases.INBOX_S * 1000


async def test_a_miss_that_nobody_shares_costs_one_command_before_and_one_after(start, redis_server):
    one = await start()
    await (await one.take()).lease.release(kept=False)  # the script is known from now on
    before = redis_server.commands()
    for number in range(10):
        await (await one.take(b"%d" % number)).lease.release(kept=False)
    after = redis_server.commands()
    assert after["evalsha"] - before["evalsha"] == 20


async def test_nothing_stays_behind(start):
    one, two = await start(), await start()
    lease = (await one.take()).lease
    async with aclosing((await two.take()).leader.records()) as records:
        coming = asyncio.ensure_future(anext(records))
        await (await joined(one)).send(b"all")
        await coming
    await lease.release(kept=False)
    await until(lambda: not one.flights._followers)
    assert (one.flights.leases, two.flights.following) == ({}, {})
    for key in await one.client.keys(f"{one.flights._prefix}:*"):
        assert await one.client.pttl(key) > 0


async def test_over_a_cluster_a_lease_and_its_records_go_the_same_ways(redis_cluster):
    prefix = new_prefix()
    async with AsyncExitStack() as stack:
        processes = []
        for _ in range(2):
            client = await stack.enter_async_context(open_client(read_url(redis_cluster.url)))
            processes.append(Process(client, await stack.enter_async_context(open_flights(client, prefix=prefix))))
        one, two = processes
        lease = (await one.take()).lease
        async with aclosing((await two.take()).leader.records()) as records:
            coming = asyncio.ensure_future(anext(records))
            await (await joined(one)).send(b"one", b"two")
            assert [await coming, await anext(records)] == [b"one", b"two"]
        await lease.release(kept=False)
        assert (await two.take()).lease is not None
