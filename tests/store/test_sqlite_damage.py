"""An embedded store that is damaged, full or read-only."""

import asyncio
import sqlite3

import numpy as np
import pytest
from support.sqlite_entries import EMBEDDING, NOW, make_entry

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.model import Selection
from cacheproxy.store import codec
from cacheproxy.store.sqlite import open_sqlite


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.db"


@pytest.fixture
async def store(path):
    async with open_sqlite(path, clock=lambda: NOW, embedding=EMBEDDING) as store:
        yield store


def alter(store, sql, *values):
    return store.database.write(lambda rows: rows.execute(sql, values).rowcount, doing="alter a row")


# --- damage


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda store: store.find(b"key a"), id="found"),
        pytest.param(lambda store: store.load(["id-a"]), id="loaded"),
        pytest.param(lambda store: store.browse(Selection(), limit=5), id="listed"),
    ],
)
async def test_a_corrupt_row_is_deleted_counted_and_logged(store, caplog, read):
    await store.put(make_entry("a"))
    await alter(store, "UPDATE payloads SET payload = substr(payload, 1, 50)")
    assert list(await read(store)) == []
    assert store.corrupt_rows == 1
    assert "id-a" in caplog.text
    assert await store.count() == 0
    assert list(await store.find(b"key a")) == []
    await store.put(make_entry("a"))
    assert list(await store.find(b"key a")) == [make_entry("a")]


async def test_a_row_that_holds_another_entry_is_corrupt(store):
    await store.put(make_entry("a"))
    await alter(store, "UPDATE payloads SET payload = ?", codec.encode(make_entry("b")))
    assert list(await store.find(b"key a")) == []
    assert await store.count() == 0


async def test_a_corrupt_row_does_not_shorten_a_page(store):
    for name in "abc":
        await store.put(make_entry(name))
    await alter(store, "UPDATE payloads SET payload = x'00' WHERE number = 2")
    listed = await store.browse(Selection(), limit=2)
    assert [entry.id for entry in listed] == ["id-a", "id-c"]


async def test_an_entry_of_a_later_release_is_skipped_and_left_alone(store):
    await store.put(make_entry("a"))
    newer = b"\xff" + codec.encode(make_entry("a"))[1:]
    await alter(store, "UPDATE payloads SET payload = ?", newer)
    assert list(await store.find(b"key a")) == []
    assert store.corrupt_rows == 0
    assert await store.count() == 1


async def test_a_corrupt_file_gives_way_to_an_empty_store(path, caplog):
    async with open_sqlite(path, clock=lambda: NOW) as store:
        await store.put(make_entry("a"))
    path.write_bytes(b"\x00garbage" * 1000)
    async with open_sqlite(path, clock=lambda: NOW) as store:
        assert await store.count() == 0
        await store.put(make_entry("a"))
    assert path.with_name(f"cache.db.corrupt-{int(NOW)}").exists()
    assert "damaged" in caplog.text


async def test_a_schema_of_a_later_release_is_refused(path):
    async with open_sqlite(path, clock=lambda: NOW):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="upgrade"):
        async with open_sqlite(path, clock=lambda: NOW):
            pass


# --- full and read-only


@pytest.mark.parametrize("pragma", ["max_page_count = 1", "query_only = ON"], ids=["full", "read-only"])
async def test_a_store_that_cannot_write_refuses_puts_and_still_finds(store, pragma):
    await store.put(make_entry("a"))
    await store.database.follow(lambda rows: rows.execute(f"PRAGMA {pragma}").fetchall(), doing="stop writing")
    refused = await asyncio.gather(
        *(store.put(make_entry(name, answer=np.random.default_rng(0).bytes(100_000))) for name in "bcd"),
        return_exceptions=True,
    )
    assert [type(error) for error in refused] == [PortUnavailable] * 3
    assert list(await store.find(b"key a")) == [make_entry("a")]
    assert list(await store.find(b"key b")) == []
    assert await store.count() == 1
    assert list(await store.changes()) == []


async def test_a_corrupt_row_in_a_read_only_store_is_still_absent(store):
    await store.put(make_entry("a"))
    await alter(store, "UPDATE payloads SET payload = x'00'")
    await store.database.follow(lambda rows: rows.execute("PRAGMA query_only = ON").fetchall(), doing="stop writing")
    assert list(await store.find(b"key a")) == []
    assert store.corrupt_rows == 1
