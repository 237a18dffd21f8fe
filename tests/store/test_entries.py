"""The rows themselves: totals, log and what hangs on an entry stay true."""

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.model import Entry, Usage
from cacheproxy.store import entries, schema, vectors
from cacheproxy.store.entries import StoreLimits, Totals
from cacheproxy.store.vectors import Placed

BASE = Entry(
    id="",
    key=b"",
    scope=b"\x01" * 32,
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
    expires_at=1e9,
    semantic=True,
    tags=("tag",),
)


def make_connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.prepare(connection)
    return connection


@pytest.fixture
def connection():
    connection = make_connection()
    yield connection
    connection.close()


def insert(connection, entry_id, *, samples=1, used_at=0.0, **changes):
    entry = replace(BASE, **{"id": entry_id, "key": entry_id.encode(), **changes})
    return entries.insert(connection, [entry], samples=samples, used_at=used_at, writer="me")


def counted(connection):
    return Totals(*connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM entries").fetchone())


def rows_of(connection, table):
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz"), st.integers(1, 3)), max_size=25))
def test_whatever_happens_totals_log_and_report_agree_with_the_table(events):
    connection, known = make_connection(), set()
    for entry_id, key, samples in events:
        came, gone = insert(connection, entry_id, key=key.encode(), samples=samples)
        known = (known | {(held.key, held.entry_id) for held in came}) - {(held.key, held.entry_id) for held in gone}
    assert known == set(connection.execute("SELECT key, id FROM entries"))
    assert entries.totals(connection) == counted(connection)
    logged = {}
    for kind, key, entry_id in connection.execute("SELECT kind, key, entry_id FROM log ORDER BY sequence"):
        logged[key, entry_id] = kind
    assert {held for held, kind in logged.items() if kind == "put"} == known
    connection.close()


def test_what_hangs_on_an_entry_goes_with_it(connection):
    insert(connection, "a")
    vectors.place(connection, [Placed("a", b"\x00\x3c", "a"), Placed("gone", b"\x00\x3c", "a")], writer="me")
    assert [rows_of(connection, table) for table in ("payloads", "vectors", "tags")] == [1, 1, 1]
    entries.delete(connection, entries.EVERYTHING, writer="me")
    assert [rows_of(connection, table) for table in ("payloads", "vectors", "tags", "entries")] == [0, 0, 0, 0]


def test_no_more_than_the_limit_is_deleted(connection):
    for number in range(5):
        insert(connection, str(number))
    assert len(entries.delete(connection, entries.EVERYTHING, writer="me", limit=2)) == 2
    assert rows_of(connection, "entries") == 3


def test_a_full_store_frees_a_hundredth_more_than_it_must(connection):
    for number in range(301):
        insert(connection, f"{number:03}", used_at=float(number))
    gone = entries.make_room(connection, StoreLimits(max_entries=300), now=0.0, writer="me")
    assert [held.entry_id for held in gone] == ["000", "001", "002", "003"]
    assert entries.make_room(connection, StoreLimits(max_entries=300), now=0.0, writer="me") == []


def test_the_entry_that_needs_the_room_is_spared(connection):
    insert(connection, "newest", used_at=0.0)
    insert(connection, "other", used_at=5.0)
    gone = entries.make_room(connection, StoreLimits(max_entries=1), now=0.0, writer="me", spared=["newest"])
    assert [held.entry_id for held in gone] == ["other"]


def test_of_those_that_need_the_room_the_last_is_spared_if_not_all_can_be(connection):
    for name in ("first", "second", "last"):
        insert(connection, name, used_at=0.0)
    insert(connection, "other", used_at=5.0)
    spared = ["first", "second", "last"]
    gone = entries.make_room(connection, StoreLimits(max_entries=2), now=0.0, writer="me", spared=spared)
    assert [held.entry_id for held in gone] == ["other", "first"]


def test_entries_put_at_once_are_as_if_they_had_been_put_one_by_one():
    apart, at_once = make_connection(), make_connection()
    for connection in (apart, at_once):
        for name, key in [("old", "a"), ("moves", "b"), ("stays", "c")]:
            insert(connection, name, key=key.encode())
    new = [
        replace(BASE, id=name, key=key.encode(), created_at=1.0, tags=tags)
        for name, key, tags in [("new", "a", ("x", "x")), ("moves", "d", ()), ("other", "e", ("x", "y"))]
    ]
    told = [entries.insert(apart, [entry], samples=1, used_at=2.0, writer="me") for entry in new]
    came, gone = entries.insert(at_once, new, samples=1, used_at=2.0, writer="me")
    assert came == [held for some, _ in told for held in some]
    assert sorted(gone) == sorted(held for _, some in told for held in some)
    for query in (
        "SELECT id, key, used_at, size FROM entries ORDER BY number",
        "SELECT id, payload FROM entries JOIN payloads USING (number) ORDER BY number",
        "SELECT id, tag FROM entries JOIN tags USING (number) ORDER BY number, tag",
        "SELECT kind, entry_id, key FROM log ORDER BY kind, entry_id, key",
        "SELECT * FROM totals",
    ):
        assert at_once.execute(query).fetchall() == apart.execute(query).fetchall()
    apart.close()
    at_once.close()


def test_hits_are_counted_and_use_is_never_set_back(connection):
    insert(connection, "a", used_at=10.0)
    entries.touch(connection, {"a": 3, "gone": 1}, 5.0)
    entries.touch(connection, {"a": 2}, 20.0)
    assert connection.execute("SELECT hits, used_at, expires_at FROM entries").fetchall() == [(5, 20.0, 1e9)]


def test_a_condition_by_payload_means_that_very_row(connection):
    insert(connection, "a")
    (row,) = entries.under_key(connection, b"a")
    assert entries.delete(connection, entries.with_payload(row._replace(payload=b"other")), writer="me") == []
    assert len(entries.delete(connection, entries.with_payload(row), writer="me")) == 1


def test_thousands_of_ids_are_one_condition(connection):
    insert(connection, "a")
    assert list(entries.by_id(connection, [f"id-{n}" for n in range(50_000)] + ["a"])) == ["a"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM entries WHERE key = x'00'",
        "SELECT key, id FROM entries",
        "SELECT id FROM entries WHERE expires_at <= 1 LIMIT 10",
        "SELECT id FROM entries WHERE scope >= x'00' AND scope < x'01'",
        "SELECT id, size FROM entries ORDER BY used_at, number",
    ],
)
def test_the_store_s_queries_use_an_index(connection, query):
    (plan,) = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert "INDEX" in plan
