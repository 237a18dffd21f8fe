"""FAISS agrees with the oracle in every history, stays small, and searches in threads while it changes."""

import asyncio
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from threadpoolctl import threadpool_info

from cacheproxy.index import faiss as module
from cacheproxy.index.faiss import PLAIN_BELOW, Blocks, FaissIndex, search_on_one_thread
from cacheproxy.index.flat import FlatIndex, Rows, unit
from cacheproxy.model import IndexRow

DIMENSION = 384
SCOPES = [b"one", b"two"]
IDS = [f"e{number:03}" for number in range(40)]


def run(coroutine):
    """Drive a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def some_vectors(count, dimension=DIMENSION, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def answers(found):
    return [(near.entry_id, near.similarity) for near in found]


class Histories(RuleBasedStateMachine):
    """Adds, replacements, moves between scopes and roots, and removals, with block borders and thresholds brought near.

    Coordinates are small whole numbers: many vectors are equal or opposite, so ties abound.
    """

    @initialize()
    def start(self):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "PLAIN_BELOW", 6)
        self.patch.setattr(module, "_BLOCK", 4)
        self.patch.setattr(module, "_SPARE", 1)
        self.flat, self.faiss = FlatIndex(), FaissIndex()
        self.held = {}

    vectors = st.tuples(*[st.integers(-2, 2)] * 4).filter(any).map(lambda row: np.array(row, np.float32))

    entries = st.tuples(st.sampled_from(IDS), st.sampled_from(SCOPES), vectors, st.none() | st.sampled_from(IDS[:6]))

    @rule(rows=st.lists(entries, min_size=1, max_size=12))
    def add(self, rows):
        for entry_id, scope, vector, other in rows:
            row = IndexRow(entry_id, scope, vector, other or entry_id)
            for index in (self.flat, self.faiss):
                run(index.add(row))
            self.held[entry_id] = row

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=10))
    def remove(self, ids):
        for entry_id in ids:
            for index in (self.flat, self.faiss):
                run(index.remove(entry_id, b""))
            self.held.pop(entry_id, None)

    @rule(scope=st.sampled_from(SCOPES), query=vectors, k=st.integers(1, 12))
    def nearest(self, scope, query, k):
        cosines = {
            entry_id: max(0.0, float(row.vector @ query) / float(np.linalg.norm(row.vector) * np.linalg.norm(query)))
            for entry_id, row in self.held.items()
            if row.scope == scope
        }
        neighbors = run(self.flat.nearest(scope, query, k))
        assert run(self.faiss.nearest(scope, query, k)) == neighbors
        assert all(neighbor.root == self.held[neighbor.entry_id].root for neighbor in neighbors)
        found = answers(neighbors)
        assert found == sorted(found, key=lambda answer: (-answer[1], answer[0]))
        assert dict(found) == pytest.approx({entry_id: cosines[entry_id] for entry_id, _ in found}, abs=1e-6)
        best = sorted(cosines.values(), reverse=True)[:k]
        assert [similarity for _, similarity in found] == pytest.approx(best, abs=1e-6)

    @invariant()
    def sizes_agree(self):
        assert len(self.flat) == len(self.faiss) == len(self.held)
        for scope in SCOPES:
            here = [row.root for row in self.held.values() if row.scope == scope]
            assert run(self.flat.is_empty(scope)) is run(self.faiss.is_empty(scope)) is (not here)
            for root in IDS:
                assert run(self.flat.keys_of(scope, root)) == run(self.faiss.keys_of(scope, root)) == here.count(root)

    def teardown(self):
        self.patch.undo()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


async def test_a_large_scope_answers_as_the_oracle_does():
    vectors = some_vectors(PLAIN_BELOW + 1500)
    vectors[100:140] = vectors[100]  # equals, more of them than FAISS is asked for
    flat, large = FlatIndex(), FaissIndex()
    for number, vector in enumerate(vectors):
        for index in (flat, large):
            await index.add(IndexRow(f"{number:05}", b"s", vector, f"{number - number % 7:05}"))
    for number in range(0, len(vectors), 3):
        for index in (flat, large):
            await index.remove(f"{number:05}", b"")
    assert isinstance(large._scopes[b"s"], Blocks)
    for query in [vectors[100], *some_vectors(5, seed=1)]:
        for k in (1, 5, 60):
            assert await large.nearest(b"s", query, k) == await flat.nearest(b"s", query, k)


async def test_a_small_scope_is_a_plain_array():
    index = FaissIndex()
    await index.add(IndexRow("a", b"s", some_vectors(1)[0], "a"))
    assert isinstance(index._scopes[b"s"], Rows)


def blocks_of(count, dimension):
    rows = Rows(b"s", dimension)
    for number, vector in enumerate(some_vectors(count, dimension)):
        rows.put(f"{number:05}", vector)
    return Blocks(rows)


def test_a_snapshot_does_not_see_later_changes():
    blocks = blocks_of(1100, 16)
    query = some_vectors(1, 16, seed=3)[0]
    snapshot = blocks.snapshot()
    before = answers(snapshot.nearest(query, 10))
    for number in range(0, 1100, 2):
        blocks.drop(f"{number:05}")
    for number in range(700):
        blocks.put(f"new{number}", query)
    assert answers(snapshot.nearest(query, 10)) == before
    assert answers(blocks.nearest(query, 1))[0][0] == "new0"


def test_a_change_copies_nothing_once_no_search_reads():
    blocks = blocks_of(1100, 16)
    first = blocks._blocks[0]
    blocks.put("00000", some_vectors(1, 16, seed=9)[0])
    assert blocks._blocks[0] is first
    snapshot = blocks.snapshot()
    blocks.put("00000", some_vectors(1, 16, seed=10)[0])
    copied = blocks._blocks[0]
    assert copied is not first
    del snapshot
    blocks.put("00000", some_vectors(1, 16, seed=11)[0])
    assert blocks._blocks[0] is copied


async def test_a_long_search_leaves_the_event_loop_and_changes_free(monkeypatch):
    monkeypatch.setattr(module, "IN_THREAD_FROM", PLAIN_BELOW)
    index = FaissIndex()
    vectors = some_vectors(PLAIN_BELOW + 100, 16)
    for number, vector in enumerate(vectors):
        await index.add(IndexRow(f"{number:05}", b"s", vector, "00000"))
    inside, go_on, real = threading.Event(), threading.Event(), module._top

    def slow(*arguments):
        inside.set()
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(module, "_top", slow)
    search = asyncio.ensure_future(index.nearest(b"s", vectors[7], 1))
    assert await asyncio.to_thread(inside.wait, 30)
    await index.remove("00007", b"")
    await index.add(IndexRow("other", b"s", vectors[8], "other"))
    go_on.set()
    assert [neighbor.entry_id for neighbor in await search] == ["00007"]
    monkeypatch.setattr(module, "_top", real)
    assert [neighbor.entry_id for neighbor in await index.nearest(b"s", vectors[7], 1)] != ["00007"]


@pytest.mark.parametrize(
    ("entries_per_scope", "keys_per_root"),
    [
        pytest.param(1, 1, id="a scope each"),
        pytest.param(12_000, 1, id="all in one scope"),
        pytest.param(12_000, 2, id="two keys to each root"),
        pytest.param(12_000, 16, id="sixteen keys to each root"),
    ],
)
async def test_an_entry_takes_at_most_2_2_kib_with_all_bookkeeping(entries_per_scope, keys_per_root):
    count = 12_000
    vector = some_vectors(1)[0]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        index = FaissIndex()
        for number in range(count):
            scope = (number // entries_per_scope).to_bytes(32)
            root = number - number % keys_per_root
            await index.add(IndexRow(f"{number:032x}", scope, vector, f"{root:032x}"))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == count
    assert (after - before) / count <= 2.2 * 1024


def test_vectors_that_are_stored_in_half_precision_are_found_as_themselves():
    vector = some_vectors(1)[0].astype(np.float16).astype(np.float32)
    rows = Rows(b"s", DIMENSION)
    rows.put("a", unit(vector, DIMENSION))
    assert rows.nearest(unit(vector, DIMENSION), 1)[0].similarity == pytest.approx(1, abs=1e-6)


def test_searching_can_be_kept_from_starting_threads():
    """Idle threads of numpy and FAISS spun on the cores of the embedding model, which took seven times as long."""
    search_on_one_thread()
    vectors = np.ones((5000, DIMENSION), np.float32)
    vectors @ vectors[0]  # loads what BLAS loads late
    assert module.faiss.omp_get_max_threads() == 1
    assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"} == {1}
