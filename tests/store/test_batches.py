"""A batch that is written again counts once, while anybody may still try."""

import sqlite3

import pytest

from cacheproxy.store.batches import REMEMBERED_S, forget_batches, is_new
from cacheproxy.store.schema import prepare


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    prepare(connection)
    yield connection
    connection.close()


@pytest.fixture
def counted(connection):
    def count(number, *, writer="a", about="hits", at=0.0):
        return is_new(connection, writer=writer, about=about, number=number, at=at)

    return count


def test_a_batch_is_new_once(counted):
    assert [counted(number) for number in (1, 1, 2, 1, 2, 3)] == [True, False, True, False, False, True]


def test_writers_and_what_they_write_about_are_apart(counted):
    assert counted(7)
    assert counted(1, writer="b")
    assert counted(1, about="labels of pool")


def test_what_has_no_number_is_always_new(counted):
    assert [counted(None), counted(None)] == [True, True]


def test_writers_that_are_gone_are_forgotten(connection, counted):
    counted(1, writer="gone")
    counted(1, at=1.0)
    forget_batches(connection, REMEMBERED_S + 0.5)
    assert connection.execute("SELECT writer FROM batches").fetchall() == [("a",)]
