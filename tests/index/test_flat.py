"""The oracle itself, checked against arithmetic done by hand and in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cacheproxy.errors import PortUnavailable
from cacheproxy.index.flat import FlatIndex, Rows, grown, rank, unit
from cacheproxy.model import IndexRow

SCOPE = b"scope"


def vector(*numbers):
    return np.array(numbers, np.float32)


async def filled(**vectors):
    index = FlatIndex()
    for entry_id, numbers in vectors.items():
        await index.add(IndexRow(entry_id, SCOPE, vector(*numbers), entry_id))
    return index


async def test_similarity_is_the_cosine_whatever_the_lengths():
    index = await filled(near=(3, 4), far=(0, 2))
    found = await index.nearest(SCOPE, vector(5, 0), 2)
    assert [(n.entry_id, round(n.similarity, 6)) for n in found] == [("near", 0.6), ("far", 0.0)]


async def test_opposite_directions_count_as_zero_and_stand_in_the_order_of_their_ids():
    index = await filled(c=(-1, 0), a=(-1, -1), b=(0, 1), d=(1, 1))
    found = await index.nearest(SCOPE, vector(1, 0), 3)
    assert [n.entry_id for n in found] == ["d", "a", "b"]
    assert [n.similarity for n in found[1:]] == [0.0, 0.0]


@given(
    row=hnp.arrays(np.float32, 96, elements=st.floats(-1, 1, width=32)).filter(lambda row: np.linalg.norm(row) > 0.1),
    copies=st.integers(2, 40),
)
@settings(max_examples=30, deadline=None)
def test_equal_vectors_are_equally_similar_wherever_they_stand(row, copies):
    query = unit(np.linspace(-1, 1, 96, dtype=np.float32), 96)
    found = rank([f"{n:02}" for n in range(copies)], np.tile(row, (copies, 1)), query, copies)
    assert len({neighbor.similarity for neighbor in found}) == 1
    assert [neighbor.entry_id for neighbor in found] == [f"{n:02}" for n in range(copies)]


def test_rows_forget_the_first_the_middle_and_the_last():
    rows = Rows(SCOPE, 2)
    for number, entry_id in enumerate("abcde"):
        rows.put(entry_id, unit(vector(number, 1), 2))
    for entry_id in "ace":
        rows.drop(entry_id)
    found = rows.nearest(unit(vector(3, 1), 2), 5)
    assert [n.entry_id for n in found] == ["d", "b"]
    assert found[0].similarity == pytest.approx(1)


@pytest.mark.parametrize(
    ("count", "most", "room"), [(0, None, 1), (1, None, 2), (8, None, 10), (1000, None, 1250), (1000, 1024, 1024)]
)
def test_an_array_grows_by_a_quarter_and_keeps_what_it_holds(count, most, room):
    before = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    after = grown(before, most)
    assert after.shape == (room, 2)
    assert np.array_equal(after[:count], before)


def test_a_unit_vector_has_length_one_even_where_squares_underflow():
    assert np.linalg.norm(unit(vector(1e-30, 1e-30), 2)) == pytest.approx(1, abs=1e-6)


def test_a_vector_of_another_dimension_is_refused_by_name():
    with pytest.raises(PortUnavailable, match="2 dimensions"):
        unit(vector(1, 2, 3), 2)


async def test_adding_under_another_scope_moves_the_entry():
    index = FlatIndex()
    await index.add(IndexRow("a", b"one", np.array([1, 0], np.float32), "a"))
    await index.add(IndexRow("a", b"two", np.array([1, 0], np.float32), "a"))
    assert await index.is_empty(b"one")
    assert [near.entry_id for near in await index.nearest(b"two", np.array([1, 0], np.float32), 5)] == ["a"]
    assert len(index) == 1
