"""Following the log past the cases that every store shares: gaps, backlogs, quiet times."""

import sqlite3

import numpy as np
import pytest

from cacheproxy.model import MISSED, Entry, Usage
from cacheproxy.store import codec, entries, follower, schema, vectors
from cacheproxy.store.entries import Condition
from cacheproxy.store.follower import Follower, trim_log
from cacheproxy.store.vectors import Placed


class Process:
    """One process at the database: its connection, and its follower."""

    def __init__(self, path, name):
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        schema.prepare(self.connection)
        self.follower = Follower(self.connection, writer=name)

    def put(self, name, vector=None, root=None):
        entry = Entry(
            id=f"id-{name}",
            key=name.encode(),
            scope=b"scope",
            tenant="t",
            dialect="openai-chat",
            upstream="openai",
            model="m",
            prompt="",
            answer=b"{}",
            usage=Usage(),
            cost_usd=0.0,
            latency_ms=0.0,
            created_at=0.0,
            expires_at=1.0,
            semantic=True,
        )
        writer = self.follower.writer
        came, gone = entries.insert(self.connection, [entry], samples=1, used_at=0.0, writer=writer)
        if vector is not None:
            encoded = codec.encode_vector(np.array(vector, np.float32))
            vectors.place(self.connection, [Placed(entry.id, encoded, root or entry.id)], writer=writer)
        self.follower.committed(came, gone)

    def remove(self, name):
        condition = Condition("id = ?", (f"id-{name}",))
        self.follower.committed([], entries.delete(self.connection, condition, writer=self.follower.writer))

    def changes(self, dimension=2):
        told = self.follower.changes(self.connection, dimension=dimension)
        return [(change.entry_id, change.row is not None) for change in told]


@pytest.fixture
def processes(tmp_path):
    pair = Process(tmp_path / "cache.db", "here"), Process(tmp_path / "cache.db", "there")
    yield pair
    for process in pair:
        process.connection.close()


def test_a_follower_starts_with_what_is_there(processes, tmp_path):
    here, _ = processes
    here.put("a")
    late = Process(tmp_path / "cache.db", "late")
    assert b"a" in late.follower.directory
    assert late.changes() == []
    late.connection.close()


def test_a_quiet_call_reads_no_log(processes):
    here, there = processes
    there.put("a", (1, 0))
    here.changes()
    statements = []
    here.connection.set_trace_callback(statements.append)
    assert here.changes() == []
    assert not any("FROM log" in statement for statement in statements)


def test_a_process_that_only_writes_does_not_reread_what_it_wrote(processes):
    here, there = processes
    for number in range(50):
        here.put(str(number))
    assert here.changes() == []
    there.put("a", (1, 0))
    assert here.changes() == [("id-a", True)]


def test_a_vector_that_comes_after_its_entry_is_told_then(processes):
    here, there = processes
    there.put("a")
    assert here.changes() == []
    assert b"a" in here.follower.directory
    there.put("a", (1, 0))
    assert here.changes() == [("id-a", True)]


def test_a_vector_is_told_with_its_root(processes):
    here, there = processes
    there.put("a", (1, 0))
    there.put("b", (1, 0), root="id-a")
    told = here.follower.changes(here.connection, dimension=2)
    assert {change.entry_id: change.row.root for change in told} == {"id-a": "id-a", "id-b": "id-a"}


def test_a_root_without_a_vector_is_not_told(processes):
    here, there = processes
    there.put("b")
    vectors.keep_roots(there.connection, {"id-b": "id-a"})
    assert here.changes() == []


def test_a_follower_left_behind_is_told_roots_too(processes):
    here, there = processes
    there.put("b", (1, 0), root="id-a")
    trim_log(there.connection, keep=0)
    missed, change = here.follower.changes(here.connection, dimension=2)
    assert missed is MISSED
    assert change.row.root == "id-a"


@pytest.mark.parametrize("dimension", [3, None])
def test_vectors_of_other_embeddings_are_not_told(processes, dimension):
    here, there = processes
    there.put("a", (1, 0))
    assert here.changes(dimension) == []
    assert b"a" in here.follower.directory


def test_what_this_process_removed_meanwhile_does_not_come_back(processes):
    here, there = processes
    there.put("a", (1, 0))
    here.remove("a")
    assert here.changes() == [("id-a", False)]
    assert b"a" not in here.follower.directory


def test_a_long_backlog_is_told_in_parts(processes, monkeypatch):
    monkeypatch.setattr(follower, "_ROWS_AT_ONCE", 4)
    here, there = processes
    for number in range(5):
        there.put(str(number), (1, 0))
    told = []
    while part := here.changes():
        assert len(part) <= 4
        told += part
    assert {entry_id for entry_id, _ in told} == {f"id-{n}" for n in range(5)}
    assert here.changes() == []


def test_a_follower_left_behind_by_trimming_is_told_what_is_there_and_what_went(processes):
    here, there = processes
    here.put("stays", (1, 0))
    here.put("goes", (1, 0))
    here.changes()
    there.changes()
    there.remove("goes")
    for number in range(5):
        there.put(f"new-{number}", (0, 1))
    trim_log(there.connection, keep=2)
    told = here.changes()
    assert told[:2] == [("", False), ("id-goes", False)]
    assert sorted(told[2:]) == [*((f"id-new-{n}", True) for n in range(5)), ("id-stays", True)]
    assert sorted(here.follower.directory) == sorted(there.follower.directory)
    assert here.changes() == []


def test_trimming_what_was_read_leaves_no_gap(processes):
    here, there = processes
    there.put("a", (1, 0))
    here.changes()
    trim_log(there.connection, keep=0)
    assert here.changes() == []
    there.put("b", (1, 0))
    assert here.changes() == [("id-b", True)]


def test_trimming_everything_unread_is_noticed(processes):
    here, there = processes
    there.put("a", (1, 0))
    trim_log(there.connection, keep=0)
    assert here.changes() == [("", False), ("id-a", True)]


def test_a_follower_left_behind_is_not_told_that_vectors_of_other_embeddings_are_gone(processes):
    """Whoever has the older ones in its index searches them until a restart."""
    here, there = processes
    here.put("a", (1, 0))
    there.put("b", (1, 0))
    trim_log(there.connection, keep=0)
    assert here.changes(dimension=None) == [("", False)]
