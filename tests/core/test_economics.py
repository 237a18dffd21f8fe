"""A month from some days, and the same month at other prices."""

from __future__ import annotations

import pytest

from cacheproxy.core.economics import Span, Tier, Traffic, at_tiers, latest, margin, month

DAY = 86_400.0
TRAFFIC = Traffic(
    requests=100,
    hits=40,
    input_tokens=1e6,
    output_tokens=2e6,
    saved_input_tokens=3e6,
    saved_output_tokens=4e6,
    cost_usd=10.0,
    saved_usd=20.0,
    checks_usd=1.0,
    net_saved_s=50.0,
)
TIER = Tier("t", Span(1, 2), Span(10, 20), Span(0.5, 1))


def test_a_month_is_thirty_days_like_those_that_it_rests_on():
    told = month(TRAFFIC, since=0.0, until=3 * DAY)
    assert (told.days, told.traffic.requests, told.traffic.cost_usd) == (3.0, 1000.0, 100.0)
    assert told.how == "3 days up to now, times 10"


def test_a_forecast_from_less_than_a_day_is_told_in_hours():
    assert month(TRAFFIC, since=0.0, until=DAY / 24).how == "1 h up to now, times 720"


@pytest.mark.parametrize(
    ("first", "begin"),
    [
        pytest.param(50 * DAY, 93 * DAY, id="a week at most"),
        pytest.param(98 * DAY, 98 * DAY, id="what there is"),
        pytest.param(100 * DAY, 100 * DAY - 3600, id="an hour at least"),
    ],
)
def test_a_forecast_rests_on_the_latest_days(first, begin):
    assert latest(first=first, until=100 * DAY) == begin


def test_the_same_tokens_cost_what_a_tier_costs():
    (told,) = at_tiers(TRAFFIC, [TIER])
    assert told.without_cache_usd == Span(1 + 20 + 3 + 40, 2 + 40 + 6 + 80)
    assert told.with_cache_usd == Span(1 + 20 + 1.0, 2 + 40 + 1.0)
    assert told.saved_usd == Span(43 - 1.0, 86 - 1.0)
    assert told.saved_s == Span(20, 40)


@pytest.mark.parametrize(("revenue", "spent", "left"), [(10.0, 4.0, 0.6), (10.0, 15.0, -0.5), (0.0, 4.0, None)])
def test_the_margin_is_what_remains_of_the_revenue(revenue, spent, left):
    assert margin(revenue, spent) == left
