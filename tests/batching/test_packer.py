"""Packing loses no text, keeps its limits, and wastes little padding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.batching.packer import pack

LENGTHS = st.lists(st.integers(0, 600), max_size=200)


@given(LENGTHS, st.integers(1, 70), st.integers(1, 2000), st.integers(0, 2000))
@settings(deadline=None)
def test_every_text_is_packed_once_and_every_batch_is_within_its_limits(lengths, items, tokens, launch):
    batches = pack(lengths, max_items=items, max_padded_tokens=tokens, launch_tokens=launch)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= items
        assert len(batch) == 1 or len(batch) * max(lengths[position] for position in batch) <= tokens


@given(LENGTHS)
@settings(deadline=None)
def test_texts_are_computed_from_the_shortest_to_the_longest(lengths):
    packed = [lengths[position] for batch in pack(lengths) for position in batch]
    assert packed == sorted(lengths)


@pytest.mark.parametrize(
    ("lengths", "limits", "batches"),
    [
        ([], {}, []),
        ([5], {}, [[0]]),
        ([9, 2, 5], {}, [[1, 2, 0]]),
        ([1, 1, 1], {"max_items": 2}, [[0, 1], [2]]),
        ([4, 4, 4], {"max_padded_tokens": 8}, [[0, 1], [2]]),
        ([100, 3, 3], {"max_padded_tokens": 50}, [[1, 2], [0]]),
        ([10, 10, 100], {"launch_tokens": 179}, [[0, 1], [2]]),
        ([10, 10, 100], {"launch_tokens": 180}, [[0, 1, 2]]),
    ],
    ids=[
        "nothing",
        "one",
        "sorted by length",
        "at most so many texts",
        "at most so many tokens",
        "one over the limit goes alone",
        "padding dearer than a launch starts a batch",
        "padding as dear as a launch does not",
    ],
)
def test_batches(lengths, limits, batches):
    assert pack(lengths, **limits) == batches
