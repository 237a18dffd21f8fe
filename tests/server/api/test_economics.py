"""What requests cost, by model and tenant, what remains of revenue, and what a month comes to."""

from __future__ import annotations

import pytest
from support.panel import NOW
from support.served import MISS, hit_of

from cacheproxy.model import Layer, Usage

DAY = 86_400.0
MISS = MISS._replace(
    at=NOW - 2 * DAY,
    model="gpt-4o",
    duration_ms=1000.0,
    upstream_ms=1000.0,
    usage=Usage(600_000, 400_000),
    cost_usd=3.0,
)
HIT = hit_of(MISS, Layer.EXACT, duration_ms=1.0)


def book(panel, *events):
    for event in events:
        panel.ledger.served(event)


async def test_a_request_and_a_token_cost_less_with_the_cache(panel):
    book(panel, MISS, HIT, HIT)
    told = await panel.told("/economics")
    assert told["usd_per_request"] == {"with_cache": 1.0, "without_cache": 3.0}
    assert told["usd_per_mtok"] == {"with_cache": 1.0, "without_cache": 3.0}
    assert told["totals"]["requests"] == 3


async def test_before_the_first_request_nothing_is_made_up(panel):
    told = await panel.told("/economics")
    assert told["usd_per_request"] == {"with_cache": None, "without_cache": None}
    assert (told["models"], told["forecast"], told["tiers"], told["margin"]) == ([], None, [], None)


async def test_models_and_tenants_are_told_the_dearest_first_and_the_rest_together(panel):
    book(panel, *[MISS._replace(model=f"m{number}", cost_usd=float(number), tenant="bob") for number in range(5)], MISS)
    told = await panel.told("/economics?top=2")
    rows = [(row["name"], row["requests"], row["with_cache_usd"]) for row in told["models"]]
    assert rows == [("m4", 1, 4.0), ("gpt-4o", 1, 3.0), (None, 4, 6.0)]
    assert [(row["name"], row["requests"]) for row in told["tenants"]] == [("bob", 5), ("alice", 1)]


async def test_what_remains_of_the_revenue_is_told_where_it_is_known(panels):
    panel = await panels(economics={"revenue_per_request_usd": 4.0})
    book(panel, MISS, HIT)
    assert (await panel.told("/economics"))["margin"] == {
        "revenue_per_request_usd": 4.0,
        "revenue_usd": 8.0,
        "gross_margin": {"with_cache": 0.625, "without_cache": 0.25},
    }


async def test_a_month_is_what_the_latest_days_come_to(panel):
    book(panel, MISS, HIT)
    forecast = (await panel.told("/economics"))["forecast"]
    assert forecast["days"] == pytest.approx(2, abs=0.05)
    assert forecast["requests"] == pytest.approx(30, rel=0.05)
    assert forecast["without_cache_usd"] == pytest.approx(2 * forecast["with_cache_usd"])
    assert "up to now" in forecast["how"]


async def test_a_month_rests_on_a_week_at_most(panel):
    book(panel, *[MISS._replace(at=NOW - day * DAY) for day in range(20)])
    forecast = (await panel.told("/economics"))["forecast"]
    assert forecast["days"] == 7.0
    assert forecast["requests"] == pytest.approx(30, rel=0.2)


async def test_the_month_is_told_at_each_tiers_prices(panels):
    tier = {"name": "small", "input_usd_per_mtok": [1, 2], "output_usd_per_mtok": [10, 20], "latency_s": [0.5, 1]}
    panel = await panels(economics={"tiers": [tier]})
    book(panel, MISS, HIT)
    told = await panel.told("/economics")
    (small,) = told["tiers"]
    months = told["forecast"]["requests"] / 2
    assert small["name"] == "small"
    assert small["without_cache_usd"]["low"] == pytest.approx(2 * 4.6 * months)
    assert small["with_cache_usd"]["high"] == pytest.approx(9.2 * months)
    assert small["saved_usd"]["low"] == pytest.approx(4.6 * months)
    assert small["saved_s"]["low"] == pytest.approx(0.5 * months)


async def test_a_time_is_told_alone(panel):
    book(panel, MISS, MISS._replace(at=NOW))
    told = await panel.told(f"/economics?since={NOW - DAY}")
    assert told["totals"]["requests"] == 1
    assert told["since"] >= NOW - DAY
