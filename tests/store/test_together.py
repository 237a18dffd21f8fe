"""One transaction for many: what is merged, in which order, and what a failure costs the others."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.store.together import Done, Failed, Share, merged, run_together


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (name TEXT PRIMARY KEY) STRICT")
    yield connection
    connection.close()


def names(connection):
    return [name for (name,) in connection.execute("SELECT name FROM t ORDER BY rowid")]


class Notes:
    """A kind of work: it takes names down, and remembers how many it was given at once."""

    def __init__(self):
        self.sizes = []

    def __call__(self, connection, items):
        self.sizes.append(len(items))
        for item in items:
            connection.execute("INSERT INTO t VALUES (?)", (item,))
        return [item.upper() for item in items]


def shares(write, *items):
    return [Share(write, item, about=(item,)) for item in items]


def note(name):
    return lambda connection: connection.execute("INSERT INTO t VALUES (?)", (name,)).rowcount


def test_shares_of_one_kind_are_written_at_once_and_each_gets_its_value(connection):
    notes = Notes()
    assert run_together(connection, shares(notes, "a", "b", "c")) == [Done("A"), Done("B"), Done("C")]
    assert notes.sizes == [3]
    assert names(connection) == ["a", "b", "c"]


def test_kinds_that_alternate_are_still_written_at_once(connection):
    ones, others = Notes(), Notes()
    works = [share for pair in zip(shares(ones, *"abc"), shares(others, *"xyz"), strict=True) for share in pair]
    assert [outcome.value for outcome in run_together(connection, works)] == list("AXBYCZ")
    assert (ones.sizes, others.sizes) == ([3], [3])


def test_nothing_is_merged_past_other_work():
    notes = Notes()
    assert merged([*shares(notes, "a", "b"), note("c"), *shares(notes, "d")]) == [[0, 1], [2], [3]]


def test_shares_about_the_same_are_written_one_after_another():
    ones, others = Notes(), Notes()
    works = [*shares(ones, "a"), *shares(others, "a"), *shares(ones, "b", "a", "c", "c")]
    assert merged(works) == [[0, 2], [1], [3, 4], [5]]


def test_a_bad_share_takes_no_neighbour_with_it(connection):
    notes = Notes()
    outcomes = run_together(connection, [note("before"), *shares(notes, "a", "b"), *shares(notes, "a", "c")])
    assert [type(outcome) for outcome in outcomes] == [Done, Done, Done, Failed, Done]
    assert names(connection) == ["before", "a", "b", "c"]


def test_work_alone_that_fails_is_not_tried_again(connection):
    notes = Notes()
    run_together(connection, shares(notes, "a"))
    (outcome,) = run_together(connection, shares(notes, "a"))
    assert isinstance(outcome, Failed)
    assert notes.sizes == [1, 1]
    assert not connection.in_transaction


def test_a_transaction_left_open_is_undone_first(connection):
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES ('torn')")
    assert run_together(connection, [note("a")]) == [Done(1)]
    assert names(connection) == ["a"]


def test_a_database_that_stays_locked_is_not_waited_for_by_each(tmp_path):
    one, two = (sqlite3.connect(tmp_path / "db", isolation_level=None, timeout=0) for _ in range(2))
    one.execute("BEGIN IMMEDIATE")
    outcomes = run_together(two, [note("a"), note("b")])
    assert [type(outcome) for outcome in outcomes] == [Failed, Failed]
    assert outcomes[0] is outcomes[1]
    one.close()
    two.close()


KINDS = (Notes(), Notes())
WORKS = st.one_of(
    st.none(),
    st.tuples(st.sampled_from([0, 1]), st.lists(st.sampled_from("abcd"), max_size=2, unique=True)),
)


@given(st.lists(WORKS, max_size=20))
def test_whatever_is_merged_keeps_the_order_of_what_belongs_together(drawn):
    works = [note("x") if w is None else Share(KINDS[w[0]], "", about=tuple(w[1])) for w in drawn]
    runs = merged(works)
    order = [place for run in runs for place in run]
    assert sorted(order) == list(range(len(works)))
    for run in runs:
        assert len(run) == 1 or len({id(works[place].write) for place in run}) == 1
        subjects = [subject for place in run if len(run) > 1 for subject in works[place].about]
        assert len(subjects) == len(set(subjects))
    position = {place: index for index, place in enumerate(order)}
    for later, work in enumerate(drawn):
        for earlier, before in enumerate(drawn[:later]):
            if work is None or before is None or set(work[1]) & set(before[1]):
                assert position[earlier] < position[later]
