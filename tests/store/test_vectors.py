"""Vectors and roots as rows: one way to say that an entry is its own root, and rows of before there were roots."""

import sqlite3

import numpy as np
import pytest
from support.stores import NOW, make_entry

from cacheproxy.store import codec, entries, schema, vectors
from cacheproxy.store.vectors import EmbeddingName, Placed

VECTOR = codec.encode_vector(np.array([3, 4], np.float32))


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.prepare(connection)
    for name in "abc":
        entries.insert(connection, [make_entry(name)], samples=1, used_at=NOW, writer="me")
    yield connection
    connection.close()


def place(connection, **roots):
    placed = [Placed(f"id-{name}", VECTOR, f"id-{root}") for name, root in roots.items()]
    vectors.place(connection, placed, writer="me")


def roots_in(connection):
    return [root for (root,) in connection.execute("SELECT root FROM vectors ORDER BY number")]


def block(connection):
    _, rows = vectors.block(connection, dimension=2, now=NOW, after=0, limit=9)
    return {row.entry_id: row.root for row in rows}


def test_an_entry_that_is_its_own_root_takes_no_space_for_it(connection):
    place(connection, a="a", b="a")
    assert roots_in(connection) == [None, "id-a"]


def test_a_row_of_before_there_were_roots_is_its_own(connection):
    connection.execute("INSERT INTO vectors (number, vector) VALUES (1, ?)", (VECTOR,))
    assert block(connection) == {"id-a": "id-a"}
    assert vectors.roots_of(connection, ["id-a"]) == {"id-a": "id-a"}


def test_a_kept_root_does_not_stand_in_the_way_of_another_model(connection):
    vectors.keep_roots(connection, {"id-a": "id-b"})
    assert vectors.claim(connection, EmbeddingName("one", 2)) is None
    assert vectors.claim(connection, EmbeddingName("two", 2)) is None
    place(connection, a="b")
    assert vectors.claim(connection, EmbeddingName("three", 2)) == EmbeddingName("two", 2)


def test_a_root_of_one_s_own_is_not_kept(connection):
    vectors.keep_roots(connection, {"id-a": "id-a"})
    assert roots_in(connection) == []


def test_dropping_leaves_the_roots_of_aliases_alone(connection):
    place(connection, a="a", b="a")
    vectors.drop(connection)
    assert connection.execute("SELECT vector, root FROM vectors").fetchall() == [(b"", "id-a")]
    assert vectors.stored_embedding(connection) is None


def test_hundreds_of_rows_keep_their_own_roots(connection):
    new = [make_entry(f"{number:03}") for number in range(300)]
    entries.insert(connection, new, samples=1, used_at=NOW, writer="me")
    roots = {entry.id: f"id-{number // 7:03}" for number, entry in enumerate(new)}
    vectors.place(connection, [Placed(entry_id, VECTOR, root) for entry_id, root in roots.items()], writer="me")
    assert vectors.roots_of(connection, list(roots)) == roots
