"""Requests that share an upstream call, over the whole flow."""

import asyncio
import json

import pytest
from support.waiting import until

from cacheproxy.errors import UpstreamUnreachable
from cacheproxy.model import CacheStatus, Layer
from cacheproxy.upstream.scripted import EVENT_STREAM, Answer, Fails


def listeners(world):
    """How many callers wait for flights that can be joined."""
    return sum(len(flight._listeners) for flight in world.flow.proxy._flights._by_key.values())


# --- over the whole flow


def gated(api, gate, answer=None, *, stream=True):
    """An upstream that holds its answer's end back until the gate is set."""
    answer = answer or api.completion("Once upon a time there was a cache that nobody had to wait for at all.")
    if stream:
        first, *rest = api.pieces(answer)
        return lambda _: Answer(headers=EVENT_STREAM, chunks=[first, gate, *rest])
    return lambda _: api.whole(answer, head_waits=gate)


async def test_equal_requests_in_flight_share_one_upstream_call(open_world, api):
    gate = asyncio.Event()
    world = await open_world(gated(api, gate, stream=False))
    asking = [world.tasks.begin(world.send(world.chat("Tell me")), name="ask") for _ in range(20)]
    await until(lambda: listeners(world) == 20)
    gate.set()
    replies = [await one for one in asking]
    assert len(world.upstream.received) == 1
    assert len({reply.text for reply in replies}) == 1
    assert sorted(reply.cache[1] for reply in replies) == ["coalesced"] * 19 + ["no-neighbor"]
    assert len({reply.json["id"] for reply in replies}) == 20
    assert sum(event.cost_usd > 0 for event in world.told) == 1
    assert sum(event.layer is Layer.COALESCED and event.saved_usd > 0 for event in world.told) == 19


async def test_a_late_joiner_of_a_stream_gets_all_of_it_and_the_starter_may_leave(open_world, api):
    gate = asyncio.Event()
    world = await open_world(gated(api, gate))
    body = world.chat("Tell me", stream=True)
    starter = await world.handle(body)
    await anext(starter.body)
    joiners = [await world.handle(body) for _ in range(3)]
    await starter.close()
    gate.set()
    replies = [await world.read(joiner) for joiner in joiners]
    await world.settled()
    assert {reply.text for reply in replies} == {
        "Once upon a time there was a cache that nobody had to wait for at all."
    }
    assert {reply.cache for reply in replies} == {("Hit", "coalesced")}
    assert len(world.upstream.received) == 1
    assert (await world.ask("Tell me")).cache == ("Hit", "exact")
    assert sum(event.layer is Layer.COALESCED for event in world.told) == 3


async def test_a_joiner_is_told_of_even_when_the_flight_ended_before_it_looked(open_world, api):
    gate = asyncio.Event()
    answer = api.completion("All at once.")
    world = await open_world(
        lambda _: Answer(headers=EVENT_STREAM, chunks=[b"".join(api.pieces(answer))], head_waits=gate)
    )
    body = world.chat("Tell me", stream=True)
    asking = [world.tasks.begin(world.send(body), name="ask") for _ in range(5)]
    await until(lambda: listeners(world) == 5)
    gate.set()
    assert {(await one).text for one in asking} == {"All at once."}
    assert len(world.told) == 5


@pytest.mark.parametrize("first_streams", [True, False])
async def test_a_joiner_in_the_other_stream_mode_is_answered_in_its_own(open_world, api, first_streams):
    gate = asyncio.Event()
    world = await open_world(gated(api, gate, stream=first_streams))
    starter = world.tasks.begin(world.send(world.chat("Tell me", stream=first_streams)), name="start")
    await until(lambda: world.upstream.received)
    joiner = world.tasks.begin(world.send(world.chat("Tell me", stream=not first_streams)), name="join")
    await until(lambda: listeners(world) == 2)
    gate.set()
    first, second = await starter, await joiner
    assert first.text == second.text
    assert second.cache == ("Hit", "coalesced")
    assert second.headers["Content-Type"].startswith("application/json" if first_streams else "text/event-stream")
    assert len(world.upstream.received) == 1


@pytest.mark.parametrize("status", [200, 400], ids=["a stream", "an error"])
async def test_a_joiner_got_the_starters_cookies_and_organization(open_world, api, status):
    gate = asyncio.Event()
    personal = [("Set-Cookie", "session=1"), ("openai-organization", "acme"), ("X-Request-Id", "req_1")]
    pieces = api.pieces(api.completion("Once."))
    chunks = [pieces[0], gate, *pieces[1:]] if status == 200 else [b"{}"]
    headers = [*(EVENT_STREAM if status == 200 else ()), *personal]
    answer = Answer(status=status, headers=headers, chunks=chunks, head_waits=None if status == 200 else gate)
    world = await open_world(lambda _: answer, cache={"shared": True})
    body = world.chat("Tell me", stream=True)
    asking = [world.tasks.begin(world.send(body), name="ask") for _ in range(2)]
    await until(lambda: listeners(world) == 2)
    gate.set()
    starter, joiner = [await one for one in asking]
    assert len(world.upstream.received) == 1
    assert (starter.headers["Set-Cookie"], starter.headers["openai-organization"]) == ("session=1", "acme")
    assert "Set-Cookie" not in joiner.headers
    assert "openai-organization" not in joiner.headers
    assert joiner.headers["X-Request-Id"] == "req_1"


async def test_a_joiner_that_did_not_ask_for_usage_is_spared_the_starters(open_world, api):
    gate = asyncio.Event()
    first, *rest = api.pieces(api.completion("Once."), usage=True)
    world = await open_world(lambda _: Answer(headers=EVENT_STREAM, chunks=[first, gate, *rest]))
    starter = await world.handle(world.chat("Tell me", stream=True, stream_options={"include_usage": True}))
    joiner = await world.handle(world.chat("Tell me", stream=True))
    gate.set()
    assert b"total_tokens" in (await world.read(starter)).body
    assert b"total_tokens" not in (await world.read(joiner)).body


async def test_when_every_caller_left_the_upstream_is_cancelled_and_nothing_is_stored(open_world, api):
    world = await open_world(gated(api, asyncio.Event()), deadlines={"abandon_s": 0})
    starter = await world.handle(world.chat("Tell me", stream=True))
    await starter.close()
    await until(lambda: not world.upstream.open)
    await world.settled()
    assert world.upstream.abandoned == 1
    assert await world.entries() == 0
    assert len(world.told) == 1


async def test_a_stream_whose_caller_left_is_finished_and_stored_when_the_operator_says_so(open_world, api):
    gate = asyncio.Event()
    world = await open_world(gated(api, gate), deadlines={"abandon_s": 0}, finish_abandoned=True)
    starter = await world.handle(world.chat("Tell me", stream=True))
    await starter.close()
    gate.set()
    await world.settled()
    assert world.upstream.abandoned == 0
    assert (await world.ask("Tell me")).cache == ("Hit", "exact")


async def test_a_caller_that_vanishes_while_it_waits_leaves_the_flight_to_the_others(open_world, api):
    gate = asyncio.Event()
    world = await open_world(gated(api, gate, stream=False), deadlines={"abandon_s": 0})
    asking = [world.tasks.begin(world.send(world.chat("Tell me")), name="ask") for _ in range(3)]
    await until(lambda: listeners(world) == 3)
    for one in asking[:2]:
        one.cancel()
    await asyncio.sleep(0.01)
    gate.set()
    assert (await asking[2]).status == 200
    assert len(world.upstream.received) == 1


async def test_an_unproven_credential_joins_nobody_elses_flight(open_world, api):
    gate = asyncio.Event()
    world = await open_world(gated(api, gate, stream=False), cache={"shared": True})
    starter = world.tasks.begin(world.send(world.chat("Tell me")), name="proven")
    await until(lambda: world.upstream.received)
    stranger = {"Authorization": "Bearer made-up"}
    asking = [world.tasks.begin(world.send(world.chat("Tell me"), headers=stranger), name="no") for _ in range(2)]
    await until(lambda: len(world.upstream.received) == 2)
    gate.set()
    await starter
    assert [(await one).status for one in asking] == [200, 200]
    assert len(world.upstream.received) == 2  # the two share with each other
    assert world.upstream.received[1].header("authorization") == "Bearer made-up"


async def test_nobody_joins_the_flight_of_an_unproven_credential(open_world, api):
    gate = asyncio.Event()
    world = await open_world(gated(api, gate, stream=False), cache={"shared": True})
    stranger = {"Authorization": "Bearer made-up"}
    first = world.tasks.begin(world.send(world.chat("Tell me"), headers=stranger), name="stranger")
    await until(lambda: world.upstream.received)
    second = world.tasks.begin(world.send(world.chat("Tell me")), name="proven")
    await until(lambda: len(world.upstream.received) == 2)
    gate.set()
    assert (await first).status == (await second).status == 200


async def test_several_samples_are_asked_for_independently(open_world, api):
    gate = asyncio.Event()
    world = await open_world(gated(api, gate, stream=False), cache={"samples": 3})
    asking = [world.tasks.begin(world.send(world.chat("Draw")), name="ask") for _ in range(3)]
    await until(lambda: len(world.upstream.received) == 3)
    gate.set()
    assert [(await one).cache[0] for one in asking] == ["Miss"] * 3


async def test_refreshing_requests_do_not_share(open_world, api):
    gate = asyncio.Event()
    world = await open_world(gated(api, gate, stream=False))
    headers = {"Cache-Control": "no-cache"}
    asking = [world.tasks.begin(world.send(world.chat("Hi"), headers=headers), name="ask") for _ in range(2)]
    await until(lambda: len(world.upstream.received) == 2)
    gate.set()
    assert [(await one).cache for one in asking] == [("Refresh", "no-cache")] * 2


@pytest.mark.parametrize("stream", [True, False])
async def test_everyone_in_a_flight_gets_its_error(open_world, api, stream):
    gate = asyncio.Event()
    error = json.dumps({"error": {"message": "busy"}}).encode()
    limited = Answer(status=429, headers=[("Retry-After", "7")], chunks=[error], head_waits=gate)
    world = await open_world(lambda _: limited)
    asking = [world.tasks.begin(world.send(world.chat("Hi", stream=stream)), name="ask") for _ in range(3)]
    await until(lambda: world.upstream.received)
    gate.set()
    replies = [await one for one in asking]
    assert {(reply.status, reply.headers["Retry-After"], reply.body) for reply in replies} == {(429, "7", error)}
    assert {event.status for event in world.told} == {CacheStatus.MISS}
    assert len(world.told) == 3


async def test_everyone_in_a_flight_that_never_lands_is_answered_and_told_of(open_world, api):
    world = await open_world(lambda _: Fails(UpstreamUnreachable("no route")))
    asking = [world.tasks.begin(world.send(world.chat("Hi")), name="ask") for _ in range(3)]
    assert [(await one).status for one in asking] == [502] * 3
    assert len(world.told) == 3


async def test_a_joiner_of_an_answer_that_cannot_be_replayed_asks_for_itself(open_world, api):
    gate = asyncio.Event()
    cut = api.pieces(api.completion("Once upon a time."))[:-2]
    steps = [
        Answer(headers=EVENT_STREAM, chunks=[cut[0], gate, *cut[1:]]),
        api.whole(api.completion("Once upon a time.")),
    ]
    world = await open_world(steps)
    starter = await world.handle(world.chat("Tell me", stream=True))
    joiner = world.tasks.begin(world.send(world.chat("Tell me")), name="join")
    await until(lambda: listeners(world) == 2)
    gate.set()
    await world.read(starter)
    assert (await joiner).text == "Once upon a time."
    assert len(world.upstream.received) == 2


async def test_a_very_long_stream_is_passed_on_whole_and_not_stored(open_world, api):
    long = api.completion("word " * 20_000)
    many = api.streamed(long)
    world = await open_world(lambda _: many, cache={"max_answer_bytes": 10_000})
    reply = await world.ask("Tell me", stream=True)
    assert reply.text == "word " * 20_000
    assert await world.entries() == 0
