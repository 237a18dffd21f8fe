"""What every vector index promises (``ports.VectorIndex``)."""

import numpy as np
import pytest
from support.redis_index import REDISES, indexes_in

from cacheproxy.errors import PortUnavailable
from cacheproxy.index.faiss import FaissIndex
from cacheproxy.index.flat import FlatIndex
from cacheproxy.model import IndexRow

A, B = b"scope a", b"scope b"


IN_PROCESS = {"flat": FlatIndex, "faiss": FaissIndex}


@pytest.fixture(params=[*IN_PROCESS, *REDISES, "redis8, 8 bits"])
async def index(request):
    name, *quantised = request.param.split(", ")
    if name in IN_PROCESS:
        yield IN_PROCESS[name]()
        return
    async with indexes_in(name, request) as indexes:
        yield await indexes.open(quantised=bool(quantised))


def row(entry_id, scope, *numbers, root=None):
    return IndexRow(entry_id, scope, np.array(numbers, np.float32), root or entry_id)


def query(*numbers):
    return np.array(numbers, np.float32)


async def roots(index, scope):
    return {neighbor.entry_id: neighbor.root for neighbor in await index.nearest(scope, query(1, 0), 10)}


async def ids(index, scope, *numbers, k=10):
    return [neighbor.entry_id for neighbor in await index.nearest(scope, query(*numbers), k)]


async def test_an_unknown_scope_is_empty(index):
    assert await index.is_empty(A)
    assert list(await index.nearest(A, query(1, 0), 3)) == []


async def test_the_most_similar_come_first(index):
    for entry_id, numbers in {"far": (0, 1), "near": (1, 0), "between": (1, 1)}.items():
        await index.add(row(entry_id, A, *numbers))
    assert await ids(index, A, 1, 0.1) == ["near", "between", "far"]
    assert await ids(index, A, 1, 0.1, k=2) == ["near", "between"]
    assert await ids(index, A, 1, 0.1, k=0) == []


async def test_equals_stand_in_the_order_of_their_ids(index):
    for entry_id in "cabd":
        await index.add(row(entry_id, A, 1, 2))
    assert await ids(index, A, 2, 1, k=3) == ["a", "b", "c"]


async def test_scopes_do_not_see_each_other(index):
    await index.add(row("a", A, 1, 0))
    await index.add(row("b", B, 1, 0))
    assert await ids(index, A, 1, 0) == ["a"]
    assert await ids(index, B, 1, 0) == ["b"]


async def test_adding_again_replaces_the_vector(index):
    await index.add(row("a", A, 1, 0))
    await index.add(row("a", A, 0, 1))
    [found] = await index.nearest(A, query(0, 1), 5)
    assert found.similarity == pytest.approx(1)


async def test_a_removed_entry_is_found_no_more_and_unknown_ones_are_no_error(index):
    await index.add(row("a", A, 1, 0))
    await index.add(row("b", A, 1, 0))
    await index.remove("a", A)
    await index.remove("a", A)
    await index.remove("never", A)
    assert await ids(index, A, 1, 0) == ["b"]
    await index.remove("b", A)
    assert await index.is_empty(A)


async def test_similarity_lies_between_zero_and_one(index):
    await index.add(row("same", A, 0.1, 0.7))
    await index.add(row("opposite", A, -0.1, -0.7))
    found = await index.nearest(A, query(0.1, 0.7), 2)
    assert [neighbor.entry_id for neighbor in found] == ["same", "opposite"]
    assert found[0].similarity <= 1
    assert found[1].similarity == 0


BROKEN = {"zero": (0, 0), "nan": (float("nan"), 1), "infinite": (float("inf"), 1), "another dimension": (1, 2, 3)}


@pytest.mark.parametrize("numbers", BROKEN.values(), ids=BROKEN)
async def test_a_broken_vector_is_refused_and_changes_nothing(index, numbers):
    await index.add(row("a", A, 1, 0))
    with pytest.raises(PortUnavailable):
        await index.add(row("a", B, *numbers))
    with pytest.raises(PortUnavailable):
        await index.nearest(A, query(*numbers), 1)
    assert await ids(index, A, 1, 0) == ["a"]


async def test_the_caller_may_reuse_its_array(index):
    vector = query(1, 0)
    await index.add(IndexRow("a", A, vector, "a"))
    vector[:] = (0, 1)
    [found] = await index.nearest(A, query(1, 0), 1)
    assert found.similarity == pytest.approx(1)


async def test_neighbours_come_with_their_roots(index):
    await index.add(row("a", A, 1, 0))
    await index.add(row("b", A, 0, 1, root="a"))
    assert await roots(index, A) == {"a": "a", "b": "a"}


async def test_adding_again_replaces_the_root(index):
    await index.add(row("a", A, 1, 0))
    await index.add(row("b", A, 1, 0, root="a"))
    await index.add(row("b", A, 1, 0, root="c"))
    assert await roots(index, A) == {"a": "a", "b": "c"}
    await index.add(row("b", A, 1, 0))
    assert await roots(index, A) == {"a": "a", "b": "b"}
    assert [await index.keys_of(A, root) for root in "abc"] == [1, 1, 0]


async def test_the_keys_of_a_root_are_counted_with_the_root_itself(index):
    assert await index.keys_of(A, "a") == 0
    await index.add(row("a", A, 1, 0))
    assert await index.keys_of(A, "a") == 1
    for alias in "bcd":
        await index.add(row(alias, A, 1, 0, root="a"))
    await index.add(row("e", A, 1, 0))
    assert await index.keys_of(A, "a") == 4
    await index.remove("c", A)
    assert await index.keys_of(A, "a") == 3


async def test_aliases_outlive_their_root_and_keep_its_name(index):
    await index.add(row("a", A, 1, 0))
    await index.add(row("b", A, 1, 0, root="a"))
    await index.remove("a", A)
    assert await roots(index, A) == {"b": "a"}
    assert await index.keys_of(A, "a") == 1
    await index.remove("b", A)
    assert await index.keys_of(A, "a") == 0


async def test_an_entry_that_became_an_alias_is_no_key_of_its_own_name(index):
    await index.add(row("a", A, 1, 0))
    await index.add(row("b", A, 1, 0, root="a"))
    await index.add(row("a", A, 1, 0, root="z"))
    assert await index.keys_of(A, "a") == 1
    assert await index.keys_of(A, "z") == 1


async def test_an_entry_that_was_removed_comes_again_without_its_old_root(index):
    await index.add(row("b", A, 1, 0, root="a"))
    await index.remove("b", A)
    await index.add(row("b", A, 1, 0))
    assert await roots(index, A) == {"b": "b"}


async def test_keys_are_counted_scope_by_scope(index):
    await index.add(row("a", A, 1, 0))
    await index.add(row("b", B, 1, 0, root="a"))
    assert await index.keys_of(A, "a") == 1
    assert await index.keys_of(B, "a") == 1
    await index.add(row("c", A, 1, 0, root="a"))
    assert await index.keys_of(A, "a") == 2
    assert await index.keys_of(B, "a") == 1


async def test_a_refused_vector_leaves_the_root_as_it_was(index):
    await index.add(row("a", A, 1, 0))
    with pytest.raises(PortUnavailable):
        await index.add(row("a", A, 0, 0, root="z"))
    assert await roots(index, A) == {"a": "a"}
