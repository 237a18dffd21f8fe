"""The directory agrees with a plain set, whatever comes and goes."""

from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.store.directory import Directory

KEYS = st.sampled_from([b"a", b"b", b"c"])
IDS = st.sampled_from(["1", "2", "3", "4"])


@given(st.lists(st.tuples(st.booleans(), KEYS, IDS), max_size=40))
def test_it_holds_what_came_and_has_not_gone(events):
    directory, expected = Directory(), set()
    for came, key, entry_id in events:
        if came:
            directory.add(key, entry_id)
            expected.add((key, entry_id))
        else:
            directory.discard(key, entry_id)
            expected.discard((key, entry_id))
    assert sorted(directory) == sorted(expected)
    assert {key for key in (b"a", b"b", b"c") if key in directory} == {key for key, _ in expected}


def test_it_starts_with_what_it_is_given():
    directory = Directory([(b"a", "1"), (b"a", "2"), (b"b", "3")])
    assert sorted(directory) == [(b"a", "1"), (b"a", "2"), (b"b", "3")]
