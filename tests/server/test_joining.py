"""Pages that tell of one process, as one page of several."""

import pytest

from cacheproxy.core.judge_noise import Noise
from cacheproxy.server.api.decision_shapes import JudgeTold
from cacheproxy.server.api.operations import BASE, OPERATIONS
from cacheproxy.server.joining import (
    JOINS,
    LATE_S,
    MOST_IN_BATCH,
    Events,
    audits,
    decision,
    decisions,
    near_misses,
    overview,
    requests,
)


def asked(*times):
    return [{"at": at, "number": place + 1, "model": "m"} for place, at in enumerate(times)]


def test_the_latest_requests_of_all_are_told_and_numbered_by_time():
    told = requests([{"requests": asked(3.0, 1.0), "kept": 2}, {"requests": asked(2.0), "kept": 1}], {"limit": "2"})
    assert told == {
        "requests": [{"at": 3.0, "number": 3_000_000, "model": "m"}, {"at": 2.0, "number": 2_000_000, "model": "m"}],
        "kept": 3,
    }


def test_without_a_limit_it_is_that_of_one_process():
    many = {"requests": asked(*range(90)), "kept": 90}
    assert len(requests([many, many], {})["requests"]) == 100


def test_the_latest_decisions_of_all_are_told():
    told = decisions([{"decisions": asked(1.0)}, {"decisions": asked(2.0)}], {"limit": "1"})
    assert [each["at"] for each in told["decisions"]] == [2.0]


def test_the_likeliest_near_misses_of_all_are_told():
    page = [{"near_misses": [{"p": 0.2, "similarity": 0.9}, {"p": None, "similarity": 0.99}]}]
    told = near_misses([*page, {"near_misses": [{"p": 0.5, "similarity": 0.8}]}], {"limit": "2"})
    assert [each["p"] for each in told["near_misses"]] == [0.5, 0.2]


def test_checks_that_all_know_of_are_told_once():
    known = {"at": 1.0, "entry": "", "verdict": "right", "source": "audit"}
    own = {"at": 2.0, "entry": "a", "verdict": "wrong", "source": "audit"}
    told = audits([{"audits": [known], "since_start": False}, {"audits": [own, known], "since_start": True}], {})
    assert told == {"audits": [own, known], "since_start": False}


def test_hits_of_a_pool_are_added_up_and_what_all_follow_is_not():
    pool = {"pool": "default", "labels": 7, "semantic_hits": 2, "shadow_hits": 1, "shadow_wrong": 0}
    other = {**pool, "pool": "legal"}
    told = overview([{"pools": [pool], "entries": 9}, {"pools": [pool, other], "entries": 9}], {})
    assert told == {"pools": [{**pool, "semantic_hits": 4, "shadow_hits": 2}, other], "entries": 9}


def test_the_judge_is_told_once_as_all_have_measured_it():
    pages = [{"pools": [], "judge": JudgeTold.of(noise).model_dump()} for noise in (Noise(8, 1), Noise(9, 1))]
    assert decision(pages, {})["judge"] == JudgeTold.of(Noise(9, 1)).model_dump()


def test_what_is_joined_is_there_and_only_looked_at():
    there = {BASE + operation.path: operation.method for operation in OPERATIONS}
    assert {there.get(path) for path in JOINS} == {"GET"}


# --- events


@pytest.fixture
def events():
    return Events()


def test_requests_are_told_in_the_order_of_their_ends_whoever_tells_first(events):
    events.heard(1, "requests", {"requests": asked(10.2), "left_out": 0})
    assert events.due(10.2 + LATE_S / 2) is None
    events.heard(2, "requests", {"requests": asked(10.1), "left_out": 3})
    told = events.due(10.2 + LATE_S)
    assert [each["number"] for each in told["requests"]] == [10_100_000, 10_200_000]
    assert told["left_out"] == 3
    assert events.due(20.0) is None


def test_a_batch_has_its_limit(events):
    for worker in (1, 2):
        events.heard(worker, "requests", {"requests": asked(*range(40)), "left_out": 0})
    told = events.due(100.0)
    assert (len(told["requests"]), told["left_out"]) == (MOST_IN_BATCH, 80 - MOST_IN_BATCH)


def test_counters_are_added_up_and_stay_when_a_worker_is_gone(events):
    assert events.tick(1.0) is None
    tick = {"at": 1.0, "requests": 5, "hits": {"exact": 2}, "saved_usd": 0.5, "requests_per_s": 3.0}
    events.heard(1, "tick", tick)
    events.heard(2, "tick", {**tick, "hits": {"semantic": 1}})
    assert events.tick(9.0) == {
        "at": 9.0,
        "requests": 10,
        "hits": {"exact": 2, "semantic": 1},
        "saved_usd": 1.0,
        "requests_per_s": 6.0,
    }
    events.left(1)
    events.left(3)
    told = events.tick(10.0)
    assert (told["requests"], told["requests_per_s"]) == (10, 3.0)
