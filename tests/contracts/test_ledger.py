"""What every ``Ledger`` promises, whichever adapter keeps it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from support import served

from cacheproxy.errors import BadRequest
from cacheproxy.events import Audited, CheckKind, Tally
from cacheproxy.model import CheckVerdict, Layer, Usage

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()
HOUR = 3600.0

MISS = served.MISS._replace(at=NOON, upstream_ms=None, usage=Usage(100, 50, 40, 10), price_version="prices 1")
HIT = served.hit_of(MISS, Layer.SEMANTIC, duration_ms=3.0, saved_usage=Usage(100, 50), saved_ms=897.0)

AUDIT = Audited(
    at=NOON,
    model="gpt-4o-mini",
    tenant="alice",
    upstream="openai",
    kind=CheckKind.AUDIT,
    verdict=CheckVerdict.RIGHT,
    usage=Usage(100, 50, estimated=True),
    cost_usd=0.125,
    price_version="prices 1",
)


@pytest.fixture
async def ledgers(world):
    """Opens ledgers of the same books, as several processes would."""

    async def open_ledger():
        return (await world.kept()).ledger

    return open_ledger


@pytest.fixture
async def ledger(ledgers):
    return await ledgers()


async def booked(ledger, *events, by=(), **bounds):
    for event in events:
        ledger.served(event)
    await ledger.flush()
    return await ledger.tallies(by, **bounds)


async def test_empty_books_add_up_to_nothing(ledger):
    assert list(await booked(ledger)) == [Tally()]
    assert list(await booked(ledger, by=["day"])) == []


async def test_costs_and_savings_are_summed(ledger):
    (tally,) = await booked(ledger, MISS, HIT, HIT)
    assert tally == Tally(
        group={},
        requests=3,
        cost_usd=0.25,
        saved_usd=0.5,
        input_tokens=100,
        output_tokens=50,
        saved_input_tokens=200,
        saved_output_tokens=100,
        saved_ms=1794.0,
        duration_ms=906.0,
        upstream_ms=900.0,
        estimated=0,
    )


async def test_sums_go_on_over_flushes_and_processes(ledgers):
    one, two = await ledgers(), await ledgers()
    await booked(one, MISS)
    await booked(two, MISS, HIT)
    (tally,) = await booked(one, MISS)
    assert (tally.requests, tally.cost_usd) == (4, 0.75)


async def test_a_flush_books_nothing_twice(ledger):
    await booked(ledger, MISS)
    await ledger.flush()
    (tally,) = await booked(ledger)
    assert tally.requests == 1


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (["status"], [{"status": "Hit"}, {"status": "Miss"}]),
        (["layer"], [{"layer": ""}, {"layer": "semantic"}]),
        (["reason"], [{"reason": ""}, {"reason": "no-entry"}]),
        (["model"], [{"model": "gpt-4o-mini"}]),
        (["tenant", "dialect"], [{"tenant": "alice", "dialect": "openai-chat"}]),
        (["upstream", "price_version"], [{"upstream": "openai", "price_version": "prices 1"}]),
        (["day"], [{"day": "2026-03-01"}]),
        (["hour"], [{"hour": "2026-03-01T12:00Z"}]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value[0], str) else "",
)
async def test_sums_are_grouped(ledger, by, expected):
    assert [tally.group for tally in await booked(ledger, MISS, HIT, by=by)] == expected


async def test_a_group_holds_its_own_sums(ledger):
    other = MISS._replace(model="other", cost_usd=1.0)
    tallies = await booked(ledger, MISS, other, other, by=["model"])
    assert {tally.group["model"]: (tally.requests, tally.cost_usd) for tally in tallies} == {
        "gpt-4o-mini": (1, 0.25),
        "other": (2, 2.0),
    }


async def test_a_day_is_a_day_in_utc(ledger):
    midnight = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    tallies = await booked(ledger, MISS._replace(at=midnight - 0.001), MISS._replace(at=midnight), by=["day"])
    assert [tally.group["day"] for tally in tallies] == ["2026-03-01", "2026-03-02"]


@pytest.mark.parametrize(
    ("since", "until", "requests"),
    [
        pytest.param(0.0, None, 3, id="always"),
        pytest.param(NOON, None, 2, id="since an hour"),
        pytest.param(NOON + 1800, None, 2, id="since the middle of an hour"),
        pytest.param(0.0, NOON, 1, id="up to an hour"),
        pytest.param(0.0, NOON + 1, 2, id="into an hour"),
        pytest.param(NOON, NOON + HOUR, 1, id="one hour"),
        pytest.param(0.0, 0.0, 0, id="until the epoch, which is not forever"),
    ],
)
async def test_sums_are_taken_over_a_time(ledger, since, until, requests):
    events = [MISS._replace(at=NOON + offset) for offset in (-HOUR, 0.0, HOUR)]
    (tally,) = await booked(ledger, *events, since=since, until=until)
    assert tally.requests == requests


async def test_estimated_requests_are_counted(ledger):
    guessed = MISS._replace(usage=Usage(5, 5, estimated=True))
    guessed_saving = HIT._replace(saved_usage=Usage(5, 5, estimated=True))
    (tally,) = await booked(ledger, MISS, HIT, guessed, guessed_saving)
    assert (tally.requests, tally.estimated) == (4, 2)


async def test_requests_without_a_price_are_counted_and_add_nothing(ledger):
    bought, saved = MISS._replace(cost_usd=0.0, unpriced=True), HIT._replace(saved_usd=0.0, unpriced=True)
    (tally,) = await booked(ledger, MISS, HIT, bought, saved)
    assert (tally.requests, tally.unpriced) == (4, 2)
    assert (tally.cost_usd, tally.saved_usd) == (0.25, 0.25)


async def test_checks_are_booked_apart_from_what_answers_cost(ledger):
    ledger.audited(AUDIT)
    ledger.audited(replace(AUDIT, kind=CheckKind.JUDGE, cost_usd=0.0625))
    (tally,) = await booked(ledger, MISS, HIT, HIT)
    assert (tally.requests, tally.cost_usd, tally.saved_usd) == (3, 0.25, 0.5)
    assert (tally.audit_usd, tally.judge_usd) == (0.125, 0.0625)
    assert tally.net_saved_usd == 0.3125
    assert (tally.input_tokens, tally.estimated) == (100, 0)


async def test_checks_are_in_the_groups_of_what_they_asked(ledger):
    ledger.audited(replace(AUDIT, model="judge", kind=CheckKind.JUDGE))
    tallies = await booked(ledger, HIT, by=["model", "tenant", "upstream", "layer"])
    assert [(tally.group["model"], tally.group["layer"], tally.judge_usd) for tally in tallies] == [
        ("gpt-4o-mini", "semantic", 0.0),
        ("judge", "", 0.125),
    ]


async def test_checks_without_a_price_are_counted(ledger):
    ledger.audited(replace(AUDIT, cost_usd=0.0, unpriced=True))
    (tally,) = await booked(ledger)
    assert (tally.requests, tally.unpriced) == (0, 1)


@pytest.mark.parametrize("name", ["weather", "", "requests", "model; DROP TABLE ledger"])
async def test_an_unknown_group_is_refused_with_the_known_ones(ledger, name):
    with pytest.raises(BadRequest, match="tenant"):
        await ledger.tallies([name])


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param({"model": "\ud800"}, id="a lone surrogate"),
        pytest.param({"model": "m" * 100_000}, id="an endless name"),
        pytest.param({"cost_usd": float("nan")}, id="no number"),
        pytest.param({"cost_usd": float("inf")}, id="an infinite cost"),
        pytest.param({"usage": Usage(10**40, 1)}, id="absurd usage"),
        pytest.param({"usage": Usage(1.5, 1)}, id="half a token"),
    ],
)
async def test_a_strange_request_does_not_keep_the_others_from_the_books(ledger, strange):
    (tally,) = await booked(ledger, MISS, MISS._replace(tenant="bob", **strange))
    assert tally.requests == 2
    assert tally.cost_usd >= 0.25


async def test_names_that_callers_make_up_do_not_pile_up(ledger):
    for number in range(10_500):
        ledger.served(MISS._replace(model=f"made-up-{number}"))
    await ledger.flush()
    tallies = await ledger.tallies(["model"])
    assert len(tallies) <= 10_001
    assert sum(tally.requests for tally in tallies) == 10_500


@pytest.mark.parametrize(
    ("event", "upstream_ms"),
    [
        pytest.param(MISS, 900.0, id="a miss without its upstream's time: all of it"),
        pytest.param(MISS._replace(upstream_ms=850.0), 850.0, id="a miss"),
        pytest.param(HIT, 0.0, id="a hit"),
        pytest.param(HIT._replace(layer=Layer.COALESCED), 0.0, id="a shared answer"),
    ],
)
async def test_how_long_upstreams_took_is_summed(ledger, event, upstream_ms):
    (tally,) = await booked(ledger, event)
    assert tally.upstream_ms == upstream_ms


@pytest.mark.parametrize("since", [0.0, NOON - 60 * HOUR, NOON - 48 * HOUR - 5, NOON - 5 * HOUR, NOON + HOUR])
@pytest.mark.parametrize("until", [None, NOON - 36 * HOUR, NOON, NOON + 12 * HOUR, NOON + 50 * HOUR, 0.0])
async def test_whole_days_and_single_hours_come_to_the_same(ledger, since, until):
    await booked(ledger, *[MISS._replace(at=NOON + hours * HOUR) for hours in range(-70, 70, 3)])
    by_hour = await ledger.tallies(["hour"], since=since, until=until)
    by_day = await ledger.tallies(["day"], since=since, until=until)
    days = {tally.group["hour"][:10] for tally in by_hour}
    assert [(tally.group["day"], tally.requests) for tally in by_day] == [
        (day, sum(tally.requests for tally in by_hour if tally.group["hour"].startswith(day))) for day in sorted(days)
    ]
    assert sum(tally.requests for tally in await ledger.tallies([], since=since, until=until)) == sum(
        tally.requests for tally in by_hour
    )


@pytest.mark.parametrize("by", [[], ["day"], ["model"], ["tenant"], ["day", "status", "layer"], ["reason", "model"]])
async def test_a_long_time_and_its_hours_come_to_the_same_by_whatever_group(ledger, by):
    events = [
        event._replace(at=NOON + day * 24 * HOUR, tenant=f"t{day % 2}", model=f"m{day % 3}")
        for day in range(5)
        for event in (MISS, HIT, MISS._replace(usage=Usage(1, 2, estimated=True)))
    ]
    await booked(ledger, *events)
    told = {tuple(each.group.values()): replace(each, group={}) for each in await ledger.tallies(by)}
    summed = {}
    for each in await ledger.tallies([*by, "hour"]):
        group = tuple(value for name, value in each.group.items() if name != "hour")
        summed.setdefault(group, []).append(each)
    assert told.keys() == summed.keys()
    for group, parts in summed.items():
        for name in ("requests", "cost_usd", "saved_usd", "input_tokens", "estimated", "upstream_ms"):
            assert getattr(told[group], name) == pytest.approx(sum(getattr(part, name) for part in parts))
