"""Fail open: a call that fails or takes too long is a fallback, and after several of them nobody waits any more."""

import asyncio

import pytest

from cacheproxy.core.breaker import BreakerState
from cacheproxy.errors import PortUnavailable, TurnTooLong
from cacheproxy.flow.shelter import Shelter


class Watch:
    """Notes how calls went."""

    def __init__(self):
        self.notes = []

    def took(self, port, operation, seconds):
        self.notes.append(("took", port, operation))

    def failed(self, port, operation):
        self.notes.append(("failed", port, operation))


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def shelter(clock, watch):
    return Shelter("store", deadline_s=0.01, clock=clock, watch=watch)


async def works():
    return "result"


async def hangs():
    await asyncio.Event().wait()


def raises(error):
    async def work():
        raise error

    return work


async def test_a_call_that_works_is_its_result(shelter, watch):
    assert await shelter.call("find", works) == "result"
    assert watch.notes == [("took", "store", "find")]


@pytest.mark.parametrize(
    "work",
    [hangs, raises(PortUnavailable("gone")), raises(TimeoutError()), raises(RuntimeError("bug"))],
    ids=["hangs", "fails", "times out", "breaks its contract"],
)
async def test_a_call_that_fails_is_nothing(shelter, watch, work):
    assert await shelter.call("find", work) is None
    assert watch.notes == [("failed", "store", "find")]


async def test_after_several_failures_nobody_waits_until_a_trial_works(shelter, watch, clock):
    for _ in range(5):
        await shelter.call("find", raises(PortUnavailable("gone")))
    assert shelter.state is BreakerState.OPEN
    assert await shelter.call("find", works) is None
    assert len(watch.notes) == 5
    clock.now += 5
    assert shelter.state is BreakerState.HALF_OPEN
    assert await shelter.call("find", works) == "result"
    assert shelter.state is BreakerState.CLOSED


async def test_errors_that_are_answers_are_raised_and_do_not_count(shelter):
    for _ in range(10):
        with pytest.raises(TurnTooLong):
            await shelter.call("embed", raises(TurnTooLong("long")), passing=(TurnTooLong,))
    assert shelter.state is BreakerState.CLOSED


async def test_a_caller_that_leaves_is_no_failure_of_the_port(clock, watch):
    shelter = Shelter("store", deadline_s=10, clock=clock, watch=watch)
    for _ in range(10):
        call = asyncio.gather(shelter.call("find", hangs))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert shelter.state is BreakerState.CLOSED
    assert watch.notes == []


async def test_the_log_names_the_first_failure_of_a_series_and_what_was_tried(shelter, caplog):
    for _ in range(8):
        await shelter.call("find", raises(PortUnavailable("disk gone")))
    assert "store.find failed, going on without it: disk gone" in caplog.text


async def test_of_a_port_that_is_known_to_be_away_nothing_is_asked_counted_or_said(clock, watch, caplog):
    """Each request over an absent store was a failed call, a count and now and then a warning."""
    shelter = Shelter("store", deadline_s=10, clock=clock, watch=watch, away=True)
    for _ in range(10):
        assert await shelter.call("find", works) is None
    assert shelter.state is BreakerState.OPEN
    assert (watch.notes, caplog.records) == ([], [])
