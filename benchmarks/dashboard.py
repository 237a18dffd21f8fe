"""What the dashboard costs: opening the overview of a year, and having it open while requests go through.

    python benchmarks/dashboard.py year [--hits 5000000] [--calls 5] [--json]
    python benchmarks/dashboard.py open [--rounds 5] [--seconds 4] [--rate 1000] [--json]

``year`` fills a ledger hour by hour with made-up traffic, half of it hits: 20 tenants and 4 models whose shares fall as
Zipf has it, nights at a quarter of the days, every layer and six reasons for a miss. Then it times the handlers of the
overview and of economics, the first call in a newly opened database included. ``open`` measures exact hits (1 KiB chat
requests) with and without one dashboard: its event stream, and the overview asked anew every five seconds. Rounds are
interleaved; first the proxy is driven as hard as 32 connections can, then at a fixed rate. Of the first, the processor
time of the proxy for each request is told too, which tells more than requests per second where others use the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import uvloop
from hot_path import Servers, _fill, _free_port, _until_open
from load import Arm, Connection, body, questions, request

from cacheproxy.server.api.economics import EconomicsPage
from cacheproxy.server.api.figure_shapes import EconomicsAsked, OverviewAsked
from cacheproxy.server.api.overview import OverviewPage
from cacheproxy.server.api.recent import Recent
from cacheproxy.store.database import open_database
from cacheproxy.store.sqlite_ledger import SqliteLedger

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Iterator

HOURS = 365 * 24
NOW = 1_800_000_000 // 86_400 * 86_400.0
TENANTS, MODELS = 20, 4
OUTCOMES = (
    ("Hit", "exact", "", 0.33),
    ("Hit", "semantic", "", 0.14),
    ("Hit", "coalesced", "", 0.03),
    ("Miss", "", "no-entry", 0.15),
    ("Miss", "", "below-threshold", 0.15),
    ("Miss", "", "no-neighbor", 0.08),
    ("Miss", "", "guard-numbers", 0.04),
    ("Miss", "", "volatile", 0.04),
    ("Bypass", "", "no-cache", 0.04),
)
"""Status, layer, reason, and the share of requests."""
NIGHT_ENDS = 8
HITS_PER_REQUEST = 0.5
POLL_S = 5.0


# --- a year


def zipf(count: int) -> list[float]:
    """Shares that fall with the rank."""
    weights = [1 / rank for rank in range(1, count + 1)]
    return [weight / sum(weights) for weight in weights]


def buckets(hits: int) -> Iterator[tuple[Any, ...]]:
    """The ledger's rows, hour by hour, with ``hits`` hits near enough."""
    draw = random.Random(7)
    shares = [
        (tenant, model, outcome, tenant_share * model_share * outcome[3])
        for tenant, tenant_share in enumerate(zipf(TENANTS))
        for model, model_share in enumerate(zipf(MODELS))
        for outcome in OUTCOMES
    ]
    a_day = [1 / 3 if hour < NIGHT_ENDS else 4 / 3 for hour in range(24)]
    first = int(NOW // 3600) - HOURS
    for hour in range(HOURS):
        expected = hits / HITS_PER_REQUEST / HOURS * a_day[hour % 24]
        for tenant, model, (status, layer, reason, _), share in shares:
            count = _poisson(draw, expected * share)
            if not count:
                continue
            tokens, saved = (0, count) if layer else (count, 0)
            yield (
                *(
                    first + hour,
                    f"tenant-{tenant:02}",
                    f"model-{model}",
                    "openai",
                    "openai-chat",
                    status,
                    layer,
                    reason,
                ),
                *(0, "prices 1", count, 0.002 * tokens, 0.002 * saved, 230 * tokens, 120 * tokens, 0, 0),
                *(230 * saved, 120 * saved, 900.0 * saved, 905.0 * tokens + 3.0 * saved, 0, 0.0, 0.0, 900.0 * tokens),
            )


def _poisson(draw: random.Random, mean: float) -> int:
    """So many by chance: of few as Poisson has it, of many near enough."""
    if mean > 30:  # noqa: PLR2004 - where a bell is close enough
        return max(0, round(draw.gauss(mean, mean**0.5)))
    threshold, count, product = 2.718281828459045**-mean, 0, draw.random()
    while product > threshold:
        count += 1
        product *= draw.random()
    return count


def fill(connection: sqlite3.Connection, hits: int) -> tuple[int, int, int]:
    """Book the year; how many hits, and how many rows by hour and by day."""
    marks = ", ".join("?" * 25)
    connection.executemany(f"INSERT INTO ledger VALUES ({marks})", buckets(hits))
    (columns,) = connection.execute(
        "SELECT group_concat('sum(' || name || ')', ', ') FROM pragma_table_info('ledger_days') WHERE cid >= 10"
    ).fetchone()
    connection.execute(
        "INSERT INTO ledger_days SELECT hour / 24, tenant, model, upstream, dialect, status, layer, reason, "
        f"estimated, price_version, {columns} FROM ledger GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
    )
    for table, name in (("ledger_outline", "model"), ("ledger_tenants", "tenant")):
        connection.execute(
            f"INSERT INTO {table} SELECT day, {name}, status, layer, estimated, {columns} "
            "FROM ledger_days GROUP BY 1, 2, 3, 4, 5"
        )
    (booked,) = connection.execute("SELECT sum(requests) FROM ledger WHERE layer <> ''").fetchone()
    (hours,) = connection.execute("SELECT count(*) FROM ledger").fetchone()
    (days,) = connection.execute("SELECT count(*) FROM ledger_days").fetchone()
    return booked, hours, days


async def year(hits: int, calls: int) -> dict[str, Any]:
    """Fill a ledger and open its pages."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "year.sqlite3"
        async with open_database(path, clock=lambda: NOW) as database:
            booked, hours, days = await database.write(lambda rows: fill(rows, hits), doing="fill the ledger")
        took: dict[str, list[float]] = {}
        async with open_database(path, clock=lambda: NOW) as database:
            ledger = SqliteLedger(database)
            overview = OverviewPage(ledger=ledger, recent=Recent(), pools=(), entries=_none, now=lambda: NOW)
            economics = EconomicsPage(ledger=ledger, revenue_usd=0.01, tiers=(), now=lambda: NOW)
            pages = {
                "overview, a year by day": (overview.overview, OverviewAsked()),
                "overview, the last week by hour": (overview.overview, OverviewAsked(since=NOW - 7 * 86_400)),
                "overview, since the middle of a day": (
                    overview.overview,
                    OverviewAsked(since=NOW - 300 * 86_400 - 43_000),
                ),
                "economics, a year": (economics.economics, EconomicsAsked()),
            }
            for _ in range(calls):
                for name, (handler, query) in pages.items():
                    began = time.perf_counter()
                    told = await handler(SimpleNamespace(query=query))
                    text = told.model_dump_json()
                    took.setdefault(name, []).append(time.perf_counter() - began)
                    assert text
        return {
            "hits": booked,
            "rows_by_hour": hours,
            "rows_by_day": days,
            "file_mb": round(path.stat().st_size / 1e6),
            "seconds": {
                name: {
                    "first": round(each[0], 3),
                    "median": round(statistics.median(each), 3),
                    "most": round(max(each), 3),
                }
                for name, each in took.items()
            },
        }


async def _none() -> int:
    return 0


# --- while it is open


@contextlib.asynccontextmanager
async def dashboard(admin: str) -> AsyncIterator[None]:
    """One page that listens, and asks for the overview anew now and then."""

    async def listen(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{admin}/api/v1/events") as response:
            async for _ in response.content.iter_any():
                pass

    async def poll(session: aiohttp.ClientSession) -> None:
        while True:
            async with session.get(f"{admin}/api/v1/overview") as response:
                await response.read()
            await asyncio.sleep(POLL_S)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        tasks = [asyncio.get_running_loop().create_task(work(session)) for work in (listen, poll)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def at_rate(port: int, content: bytes, rate: float, seconds: float) -> tuple[float, list[float]]:
    """Requests sent when their time has come, whatever became of those before: requests/s, and seconds each took."""
    loop = asyncio.get_running_loop()
    free = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(64)]
    every, took, tasks = list(free), [], []

    async def send(due: float) -> None:
        connection = free.pop() if free else (await loop.create_connection(Connection, "127.0.0.1", port))[1]
        await connection.ask(request(port, content))
        took.append(time.perf_counter() - due)
        free.append(connection)

    began = time.perf_counter()
    for number in itertools.count():
        due = began + number / rate
        if due > began + seconds:
            break
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        tasks.append(loop.create_task(send(due)))
    await asyncio.gather(*tasks)
    elapsed = time.perf_counter() - began
    for connection in every:
        connection.close()
    return len(took) / elapsed, took


async def opened(rounds: int, seconds: float, rate: float) -> dict[str, Any]:
    """Measure with and without a dashboard."""
    proxy, admin, stub = _free_port(), _free_port(), _free_port()
    same = body(questions()[0])
    with Servers() as servers, tempfile.TemporaryDirectory() as folder:
        servers.start_own("stub", stub)
        command = [sys.executable, "-m", "cacheproxy", "serve", "--mode", "exact", "--data-dir", folder]
        command += ["--listen", f"127.0.0.1:{proxy}", "--admin-listen", f"127.0.0.1:{admin}"]
        process = psutil.Process(
            servers.start(*command, "--upstream-url", f"http://127.0.0.1:{stub}/v1", stdout=subprocess.DEVNULL).pid
        )
        await asyncio.gather(*map(_until_open, (proxy, admin, stub)))
        await _fill(proxy, [same])
        arms = {name: Arm(name, proxy, itertools.repeat(same), b"Layer: exact") for name in ("closed", "open")}
        fixed: dict[str, list[tuple[float, float, float]]] = {"closed": [], "open": []}
        spent: dict[str, list[float]] = {"closed": [], "open": []}
        for number in range(rounds):
            order = list(arms) if number % 2 else list(reversed(arms))
            for name in order:
                async with dashboard(f"http://127.0.0.1:{admin}") if name == "open" else contextlib.nullcontext():
                    before = sum(process.cpu_times()[:2])
                    await arms[name].measure(32, seconds)
                    answered = arms[name].rounds[32][-1][0] * seconds
                    spent[name].append((sum(process.cpu_times()[:2]) - before) / answered * 1e6)
                    reached, took = await at_rate(proxy, same, rate, seconds)
                    took.sort()
                    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
                    fixed[name].append((reached, p50 * 1000, p99 * 1000))
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    ratios = [two[0] / one[0] for one, two in zip(arms["closed"].rounds[32], arms["open"].rounds[32], strict=True)]

    def middle(name: str, column: int) -> float:
        return round(statistics.median(row[column] for row in fixed[name]), 2)

    return {
        "requests_per_s_at_32": {name: round(arm.rate(32), 1) for name, arm in arms.items()},
        "open_over_closed": round(statistics.median(ratios), 3),
        "processor_us_per_request": {name: round(statistics.median(each), 1) for name, each in spent.items()},
        "open_over_closed_each_round": [round(ratio, 3) for ratio in ratios],
        f"at_{rate:.0f}_per_s": {
            name: {"reached": middle(name, 0), "p50_ms": middle(name, 1), "p99_ms": middle(name, 2)} for name in fixed
        },
    }


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["year", "open"])
    parser.add_argument("--hits", type=int, default=5_000_000)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each arm in each round")
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--json", action="store_true", help="one line for programs")
    asked = parser.parse_args()
    work = year(asked.hits, asked.calls) if asked.which == "year" else opened(asked.rounds, asked.seconds, asked.rate)
    figures = uvloop.run(work)
    print(json.dumps(figures, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
