"""What is particular to the ledger in the embedded database: nothing is lost, and nothing booked twice."""

import asyncio
from dataclasses import fields

import pytest

from cacheproxy.errors import PortUnavailable
from cacheproxy.events import Served, Tally
from cacheproxy.model import CacheStatus, Usage
from cacheproxy.store.books import SUMMED
from cacheproxy.store.database import open_database
from cacheproxy.store.sqlite_ledger import _TALLIED, SqliteLedger

MISS = Served(
    at=7200.0,
    dialect="openai-chat",
    upstream="openai",
    tenant="alice",
    model="m",
    http_status=200,
    status=CacheStatus.MISS,
    duration_ms=900.0,
    usage=Usage(100, 50, 40, 10),
    cost_usd=0.25,
)


@pytest.fixture
async def database(tmp_path):
    async with open_database(tmp_path / "cache.db", clock=lambda: 0.0) as database:
        yield database


async def stop_writing(database, stop):
    pragma = f"PRAGMA query_only = {'ON' if stop else 'OFF'}"
    await database.follow(lambda rows: rows.execute(pragma).fetchall(), doing="stop writing")


async def requests(ledger):
    (tally,) = await ledger.tallies([])
    return tally.requests


async def test_sums_whose_flush_failed_go_with_the_next_one(database):
    ledger = SqliteLedger(database)
    ledger.served(MISS)
    await stop_writing(database, stop=True)
    for _ in range(3):
        with pytest.raises(PortUnavailable):
            await ledger.flush()
        ledger.served(MISS)
    await stop_writing(database, stop=False)
    await ledger.flush()
    assert await requests(ledger) == 4


async def test_a_flush_whose_waiter_left_is_booked_once(database):
    ledger = SqliteLedger(database)
    ledger.served(MISS)
    flushing = asyncio.ensure_future(ledger.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    await asyncio.gather(flushing, return_exceptions=True)
    await ledger.flush()
    await database.follow(lambda rows: None, doing="wait for the writer")
    assert await requests(ledger) == 1


async def test_sums_are_kept_when_the_database_has_closed(tmp_path):
    async with open_database(tmp_path / "cache.db", clock=lambda: 0.0) as database:
        ledger = SqliteLedger(database)
    ledger.served(MISS)
    with pytest.raises(PortUnavailable):
        await ledger.flush()
    async with open_database(tmp_path / "cache.db", clock=lambda: 0.0) as again:
        ledger._database = again
        await ledger.flush()
        assert await requests(ledger) == 1


async def test_what_is_served_during_a_flush_goes_with_the_next_one(database):
    ledger = SqliteLedger(database)
    ledger.served(MISS)
    flushing = asyncio.ensure_future(ledger.flush())
    await asyncio.sleep(0)
    ledger.served(MISS)
    await flushing
    assert await requests(ledger) == 1
    await ledger.flush()
    assert await requests(ledger) == 2


async def test_requests_alike_share_a_row(database):
    ledger = SqliteLedger(database)
    for _ in range(1000):
        ledger.served(MISS)
    await ledger.flush()
    rows = await database.read(lambda rows: rows.execute("SELECT * FROM ledger").fetchall(), doing="read")
    assert len(rows) == 1


async def test_cached_input_is_kept_in_columns_of_its_own(database):
    ledger = SqliteLedger(database)
    ledger.served(MISS)
    ledger.served(MISS)
    await ledger.flush()
    sums = await database.read(
        lambda rows: rows.execute("SELECT cache_read_tokens, cache_write_tokens FROM ledger").fetchall(), doing="read"
    )
    assert sums == [(80, 20)]


def test_a_tally_s_fields_are_all_taken_from_the_table():
    assert set(_TALLIED) == {field.name for field in fields(Tally)} - {"group"}
    assert set(SUMMED) >= set(_TALLIED) - {"estimated"}
