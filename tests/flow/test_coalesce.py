"""Equal requests in flight share one upstream call."""

import asyncio
import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.waiting import until

from cacheproxy.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from cacheproxy.flow import coalesce
from cacheproxy.flow.coalesce import Flight, Flights, Head, Outcome, Piece
from cacheproxy.tasks import TaskSet

STREAM = Head(200, (), events=True)
DONE = Outcome(200)


async def all_of(listener, *, with_usage=True):
    return b"".join([data async for data in listener.body(with_usage=with_usage)])


@pytest.fixture
async def tasks():
    async with TaskSet("test") as tasks:
        yield tasks


def a_flight(limit_bytes=1000):
    return Flight(streaming=True, limit_bytes=limit_bytes)


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


async def test_a_flight_that_has_ended_is_gone_without_the_garbage_collector(tasks):
    async def pump(flight):
        flight.land(STREAM)
        flight.end(DONE)

    flights = Flights(tasks, abandon_s=60, finish_abandoned=False, limit_bytes=1000)
    gc.disable()
    try:
        flight = flights.start("key", pump, streaming=True)
        listener = flight.listen()
        await listener.end()
        listener.leave()
        await until(lambda: not len(tasks))
        left = weakref.ref(flight)
        del flight, listener
        assert left() is None
    finally:
        gc.enable()
