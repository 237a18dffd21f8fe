"""``cacheproxy stats --economics`` tells what the economics page shows."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from cacheproxy.cli import run
from cacheproxy.events import Served
from cacheproxy.model import CacheStatus, Layer, Reason, Usage
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_ledger import SqliteLedger

MISS = Served(
    time.time() - 7200,
    "openai-chat",
    "openai",
    "alice",
    "gpt-4o",
    200,
    CacheStatus.MISS,
    900.0,
    reason=Reason.NO_ENTRY,
    usage=Usage(1000, 500),
    cost_usd=3.0,
)
HIT = MISS._replace(status=CacheStatus.HIT, layer=Layer.EXACT, reason=None, usage=Usage(), cost_usd=0.0, saved_usd=3.0)


@pytest.fixture
def books(tmp_path):
    async def fill():
        async with open_sqlite(Settings(data_dir=tmp_path).database, clock=time.time) as store:
            ledger = SqliteLedger(store.database)
            for event in (MISS, HIT):
                ledger.served(event)
            await ledger.flush()

    asyncio.run(fill())
    return tmp_path


def test_the_page_is_told_to_people(books, capsys, monkeypatch):
    monkeypatch.setenv("CACHEPROXY_ECONOMICS__REVENUE_PER_REQUEST_USD", "6")
    assert run(["stats", "--economics", "--data-dir", str(books)]) == 0
    told = capsys.readouterr().out
    assert "a request costs 1.500000 (3.000000 without the cache) USD" in told
    assert "gpt-4o" in told
    assert "alice" in told
    assert "gross margin 0.7500 (0.5000 without the cache)" in told
    assert "a month:" in told
    assert "frontier" in told


def test_the_page_is_told_to_programs(books, capsys):
    assert run(["stats", "--economics", "--json", "--data-dir", str(books)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["usd_per_request"] == {"with_cache": 1.5, "without_cache": 3.0}
    assert told["margin"] is None


def test_before_the_first_request_nothing_is_made_up(tmp_path, capsys):
    async def open_it():
        async with open_sqlite(Settings(data_dir=tmp_path).database, clock=time.time):
            pass

    asyncio.run(open_it())
    assert run(["stats", "--economics", "--data-dir", str(tmp_path)]) == 0
    assert "an unknown sum of USD" in capsys.readouterr().out
