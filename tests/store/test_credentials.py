"""Proofs as rows. What they promise is in tests/contracts/test_store.py."""

import sqlite3

import pytest

from cacheproxy.store import credentials, schema


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.prepare(connection)
    yield connection
    connection.close()


def test_old_proofs_are_forgotten_and_newer_ones_are_not(connection):
    credentials.prove(connection, "old", 5.0)
    credentials.prove(connection, "new", 15.0)
    credentials.forget_stale(connection, 10.0 + credentials.KEPT_S)
    assert credentials.proven_at(connection, "old") is None
    assert credentials.proven_at(connection, "new") == 15.0
