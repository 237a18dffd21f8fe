"""What is particular to the ledger in Redis: nothing is lost, nothing is booked twice, and a year is small."""

from __future__ import annotations

import pytest

from cacheproxy.errors import PortUnavailable
from cacheproxy.events import Served
from cacheproxy.model import CacheStatus, Layer, Usage
from cacheproxy.store.redis_ledger import DAYS_KEPT_S, HOURS_KEPT_S

DAY = 86_400.0
SOME_DAY = 20_000 * DAY
MISS = Served(
    at=SOME_DAY,
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
async def ledger(redis_world):
    return (await redis_world.kept()).ledger


async def requests(ledger, **bounds):
    (tally,) = await ledger.tallies([], **bounds)
    return tally.requests


async def test_a_batch_whose_answer_was_lost_is_booked_once(ledger, monkeypatch):
    ledger.served(MISS)
    ask = ledger._link.ask

    async def answerless(*command):
        await ask(*command)
        raise PortUnavailable("the connection broke")

    monkeypatch.setattr(ledger._link, "ask", answerless)
    for _ in range(2):
        with pytest.raises(PortUnavailable):
            await ledger.flush()
    monkeypatch.undo()
    ledger.served(MISS)
    await ledger.flush()
    assert await requests(ledger) == 2


async def test_sums_whose_flush_failed_go_with_the_next_one(ledger, monkeypatch):
    async def refuse(*_):
        raise PortUnavailable("gone")

    monkeypatch.setattr(ledger._link, "ask", refuse)
    for _ in range(3):
        ledger.served(MISS)
        with pytest.raises(PortUnavailable):
            await ledger.flush()
    monkeypatch.undo()
    await ledger.flush()
    assert await requests(ledger) == 3


async def test_hours_go_before_days(redis_world, ledger):
    ledger.served(MISS)
    await ledger.flush()
    client = await redis_world.client()
    lives = {key.split(b":")[2]: await client.ttl(key) async for key in client.scan_iter(f"*{redis_world.prefix}:*")}
    assert HOURS_KEPT_S - 60 < lives[b"hours"] <= HOURS_KEPT_S
    assert DAYS_KEPT_S - 60 < lives[b"day"] <= DAYS_KEPT_S


async def test_a_day_whose_hours_are_gone_counts_whole_as_its_first_hour(redis_world, ledger):
    for hour in (3, 15):
        ledger.served(MISS._replace(at=SOME_DAY + hour * 3600))
    await ledger.flush()
    client = await redis_world.client()
    async for key in client.scan_iter(f"*{redis_world.prefix}:*:hours:*"):
        await client.delete(key)
    assert await requests(ledger, since=SOME_DAY + 12 * 3600) == 2
    assert [(tally.group["hour"], tally.requests) for tally in await ledger.tallies(["hour"])] == [
        ("2024-10-04T00:00Z", 2)
    ]


async def test_a_year_of_days_is_small(redis_world, ledger):
    """Ten groups a day, as of a busy deployment with a few models."""
    for day in range(365):
        for model in range(5):
            event = MISS._replace(at=SOME_DAY + day * DAY, model=f"model-{model}")
            ledger.served(event)
            ledger.served(event._replace(status=CacheStatus.HIT, layer=Layer.EXACT, saved_usd=0.25, cost_usd=0.0))
    await ledger.flush()
    client = await redis_world.client()
    days = [key async for key in client.scan_iter(f"*{redis_world.prefix}:*:day:*")]
    held = sum([await client.memory_usage(key, samples=0) for key in days])
    assert len(days) == 365
    assert held < 2_000_000
    by_day = await ledger.tallies(["day"], since=SOME_DAY, until=SOME_DAY + 365 * DAY)
    assert (len(by_day), sum(tally.requests for tally in by_day)) == (365, 3650)
