from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest
from support.candidates import features, label

from cacheproxy.cli import run
from cacheproxy.cli.stats import Row, _figures, as_json, report
from cacheproxy.core.judge_noise import PAIRS
from cacheproxy.core.labels import Label, Source
from cacheproxy.derive import judge_name
from cacheproxy.events import Served, Tally
from cacheproxy.model import CacheStatus, Layer, Usage
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.store.sqlite_ledger import SqliteLedger


def tally(model: str, layer: str, requests: int, saved_usd: float = 0.0) -> Tally:
    return Tally({"model": model, "layer": layer}, requests=requests, saved_usd=saved_usd, saved_ms=500 * requests)


def test_layers_become_columns_of_their_group():
    rows, total = report(
        [tally("a", "", 6), tally("a", "exact", 3, 0.5), tally("a", "semantic", 1), tally("b", "", 10)]
    )

    assert [dict(row.group) for row in rows] == [{"model": "a"}, {"model": "b"}]
    assert rows[0].hits == {Layer.EXACT: 3, Layer.SEMANTIC: 1}
    assert rows[0].hit_rate == 0.4
    assert (total.requests, total.saved_usd, total.saved_s) == (20, 0.5, 10.0)
    assert total.hit_rate == 0.2


@pytest.mark.parametrize(
    ("usd", "told"), [(0.0, "0.0000"), (0.00001575, "0.000016"), (0.5, "0.5000"), (1234.5, "1,234.5000")]
)
def test_the_first_cents_were_told_as_nothing(usd, told):
    row = Row({}, cost_usd=usd)
    assert _figures(row, row)["spent USD"] == told


def test_savings_are_told_less_what_checks_cost():
    rows, total = report([replace(tally("a", "semantic", 9, 0.5), audit_usd=0.125, judge_usd=0.25), tally("b", "", 1)])
    assert _figures(rows[0], total) | {"checks USD": "0.3750", "saved USD": "0.1250"} == _figures(rows[0], total)
    assert _figures(rows[1], total)["checks USD"] == "0.0000"
    assert as_json(total) | {"saved_usd": 0.5, "audit_usd": 0.125, "judge_usd": 0.25} == as_json(total)
    assert as_json(total)["net_saved_usd"] == 0.125


def test_checks_that_cost_more_than_hits_saved_are_told_as_a_loss():
    row = Row({}, saved_usd=0.25, audit_usd=0.5)
    assert _figures(row, row)["saved USD"] == "-0.2500"


def test_where_nothing_was_checked_there_is_no_column_for_it():
    row = Row({}, saved_usd=0.25)
    assert "checks USD" not in _figures(row, row)


def test_nothing_booked_is_no_division_by_zero():
    assert as_json(Row({}))["hit_rate"] == 0


@pytest.fixture
def data_dir(tmp_path):
    async def fill() -> None:
        async with open_sqlite(Settings(data_dir=tmp_path).database, clock=time.time) as store:
            ledger = SqliteLedger(store.database)
            for at, layer in [
                (time.time(), None),
                (time.time(), Layer.EXACT),
                (time.time() - 30 * 86_400, Layer.SEMANTIC),
            ]:
                ledger.served(
                    Served(
                        at=at,
                        dialect="openai-chat",
                        upstream="default",
                        tenant="t",
                        model="m[0]",
                        http_status=200,
                        status=CacheStatus.HIT if layer else CacheStatus.MISS,
                        layer=layer,
                        duration_ms=10,
                        usage=Usage() if layer else Usage(10, 20, estimated=True),
                        cost_usd=0 if layer else 0.5,
                        saved_usd=0.5 if layer else 0,
                        saved_usage=Usage(10, 20) if layer else Usage(),
                        saved_ms=900 if layer else 0,
                        unpriced=layer is Layer.SEMANTIC,
                    )
                )
            await ledger.flush()

    asyncio.run(fill())
    return tmp_path


def test_the_ledger_is_told_to_programs(data_dir, capsys):
    assert run(["stats", "--by", "model,dialect", "--json", "--data-dir", str(data_dir)]) == 0
    told = json.loads(capsys.readouterr().out)

    assert told["total"]["requests"] == 3
    assert told["rows"][0] | {"model": "m[0]", "dialect": "openai-chat"} == told["rows"][0]
    assert told["total"]["hits"] == {"exact": 1, "semantic": 1, "coalesced": 0}
    assert told["total"]["saved_usd"] == 1.0
    assert told["total"]["requests_without_price"] == 1


def test_the_ledger_can_be_asked_for_lately(data_dir, capsys):
    assert run(["stats", "--since", "7d", "--json", "--data-dir", str(data_dir)]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["requests"] == 2


def test_where_every_price_is_known_none_is_said_to_be_missing(data_dir, capsys):
    assert run(["stats", "--since", "7d", "--data-dir", str(data_dir)]) == 0
    assert "price" not in capsys.readouterr().out


def test_the_ledger_is_told_to_people(data_dir, capsys):
    assert run(["stats", "--by", "model,day", "--data-dir", str(data_dir)]) == 0
    told = capsys.readouterr().out
    assert "m[0]" in told
    assert "total" in told
    assert "33.3%" in told
    assert "price" in told


def test_how_often_the_judge_errs_is_told_as_a_running_proxy_tells_it(data_dir, capsys):
    """It was known to the process alone that had measured it."""
    settings = Settings(data_dir=data_dir)
    pairs = [
        Label(time.time(), judge, features(), right=right, source=Source.PAIR)
        for judge, right in [(judge_name(settings), True), (judge_name(settings), False), ("another", False)]
    ]

    async def measure() -> None:
        async with open_sqlite(settings.database, clock=time.time) as store:
            await SqliteLabels(store.database).add(PAIRS, pairs)
            await SqliteLabels(store.database).add("default", [label(time.time(), right=True)])

    asyncio.run(measure())
    assert run(["stats", "--json", "--data-dir", str(data_dir)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["judge"]["pairs"], told["judge"]["disagreed"]) == (2, 1)
    assert [promise["pool"] for promise in told["promises"]] == ["default"]
    assert run(["stats", "--data-dir", str(data_dir)]) == 0
    assert "judge: called two fresh answers different in 1 of 2 pairs" in capsys.readouterr().out


def test_an_empty_ledger_is_told_too(tmp_path, capsys):
    async def create() -> None:
        async with open_sqlite(Settings(data_dir=tmp_path).database, clock=time.time):
            pass

    asyncio.run(create())
    assert run(["stats", "--data-dir", str(tmp_path)]) == 0
    assert "requests" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["stats"], ["cache", "ls"], ["cache", "purge", "--yes"], ["cache", "re-embed"]])
def test_a_data_directory_that_is_not_there_was_told_as_an_empty_one(tmp_path, capsys, command):
    assert run([*command, "--data-dir", str(tmp_path / "typo")]) == 1
    assert "there is no store at" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
