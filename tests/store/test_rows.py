"""Any number of rows arrives whole and in order, by a handful of statements."""

import sqlite3

import pytest

from cacheproxy.store.rows import execute_with_rows

INSERT = "INSERT INTO t (a, b) {rows}"


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (a INTEGER, b BLOB) STRICT")
    yield connection
    connection.close()


def everything(connection):
    return connection.execute("SELECT a, b FROM t ORDER BY rowid").fetchall()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 127, 128, 129, 300, 1000])
def test_every_row_comes_once_and_in_order(connection, count):
    rows = [(number, bytes([number % 256])) for number in range(count)]
    execute_with_rows(connection, INSERT, rows)
    assert everything(connection) == rows


def test_equal_rows_are_kept_apart(connection):
    execute_with_rows(connection, INSERT, [(1, b"x")] * 5)
    assert everything(connection) == [(1, b"x")] * 5


def test_hundreds_of_rows_are_a_few_statements_of_few_kinds(connection):
    statements = []
    connection.set_trace_callback(statements.append)
    execute_with_rows(connection, INSERT, [(number, None) for number in range(500)])
    assert len(statements) == 4
    shapes = set()
    connection.set_trace_callback(lambda sql: shapes.add(sql.count("), (")))
    for count in range(1, 129):
        execute_with_rows(connection, INSERT, [(1, None)] * count)
    assert len(shapes) == 8


def test_rows_can_stand_anywhere_in_a_statement(connection):
    execute_with_rows(connection, INSERT, [(1, b"x"), (2, b"y"), (3, b"z")])
    execute_with_rows(
        connection,
        "WITH given (a, b) AS ({rows}) UPDATE t SET b = given.b FROM given WHERE given.a = t.a",
        [(1, b"one"), (3, b"three"), (4, b"four")],
    )
    assert everything(connection) == [(1, b"one"), (2, b"y"), (3, b"three")]
