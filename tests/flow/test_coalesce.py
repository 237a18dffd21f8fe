"""Equal requests in flight share one upstream call."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from cacheproxy.flow import coalesce
from cacheproxy.flow.coalesce import Flight, Flights, Head, Outcome, Piece
from cacheproxy.model import CacheStatus, Layer
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.scripted import EVENT_STREAM, Answer, Fails

STREAM = Head(200, (), events=True)
DONE = Outcome(200)


async def until(condition):
    """Let everything else run until something holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the conditions are counters, which set no event
            await asyncio.sleep(0)


async def all_of(listener, *, with_usage=True):
    return b"".join([data async for data in listener.body(with_usage=with_usage)])


@pytest.fixture
async def tasks():
    async with TaskSet("test") as tasks:
        yield tasks


def a_flight(limit_bytes=1000):
    return Flight(streaming=True, limit_bytes=limit_bytes)


def listeners(world):
    """How many callers wait for flights that can be joined."""
    return sum(len(flight._listeners) for flight in world.flow.proxy._flights._by_key.values())


# --- a flight and its listeners


async def test_a_late_listener_gets_what_was_sent_so_far_and_then_live_pieces():
    flight = a_flight()
    flight.land(STREAM)
    await flight.push(Piece(b"so "))
    await flight.push(Piece(b"far, "))
    late = flight.listen().body(with_usage=True)
    assert await anext(late) == b"so far, "
    await flight.push(Piece(b"live"))
    assert await anext(late) == b"live"
    flight.end(DONE)
    assert [data async for data in late] == []


async def test_usage_goes_only_to_those_who_asked_for_it():
    flight = a_flight()
    flight.land(STREAM)
    plain, counting = flight.listen(), flight.listen()
    await flight.push(Piece(b"text "))
    await flight.push(Piece(b"usage", usage=True))
    flight.end(DONE)
    assert await all_of(plain, with_usage=False) == b"text "
    assert await all_of(counting, with_usage=True) == b"text usage"


async def test_an_error_reaches_every_listener_after_the_pieces():
    flight = a_flight()
    early = flight.listen()
    flight.land(STREAM)
    await flight.push(Piece(b"half"))
    flight.end(Outcome(200), UpstreamUnreachable("reset"))
    for listener in (early, flight.listen()):
        body = listener.body(with_usage=True)
        assert await anext(body) == b"half"
        with pytest.raises(UpstreamUnreachable):
            await anext(body)


async def test_a_flight_that_fails_before_its_head_fails_for_everyone():
    flight = a_flight()
    flight.end(Outcome(504), UpstreamTimeout("slow"))
    with pytest.raises(UpstreamTimeout):
        await flight.listen().head()
    assert await flight.listen().end() == Outcome(504)


async def test_whoever_asks_to_be_called_back_after_the_end_is():
    flight = a_flight()
    flight.end(DONE)
    told = []
    flight.when_ended(told.append)
    assert told == [DONE]


async def test_a_flight_past_its_limit_takes_no_more_listeners():
    flight = a_flight(limit_bytes=10)
    flight.listen()
    await flight.push(Piece(b"0123456789"))
    assert flight.joinable
    await flight.push(Piece(b"0"))
    assert not flight.joinable


async def pumping(flight, pieces, most):
    """Push everything; ``most`` gets how many bytes were held at the most."""
    for piece in pieces:
        await flight.push(Piece(piece))
        most.append(flight._held_bytes)
    flight.end(DONE)


NUMBERED = [b"%03d " % number for number in range(1000)]


async def test_a_flight_past_its_limit_waits_for_its_only_listener_in_bounded_memory(monkeypatch, tasks):
    monkeypatch.setattr(coalesce, "BACKLOG_BYTES", 100)
    flight, held = a_flight(limit_bytes=200), []
    flight.land(STREAM)
    slow = flight.listen()
    tasks.start(pumping(flight, NUMBERED, held), name="pump")
    body = slow.body(with_usage=True)
    read = await anext(body)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not flight.ended
    async for data in body:
        read += data
        await asyncio.sleep(0)
    assert read == b"".join(NUMBERED)
    assert max(held) <= 200 + 100 + 4


async def test_past_the_limit_one_listener_that_stalled_stopped_all_the_others(monkeypatch, tasks):
    monkeypatch.setattr(coalesce, "BACKLOG_BYTES", 100)
    flight, held = a_flight(limit_bytes=200), []
    flight.land(STREAM)
    stalled, slow = flight.listen().body(with_usage=True), flight.listen().body(with_usage=True)
    quick = tasks.begin(all_of(flight.listen()), name="quick")
    tasks.start(pumping(flight, NUMBERED, held), name="pump")
    began = await anext(stalled)
    assert await quick == b"".join(NUMBERED)
    assert b"".join(NUMBERED).startswith(began)
    with pytest.raises(Overloaded, match="too slowly"):
        await anext(stalled)
    with pytest.raises(Overloaded):  # it had not even begun
        await anext(slow)
    assert max(held) <= 200 + 100 + 4


async def test_a_listener_that_is_a_little_behind_is_not_cut_off(monkeypatch, tasks):
    monkeypatch.setattr(coalesce, "BACKLOG_BYTES", 100)
    flight = a_flight(limit_bytes=200)
    flight.land(STREAM)
    behind = flight.listen().body(with_usage=True)
    quick = tasks.begin(all_of(flight.listen()), name="quick")
    for piece in NUMBERED[:40]:
        await flight.push(Piece(piece))
    read = await anext(behind)
    await pumping(flight, NUMBERED[40:80], [])
    assert await quick == b"".join(NUMBERED[:80])
    assert not flight.joinable
    assert read + b"".join([data async for data in behind]) == b"".join(NUMBERED[:80])


async def test_a_piece_larger_than_all_limits_cuts_off_nobody_who_is_alone(monkeypatch, tasks):
    monkeypatch.setattr(coalesce, "BACKLOG_BYTES", 10)
    flight = a_flight(limit_bytes=10)
    flight.land(STREAM)
    listener = flight.listen()
    tasks.start(pumping(flight, [b"x" * 1000] * 3, []), name="pump")
    assert await all_of(listener) == b"x" * 3000


async def test_those_who_only_wait_for_the_end_woke_each_other_without_rest(monkeypatch, tasks):
    flight = a_flight(limit_bytes=1)
    flight.land(STREAM)
    waiting = [tasks.begin(flight.listen().end(), name="wait") for _ in range(3)]
    await flight.push(Piece(b"past the limit"))
    wakes = []
    monkeypatch.setattr(flight, "_wake", lambda: wakes.append(Flight._wake(flight)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(wakes) <= 3
    flight.end(DONE)
    assert [await one for one in waiting] == [DONE] * 3


async def test_a_flight_past_its_limit_that_nobody_reads_holds_nothing():
    flight = a_flight(limit_bytes=10)
    listener = flight.listen()
    await flight.push(Piece(b"x" * 11))
    listener.leave()
    for _ in range(10):
        await flight.push(Piece(b"x" * coalesce.BACKLOG_BYTES))
    assert flight._held_bytes == 0


@settings(max_examples=50, deadline=None)
@given(
    pushed=st.lists(st.binary(min_size=1, max_size=20), max_size=20),
    joins=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    limit=st.integers(1, 500),
)
def test_every_listener_gets_every_byte_whenever_it_joins(pushed, joins, limit):
    async def fly():
        async with TaskSet("test") as tasks:
            flight = a_flight(limit)
            flight.land(STREAM)
            readers = []
            for number, data in enumerate(pushed):
                if flight.joinable:
                    readers += [tasks.begin(all_of(flight.listen()), name="read") for at in joins if at == number]
                await flight.push(Piece(data))
                if number % 3 == 0:
                    await asyncio.sleep(0)
            flight.end(DONE)
            assert {await reader for reader in readers} <= {b"".join(pushed)}

    asyncio.run(fly())


# --- flights


def flights_of(tasks, *, abandon_s=0.0, finish_abandoned=False):
    return Flights(tasks, abandon_s=abandon_s, finish_abandoned=finish_abandoned, limit_bytes=1000)


async def hang(flight):
    try:
        await asyncio.Event().wait()
    finally:
        flight.end(Outcome(0), UpstreamUnreachable("given up"))


async def test_a_flight_is_found_until_it_ends(tasks):
    flights, gate = flights_of(tasks), asyncio.Event()

    async def pump(flight):
        await gate.wait()
        flight.end(DONE)

    flight = flights.start("key", pump, streaming=False)
    assert flights.find("key") is flight
    assert flights.find("other") is None
    gate.set()
    await flight.listen().end()
    assert flights.find("key") is None
    assert len(flights) == 0


async def test_a_flight_without_a_key_is_never_found(tasks):
    flights = flights_of(tasks)
    flights.start(None, hang, streaming=False)
    assert flights.find(None) is None


async def test_a_flight_that_cannot_be_joined_makes_room_for_another(tasks):
    flights = flights_of(tasks)
    first = flights.start("key", hang, streaming=False)
    first.joinable = False
    second = flights.start("key", hang, streaming=False)
    first.end(DONE)
    assert flights.find("key") is second


async def test_when_the_last_listener_left_the_call_is_cancelled(tasks):
    flights = flights_of(tasks)
    flight = flights.start("key", hang, streaming=False)
    one, other = flight.listen(), flight.listen()
    one.leave()
    await asyncio.sleep(0.01)
    assert not flight.ended
    other.leave()
    await until(lambda: flight.ended)
    assert len(flights) == 0


async def test_whoever_joins_in_time_keeps_an_abandoned_flight_up(tasks):
    flights = flights_of(tasks, abandon_s=0.02)
    flight = flights.start("key", hang, streaming=False)
    flight.listen().leave()
    flights.find("key").listen()
    await asyncio.sleep(0.05)
    assert not flight.ended


async def test_each_last_listener_to_leave_gives_the_full_time_again(tasks):
    flights, loop = flights_of(tasks, abandon_s=0.1), asyncio.get_running_loop()
    flight = flights.start("key", hang, streaming=False)
    still_up = loop.create_future()
    flight.listen().leave()
    # The loop's timers come in the order of their times, however late.
    loop.call_later(0.05, lambda: flight.listen().leave())
    loop.call_later(0.12, lambda: still_up.set_result(flight.joinable))
    assert await still_up
    await until(lambda: flight.ended)


async def test_abandoned_flights_are_finished_when_the_operator_says_so(tasks):
    flights = flights_of(tasks, finish_abandoned=True)
    flight = flights.start("key", hang, streaming=False)
    flight.listen().leave()
    await asyncio.sleep(0.01)
    assert not flight.ended


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
