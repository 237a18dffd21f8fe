"""``cacheproxy stats --economics``: what requests cost, a month's forecast, and other models' prices."""

import asyncio
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from cacheproxy.cli.common import console, say
from cacheproxy.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.server.api.figure_shapes import Economics, SpendRow, WithAndWithout

_TOP = 10


def told_economics(settings: Settings, *, since: float, until: float, json: bool) -> None:
    """Print what the economics page shows."""
    page = asyncio.run(_read(settings, since, until))
    if json:
        typer.echo(page.model_dump_json())
        return
    say(f"a request costs {_both(page.usd_per_request, 6)} USD, a million tokens {_both(page.usd_per_mtok, 4)} USD")
    for name, rows in (("model", page.models), ("tenant", page.tenants)):
        console().print(_spending(name, rows), markup=False)
    if page.margin is not None:
        say(f"gross margin {_both(page.margin.gross_margin, 4)} at {page.margin.revenue_per_request_usd} USD a request")
    if page.forecast is not None:
        month = page.forecast
        say(
            f"a month: {month.requests:,.0f} requests, {month.with_cache_usd:,.2f} USD with the cache and "
            f"{month.without_cache_usd:,.2f} without ({month.how})"
        )
        console().print(_tiers(page), markup=False)


async def _read(settings: Settings, since: float, until: float) -> "Economics":
    from cacheproxy import derive, opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them
    from cacheproxy.server.api.economics import page  # noqa: PLC0415 - likewise

    async with opening.open_books(settings) as (ledger, _):
        return await page(
            ledger,
            since=since,
            until=until,
            top=_TOP,
            revenue_usd=settings.economics.revenue_per_request_usd,
            tiers=derive.tiers(settings),
        )


def _spending(name: str, rows: "Sequence[SpendRow]") -> Table:
    table = Table(name, box=None)
    for title in ("requests", "hit rate", "spent USD", "without cache USD", "net saved USD"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            "(other)" if row.name is None else row.name,
            f"{row.requests:,}",
            f"{row.hit_rate:.1%}",
            f"{row.with_cache_usd:,.4f}",
            f"{row.without_cache_usd:,.4f}",
            f"{row.net_saved_usd:,.4f}",
        )
    return table


def _tiers(page: "Economics") -> Table:
    table = Table("the month with models like", box=None)
    for title in ("without cache USD", "with cache USD", "hours not waited"):
        table.add_column(title, justify="right")
    for tier in page.tiers:
        table.add_row(
            tier.name,
            f"{tier.without_cache_usd.low:,.2f} to {tier.without_cache_usd.high:,.2f}",
            f"{tier.with_cache_usd.low:,.2f} to {tier.with_cache_usd.high:,.2f}",
            f"{tier.saved_s.low / 3600:,.1f} to {tier.saved_s.high / 3600:,.1f}",
        )
    return table


def _both(told: "WithAndWithout", digits: int) -> str:
    if told.with_cache is None or told.without_cache is None:
        return "an unknown sum of"
    return f"{told.with_cache:,.{digits}f} ({told.without_cache:,.{digits}f} without the cache)"
