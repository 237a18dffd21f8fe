"""Requests that share an upstream call with another proxy's, over a real redis-server and the whole flow."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis
from support.redis_server import needs_redis, new_prefix, running_server
from support.waiting import until

from cacheproxy.errors import PortUnavailable, UpstreamTimeout
from cacheproxy.flow import relay
from cacheproxy.store import redis_leases
from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_leases import open_flights
from cacheproxy.store.redis_url import read_url
from cacheproxy.upstream.scripted import EVENT_STREAM, Answer, ScriptedUpstream

TEXT = "Once upon a time there was a cache that nobody had to wait for at all."


@pytest.fixture
def gate():
    return asyncio.Event()


class Company:
    """Proxies of one company: an upstream and a Redis for all of them, and a store."""

    def __init__(self, open_world, stack, url, prefix):
        self._open_world = open_world
        self._stack = stack
        self._url = url
        self._prefix = prefix

    async def proxy(self, upstream, **settings):
        client = await self._stack.enter_async_context(open_client(read_url(self._url)))
        flights = await self._stack.enter_async_context(open_flights(client, prefix=self._prefix))
        return await self._open_world(upstream, shared_flights=flights, **settings)

    async def leases(self):
        async with Redis.from_url(self._url) as client:
            return [await client.get(key) for key in await client.keys(f"{self._prefix}:lease:*")]


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def company(open_world, stack, redis_server):
    return Company(open_world, stack, redis_server.url, new_prefix())


def gated(api, gate, *, stream=True, usage=False):
    """Holds its answer's end back until the gate is set."""
    answer = api.completion(TEXT)
    if stream:
        first, *rest = api.pieces(answer, usage=usage)
        return ScriptedUpstream(lambda _: Answer(headers=EVENT_STREAM, chunks=[first, gate, *rest]))
    return ScriptedUpstream(lambda _: api.whole(answer, head_waits=gate))


def followed(world):
    """How many other processes read the flights that this one makes."""
    return len(world.flow.proxy._relay._flights._followers)


async def asking(world, **members):
    """A request on its way, and another proxy's flight that it can find."""
    asked = world.tasks.begin(world.send(world.chat("Tell me", **members)), name="ask")
    await until(lambda: world.upstream.received)
    return asked


async def test_two_proxies_ask_the_upstream_once(company, api, gate):
    upstream = gated(api, gate, stream=False)
    one, two = [await company.proxy(upstream) for _ in range(2)]
    first = await asking(one)
    others = [world.tasks.begin(world.send(world.chat("Tell me")), name="ask") for world in (one, two, two, two)]
    await until(lambda: followed(one) == 1)
    gate.set()
    replies = [await each for each in (first, *others)]
    assert len(upstream.received) == 1
    assert {reply.text for reply in replies} == {TEXT}
    assert [reply.cache[1] for reply in replies] == ["no-neighbor", *["coalesced"] * 4]
    assert len({reply.json["id"] for reply in replies}) == 5
    assert sum(event.cost_usd > 0 for event in (*one.told, *two.told)) == 1
    assert sum(event.saved_usd > 0 for event in two.told) == 3
    await one.settled()
    assert await company.leases() in ([], [b"kept"])


async def test_a_stream_reaches_another_proxys_callers_live_and_byte_for_byte(company, api, gate):
    upstream = gated(api, gate)
    one, two = [await company.proxy(upstream) for _ in range(2)]
    starter = await one.handle(one.chat("Tell me", stream=True))
    joiners = [await two.handle(two.chat("Tell me", stream=True)) for _ in range(3)]
    began = [await anext(reply.body) for reply in joiners]
    assert len({*began, await anext(starter.body)}) == 1
    gate.set()
    rest = [(await world.read(reply)).body for world, reply in ((one, starter), *((two, joiner) for joiner in joiners))]
    assert len(set(rest)) == 1
    assert TEXT[-8:].encode() in rest[0]
    assert len(upstream.received) == 1
    assert dict(joiners[0].headers)["X-CacheProxy-Layer"] == "coalesced"


@pytest.mark.parametrize("leader_streams", [True, False], ids=["a stream", "a whole answer"])
async def test_a_follower_in_the_other_stream_mode_is_answered_in_its_own(company, api, gate, leader_streams):
    upstream = gated(api, gate, stream=leader_streams)
    one, two = [await company.proxy(upstream) for _ in range(2)]
    first = await asking(one, stream=leader_streams)
    second = two.tasks.begin(two.send(two.chat("Tell me", stream=not leader_streams)), name="ask")
    third = two.tasks.begin(two.send(two.chat("Tell me", stream=leader_streams)), name="ask")
    await until(lambda: followed(one) == 1)
    gate.set()
    replies = [await each for each in (first, second, third)]
    assert {reply.text for reply in replies} == {TEXT}
    kinds = [reply.headers["Content-Type"].startswith("text/event-stream") for reply in replies]
    assert kinds == [leader_streams, not leader_streams, leader_streams]
    assert len(upstream.received) == 1


async def test_a_follower_that_did_not_ask_for_usage_is_spared_the_leaders(company, api, gate):
    upstream = gated(api, gate, usage=True)
    one, two = [await company.proxy(upstream) for _ in range(2)]
    first = await asking(one, stream=True, stream_options={"include_usage": True})
    second = two.tasks.begin(two.send(two.chat("Tell me", stream=True)), name="ask")
    await until(lambda: followed(one) == 1)
    gate.set()
    assert b"total_tokens" in (await first).body
    assert b"total_tokens" not in (await second).body


async def test_an_answer_that_was_kept_a_moment_ago_is_looked_up_again(company, api, gate):
    upstream = gated(api, gate, stream=False)
    one, two = [await company.proxy(upstream) for _ in range(2)]
    gate.set()
    # The second has looked already when the first begins, and asks for the lease when it has ended.
    relay, looked, kept = two.flow.proxy._relay, asyncio.Event(), asyncio.Event()
    take = relay._flights.take

    async def late(*arguments):
        looked.set()
        await kept.wait()
        return await take(*arguments)

    relay._flights.take = late
    second = two.tasks.begin(two.send(two.chat("Tell me")), name="ask")
    await looked.wait()
    await one.ask("Tell me")
    await two.upkeep.follow()
    kept.set()
    assert (await second).cache == ("Hit", "coalesced")
    assert len(upstream.received) == 1


async def test_an_error_of_the_upstream_is_shared(company, gate):
    upstream = ScriptedUpstream(lambda _: Answer(status=429, chunks=[b'{"error": {}}'], head_waits=gate))
    one, two = [await company.proxy(upstream) for _ in range(2)]
    first = await asking(one)
    second = two.tasks.begin(two.send(two.chat("Tell me")), name="ask")
    await until(lambda: followed(one) == 1)
    gate.set()
    assert [(await each).status for each in (first, second)] == [429, 429]
    assert len(upstream.received) == 1


async def test_an_upstream_that_does_not_answer_fails_for_all(company, gate):
    upstream = ScriptedUpstream(
        lambda _: Answer(headers=EVENT_STREAM, chunks=[gate], then_fails=UpstreamTimeout("slow"))
    )
    one, two = [await company.proxy(upstream) for _ in range(2)]
    first = await asking(one, stream=True)
    second = two.tasks.begin(two.send(two.chat("Tell me", stream=True)), name="ask")
    await until(lambda: followed(one) == 1)
    gate.set()
    assert {b"cacheproxy_upstream_timeout" in (await each).body for each in (first, second)} == {True}
    assert len(upstream.received) == 1


async def test_the_follower_keeps_a_flight_alive_whose_own_callers_left(company, api, gate):
    upstream = gated(api, gate)
    one, two = [await company.proxy(upstream, deadlines={"abandon_s": 0}) for _ in range(2)]
    starter = await one.handle(one.chat("Tell me", stream=True))
    joiner = await two.handle(two.chat("Tell me", stream=True))
    await anext(joiner.body)
    await starter.close()
    await asyncio.sleep(0.05)
    gate.set()
    assert (await two.read(joiner)).body.endswith(b"[DONE]\n\n")
    assert upstream.abandoned == 0


async def test_when_the_followers_callers_leave_too_the_upstream_is_cancelled(company, api, gate):
    upstream = gated(api, gate)
    one, two = [await company.proxy(upstream, deadlines={"abandon_s": 0}) for _ in range(2)]
    starter = await one.handle(one.chat("Tell me", stream=True))
    joiner = await two.handle(two.chat("Tell me", stream=True))
    await anext(joiner.body)
    await starter.close()
    await joiner.close()
    await until(lambda: not upstream.open)
    assert upstream.abandoned == 1


async def test_who_may_not_share_does_not(company, api, gate):
    upstream = gated(api, gate, stream=False)
    one, two = [await company.proxy(upstream) for _ in range(2)]
    first = await asking(one)
    others = [
        two.tasks.begin(two.send(two.chat("Tell me"), headers=headers), name="ask")
        for headers in (
            {"Authorization": "Bearer sk-other"},
            {"Cache-Control": "no-cache"},
            {"Cache-Control": "no-store"},
        )
    ]
    await until(lambda: len(upstream.received) == 4)
    assert followed(one) == 0
    gate.set()
    assert {(await each).text for each in (first, *others)} == {TEXT}


# --- when something breaks


@pytest.fixture
def die(monkeypatch):
    """End a proxy as far as others can see it: it renews no lease and writes to nobody."""
    monkeypatch.setattr(redis_leases, "LEASE_S", 1.0)
    monkeypatch.setattr(redis_leases, "RENEW_S", 0.2)
    monkeypatch.setattr(redis_leases, "CHECK_S", 0.1)

    def die(world):
        flights = world.flow.proxy._relay._flights
        flights.leases.clear()
        flights.write = lambda *_: asyncio.sleep(3600)

    return die


async def test_a_leader_that_dies_before_it_answers_is_replaced_by_one_follower(company, api, gate, die):
    upstream = gated(api, gate, stream=False)
    one, two, three = [await company.proxy(upstream) for _ in range(3)]
    await asking(one)
    others = [world.tasks.begin(world.send(world.chat("Tell me")), name="ask") for world in (two, three)]
    await until(lambda: followed(one) == 2)
    die(one)
    await until(lambda: len(upstream.received) == 2)
    await until(lambda: followed(two) + followed(three) == 1)
    gate.set()
    assert {(await each).text for each in others} == {TEXT}
    assert len(upstream.received) == 2


async def test_a_stream_whose_leader_dies_fails_and_is_not_mixed_with_another(company, api, gate, die):
    upstream = gated(api, gate)
    one, two = [await company.proxy(upstream) for _ in range(2)]
    starter = await one.handle(one.chat("Tell me", stream=True))
    joiner = await two.handle(two.chat("Tell me", stream=True))
    began = await anext(joiner.body)
    await anext(starter.body)
    die(one)
    rest = b"".join([chunk async for chunk in joiner.body])
    assert began
    assert b"cacheproxy_upstream_unreachable" in rest
    assert b"[DONE]" not in rest
    assert len(upstream.received) == 1


async def test_a_follower_whose_stream_was_cut_is_told_so_while_the_leader_goes_on(company, api, gate, monkeypatch):
    monkeypatch.setattr(relay, "CUT_PAUSE_S", 0.01)
    first, second, *rest = api.pieces(api.completion(TEXT))
    end = asyncio.Event()
    upstream = ScriptedUpstream(lambda _: Answer(headers=EVENT_STREAM, chunks=[first, gate, second, end, *rest]))
    one, two = [await company.proxy(upstream) for _ in range(2)]
    starter = await one.handle(one.chat("Tell me", stream=True))
    joiner = await two.handle(two.chat("Tell me", stream=True))
    await anext(joiner.body)
    flights = one.flow.proxy._relay._flights
    write, failures = flights.write, iter(range(2))

    async def fails_twice(process, message):
        if next(failures, None) is not None:
            raise PortUnavailable("no connection for a moment")
        await write(process, message)

    monkeypatch.setattr(flights, "write", fails_twice)
    gate.set()
    async with asyncio.timeout(30):
        told = b"".join([chunk async for chunk in joiner.body])
    assert b"cacheproxy_upstream_unreachable" in told
    end.set()
    assert (await one.read(starter)).body.endswith(b"[DONE]\n\n")
    assert len(upstream.received) == 1


async def test_who_has_waited_long_enough_asks_the_upstream_itself(company, api, gate):
    upstream = ScriptedUpstream([api.whole(api.completion("late"), head_waits=gate), api.whole(api.completion("mine"))])
    one, two = [await company.proxy(upstream, redis={"coalesce_s": 0.2}) for _ in range(2)]
    clocked = asyncio.get_running_loop().time
    two.flow.proxy._relay._clock = clocked
    first = await asking(one)
    assert (await two.send(two.chat("Tell me"))).text == "mine"
    gate.set()
    assert (await first).text == "late"


async def test_a_redis_that_is_frozen_costs_its_deadline_and_no_answer(open_world, stack, api, tmp_path):
    needs_redis()
    server = stack.enter_context(running_server(tmp_path))
    company = Company(open_world, stack, server.url, "frozen")
    world = await company.proxy(ScriptedUpstream(api.echo), deadlines={"store_ms": 50})
    server.freeze()
    try:
        replies = [await world.send(world.chat(f"Question {number}")) for number in range(5)]
    finally:
        server.thaw()
    assert [reply.status for reply in replies] == [200] * 5
    assert "leases" in {shelter.port for shelter in world.flow.shelters}


async def test_a_redis_that_freezes_in_mid_stream_leaves_the_leaders_callers_alone(
    open_world, stack, api, tmp_path, gate
):
    needs_redis()
    server = stack.enter_context(running_server(tmp_path))
    company = Company(open_world, stack, server.url, "frozen")
    upstream = gated(api, gate)
    one, two = [await company.proxy(upstream, deadlines={"store_ms": 2000}) for _ in range(2)]
    starter = await one.handle(one.chat("Tell me", stream=True))
    joiner = await two.handle(two.chat("Tell me", stream=True))
    await anext(joiner.body)
    server.freeze()
    try:
        gate.set()
        assert (await one.read(starter)).body.endswith(b"[DONE]\n\n")
        rest = b"".join([chunk async for chunk in joiner.body])
    finally:
        server.thaw()
    assert b"cacheproxy_upstream_unreachable" in rest


async def test_without_redis_there_is_nothing_to_ask(open_world, api):
    world = await open_world(api.echo)
    assert world.flow.proxy._relay is None
    assert "leases" not in {shelter.port for shelter in world.flow.shelters}
