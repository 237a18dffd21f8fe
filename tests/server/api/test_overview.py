"""The overview adds up what happened, hour by hour or day by day, and the ledger's sums are told as they are."""

from __future__ import annotations

import pytest
from support.panel import NOW
from support.served import MISS, hit_of

from cacheproxy.errors import PortUnavailable
from cacheproxy.events import GROUPINGS, Tally
from cacheproxy.model import CacheStatus, Layer
from cacheproxy.server.api.overview import series
from cacheproxy.server.refusal import Refused

ASKED = "What does a reverse proxy do?"
HOUR = 3600.0
DAY = 86_400.0
HIT = hit_of(MISS, Layer.SEMANTIC)


def book(panel, *events):
    for event in events:
        panel.ledger.served(event)


async def test_what_happened_is_added_up(panel):
    book(panel, MISS, HIT, HIT._replace(layer=Layer.EXACT), MISS._replace(status=CacheStatus.BYPASS))
    totals = (await panel.told("/overview"))["totals"]
    assert (totals["requests"], totals["bypassed"]) == (4, 1)
    assert totals["hits"] == {"exact": 1, "semantic": 1, "coalesced": 0}
    assert totals["hit_rates"] == {"exact": 0.25, "semantic": 0.25, "coalesced": 0.0, "all": 0.5}
    assert (totals["cost_usd"], totals["saved_usd"]) == (0.5, 0.5)
    assert (totals["with_cache_usd"], totals["without_cache_usd"]) == (0.5, 1.0)
    assert (totals["input_tokens"], totals["saved_output_tokens"]) == (200, 100)


async def test_seconds_saved_are_net_of_what_the_cache_took(panel):
    book(panel, MISS, HIT)
    totals = (await panel.told("/overview"))["totals"]
    assert totals["saved_s"] == 0.85
    assert totals["cache_s"] == pytest.approx(0.050 + 0.004)
    assert totals["net_saved_s"] == pytest.approx(0.85 - 0.054)


async def test_dollars_saved_are_net_of_checks(panel):
    await panel.ask(ASKED)
    before = (await panel.told("/overview"))["totals"]
    assert before["net_saved_usd"] == before["saved_usd"] - before["checks_usd"]


async def test_hours_without_traffic_are_points_too(panel):
    book(panel, MISS._replace(at=NOW - 3 * HOUR), HIT)
    told = await panel.told(f"/overview?since={NOW - 5 * HOUR}")
    assert told["step"] == "hour"
    assert [point["requests"] for point in told["points"]] == [0, 0, 1, 0, 0, 1]
    assert told["points"][0]["at"] == told["since"] == (NOW - 5 * HOUR) // HOUR * HOUR


@pytest.mark.parametrize(
    ("first", "query", "step"),
    [
        pytest.param(NOW - 3 * DAY, "", "hour", id="a few days"),
        pytest.param(NOW - 30 * DAY, "", "day", id="a month"),
        pytest.param(NOW, f"?since={NOW - 8 * DAY}", "hour", id="since eight days"),
        pytest.param(NOW, f"?since={NOW - 9 * DAY}", "day", id="since longer"),
        pytest.param(NOW - 30 * DAY, "?step=hour", "hour", id="as asked"),
    ],
)
async def test_the_step_follows_from_the_time_unless_it_is_asked_for(panel, first, query, step):
    book(panel, MISS._replace(at=first))
    assert (await panel.told(f"/overview{query}"))["step"] == step


async def test_without_a_since_the_series_begins_with_the_first_request(panel):
    book(panel, MISS._replace(at=NOW - 30 * DAY))
    told = await panel.told("/overview")
    assert told["since"] == (NOW - 30 * DAY) // DAY * DAY
    assert len(told["points"]) == 31


async def test_before_the_first_request_there_is_one_empty_point(panel):
    told = await panel.told("/overview")
    assert [point["requests"] for point in told["points"]] == [0]
    assert told["totals"]["hit_rates"]["all"] == 0.0
    assert told["hit_latency"] == {"mean_ms": None, "p50_ms": None, "p95_ms": None, "p99_ms": None, "latest": 0}


async def test_a_time_that_is_over_is_told_up_to_its_end(panel):
    book(panel, MISS._replace(at=NOW - 10 * HOUR), MISS)
    told = await panel.told(f"/overview?since={NOW - 11 * HOUR}&until={NOW - 9 * HOUR}")
    assert told["totals"]["requests"] == 1
    assert told["until"] == NOW - 9 * HOUR


def test_a_series_without_end_is_refused_with_advice():
    group = {"hour": "2020-01-01T00:00Z", "status": "Miss", "layer": ""}
    with pytest.raises(Refused, match="step=day"):
        series([Tally(group)], step="hour", since=None, until=NOW)


async def test_latency_is_the_ledgers_mean_and_the_latest_requests_percentiles(panel):
    book(panel, MISS, HIT)
    for number in range(100):
        panel.recent.served(HIT._replace(duration_ms=float(number)))
    told = await panel.told("/overview")
    assert told["hit_latency"] == {
        "mean_ms": 4.0,
        "p50_ms": 49.5,
        "p95_ms": pytest.approx(94.05),
        "p99_ms": pytest.approx(98.01),
        "latest": 100,
    }
    assert (told["miss_latency"]["mean_ms"], told["miss_latency"]["p50_ms"]) == (900.0, None)


async def test_what_is_promised_and_how_much_is_stored_is_told(panel):
    await panel.ask(ASKED)
    told = await panel.told("/overview")
    assert told["entries"] == 1
    assert [(pool["pool"], pool["stage"]) for pool in told["pools"]] == [("default", "uncertified")]


async def test_statistics_are_grouped_and_fresh(panel):
    book(panel, MISS, HIT, HIT)
    told = await panel.told("/stats?by=model,layer")
    assert told["by"] == ["model", "layer"]
    assert [(row["group"]["layer"], row["requests"]) for row in told["rows"]] == [("", 1), ("semantic", 2)]
    assert told["rows"][0]["group"]["model"] == "gpt-4o-mini"
    assert (told["rows"][1]["saved_usd"], told["rows"][1]["net_saved_usd"]) == (0.5, 0.5)


@pytest.mark.parametrize("name", GROUPINGS)
async def test_each_grouping_is_taken(panel, name):
    assert (await panel.get(f"/stats?by={name}"))[0] == 200


async def test_without_a_grouping_there_is_one_sum(panel):
    book(panel, MISS, HIT)
    (row,) = (await panel.told("/stats"))["rows"]
    assert (row["group"], row["requests"]) == ({}, 2)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/stats?by=colour", "price_version"),
        ("/stats?since=monday", "since"),
        ("/stats?since=nan", "since"),
        ("/stats?since=-1", "since"),
        ("/stats?until=inf", "until"),
        ("/overview?step=week", "step"),
        ("/overview?sice=0", "'sice'"),
        ("/overview?since=1&since=2", "'since'"),
    ],
)
async def test_a_wrong_question_is_told_what_is_wrong(panel, path, says):
    status, told = await panel.get(path)
    assert (status, told["error"]["code"]) == (400, "bad_request")
    assert says in told["error"]["message"]


async def test_a_ledger_that_fails_is_a_503_and_no_outage(panel, monkeypatch):
    async def flush():
        raise PortUnavailable("the disk is full")

    monkeypatch.setattr(panel.ledger, "flush", flush)
    status, told = await panel.get("/stats")
    assert (status, told["error"]["message"]) == (503, "the disk is full")
