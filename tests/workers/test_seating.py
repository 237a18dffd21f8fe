"""Every socket is somebody's while anybody is there; pauses grow and end."""

import pytest

from cacheproxy.workers.seating import FIRST_PAUSE_S, LONGEST_PAUSE_S, pause_s, seated


@pytest.mark.parametrize(
    ("slots", "homes", "present", "wanted"),
    [
        (2, 2, {0, 1}, {0: [0], 1: [1]}),
        (2, 2, {1}, {1: [0, 1]}),
        (2, 2, set(), {}),
        (4, 4, {0, 1, 3}, {0: [0], 1: [1], 3: [2, 3]}),
        (4, 2, {0, 1}, {0: [0, 2], 1: [1, 3]}),
        (4, 2, {0}, {0: [0, 1, 2, 3]}),
    ],
    ids=["each its own", "one is away", "nobody", "one of four is away", "fewer workers than before", "one of them"],
)
def test_slots_are_shared_out(slots, homes, present, wanted):
    assert seated(slots, homes, present) == wanted


@pytest.mark.parametrize("present", [{0}, {1, 2}, {0, 1, 2}])
def test_every_slot_is_exactly_one_s(present):
    taken = [slot for slots in seated(5, 3, present).values() for slot in slots]
    assert sorted(taken) == list(range(5))


def test_pauses_grow_up_to_a_limit():
    pauses = [pause_s(failures) for failures in range(2000)]
    assert pauses[0] == FIRST_PAUSE_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S
