"""Numbers that grow with each write of a kind."""

import sqlite3

import pytest

from cacheproxy.store.schema import prepare
from cacheproxy.store.stamps import stamp, stamps


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    prepare(connection)
    yield connection
    connection.close()


def test_each_write_of_a_kind_has_the_next_number_and_other_kinds_keep_theirs(connection):
    assert [stamp(connection, "labels") for _ in range(3)] == [1, 2, 3]
    assert stamps(connection) == {"labels": 3, "marks": 0, "credentials": 0}


def test_a_write_that_is_undone_had_no_number(connection):
    connection.execute("BEGIN")
    stamp(connection, "marks")
    connection.execute("ROLLBACK")
    assert stamp(connection, "marks") == 1
