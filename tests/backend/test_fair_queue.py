from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.backend.fair_queue import FairQueue


def drained(queue):
    found = []
    while (item := queue.pop()) is not None:
        found.append(item)
    return found


def test_equals_come_out_in_the_order_in_which_they_came():
    queue = FairQueue(10)
    for item in "abc":
        queue.push(item, 5)
    assert drained(queue) == ["a", "b", "c"]


def test_a_short_one_overtakes_a_long_one():
    queue = FairQueue(10)
    queue.push("long", 1000)
    queue.push("short", 10)
    assert drained(queue) == ["short", "long"]


def test_a_long_one_is_overtaken_by_no_more_than_its_own_length():
    queue = FairQueue(1000)
    queue.push("long", 100)
    overtaking = 0
    queue.push("short", 10)
    while queue.pop() == "short":
        overtaking += 10
        queue.push("short", 10)
    assert overtaking <= 100


def test_what_is_withdrawn_does_not_come_out():
    queue = FairQueue(10)
    number = queue.push("a", 1)
    queue.push("b", 2)
    assert queue.withdraw(number)
    assert not queue.withdraw(number)
    assert len(queue) == 1
    assert drained(queue) == ["b"]


def test_a_full_queue_takes_nothing_until_one_leaves():
    queue = FairQueue(1)
    number = queue.push("a", 1)
    assert queue.full
    with pytest.raises(OverflowError):
        queue.push("b", 1)
    queue.withdraw(number)
    queue.push("b", 1)


@given(st.lists(st.one_of(st.integers(1, 100), st.none()), max_size=60))
def test_everything_comes_out_once(steps):
    queue, numbers, out = FairQueue(1000), deque(), []
    for cost in steps:
        if cost is None:
            out.append(queue.pop())
        else:
            numbers.append(queue.push(len(numbers), cost))
    out += drained(queue)
    assert sorted(item for item in out if item is not None) == list(range(len(numbers)))
