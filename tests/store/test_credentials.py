"""Proofs of credentials in the embedded database, beyond what every store promises (tests/contracts)."""

import sqlite3

import pytest

from cacheproxy.store.sqlite import open_sqlite

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
async def store(tmp_path):
    async with open_sqlite(tmp_path / "cache.db", clock=lambda: NOW) as store:
        yield store


def rows(store):
    connection = sqlite3.connect(store.database.path)
    try:
        return connection.execute("SELECT credential FROM credentials").fetchall()
    finally:
        connection.close()


async def test_refusing_what_was_never_proven_leaves_no_trace(store):
    await store.revoke("made up")
    assert rows(store) == []


async def test_old_proofs_are_swept(store):
    await store.prove("old", NOW - 31 * DAY)
    await store.prove("new", NOW)
    await store.sweep(NOW)
    assert rows(store) == [("new",)]
