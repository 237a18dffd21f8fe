"""The economics page: cost per request, by model and tenant, what remains, a forecast, other models' prices."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cacheproxy.core import economics
from cacheproxy.core.economics import Traffic
from cacheproxy.model import Layer
from cacheproxy.server.api import sums
from cacheproxy.server.api.figure_shapes import (
    Economics,
    EconomicsAsked,
    Forecast,
    Margin,
    Span,
    SpendRow,
    TierTold,
    WithAndWithout,
)
from cacheproxy.server.api.overview import told_totals
from cacheproxy.server.api.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cacheproxy.core.economics import AtTier, Month, Tier
    from cacheproxy.ports import Ledger
    from cacheproxy.server.api.calls import Call, Handler

_MTOK: Final = 1e6


class EconomicsPage:
    """``revenue_usd`` is what a request earns, None where that is not known; ``now`` tells the time."""

    def __init__(
        self, *, ledger: Ledger, revenue_usd: float | None, tiers: Sequence[Tier], now: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._revenue_usd = revenue_usd
        self._tiers = tiers
        self._now = now

    def handlers(self) -> Mapping[str, Handler]:
        """By operation."""
        return {"economics": self.economics}

    async def economics(self, call: Call) -> Economics:
        """The whole page."""
        asked: EconomicsAsked = call.query
        now = self._now()
        until = min(now, asked.until) if asked.until is not None else now
        await self._ledger.flush()
        return await page(
            self._ledger,
            since=asked.since or 0.0,
            until=until,
            top=asked.top,
            revenue_usd=self._revenue_usd,
            tiers=self._tiers,
        )


async def page(
    ledger: Ledger, *, since: float, until: float, top: int, revenue_usd: float | None, tiers: Sequence[Tier]
) -> Economics:
    """The whole page, from what the ledger has written."""
    models = await _by(ledger, "model", since, until)
    tenants = await _by(ledger, "tenant", since, until)
    total = _sum(models.values())
    first = await _first(ledger, since, until)
    month = None
    if first is not None:
        begin = economics.latest(first=max(first, since), until=until)
        latest = _sum((await _by(ledger, "model", begin, until)).values())
        month = economics.month(_traffic(latest), since=begin, until=until)
    return Economics(
        since=since if first is None else max(since, first),
        until=until,
        totals=told_totals(total),
        usd_per_request=_per(total, total.requests),
        usd_per_mtok=_per(total, total.tokens / _MTOK),
        models=_rows(models, top),
        tenants=_rows(tenants, top),
        margin=None if revenue_usd is None else _margin(total, revenue_usd),
        forecast=None if month is None else _forecast(month),
        tiers=[] if month is None else [_tier(each) for each in economics.at_tiers(month.traffic, tiers)],
    )


async def _by(ledger: Ledger, name: str, since: float, until: float) -> dict[str, Sums]:
    found: dict[str, Sums] = {}
    for tally in await ledger.tallies([name, *sums.BY], since=since, until=until + 1):
        found.setdefault(tally.group[name], Sums()).add(tally)
    return found


async def _first(ledger: Ledger, since: float, until: float) -> float | None:
    """The day, or the hour where it is the same day, of the first request; None before it."""
    days = await ledger.tallies(["day"], since=since, until=until + 1)
    if not days:
        return None
    day = datetime.strptime(days[0].group["day"], "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    hours = await ledger.tallies(["hour"], since=day, until=day + 86_400)
    hour = min(tally.group["hour"] for tally in hours)
    return datetime.strptime(hour, "%Y-%m-%dT%H:00Z").replace(tzinfo=UTC).timestamp()


def _sum(parts: Iterable[Sums]) -> Sums:
    total = Sums()
    for part in parts:
        total.absorb(part)
    return total


def _rows(parts: Mapping[str, Sums], top: int) -> list[SpendRow]:
    """The most expensive by name, and the rest together."""
    ranked = sorted(parts.items(), key=lambda part: (-part[1].without_cache_usd, -part[1].requests, part[0]))
    rows = [_row(name, part) for name, part in ranked[:top]]
    rest = [part for _, part in ranked[top:]]
    return [*rows, _row(None, _sum(rest))] if rest else rows


def _row(name: str | None, part: Sums) -> SpendRow:
    return SpendRow(
        name=name,
        requests=part.requests,
        hit_rate=part.hit_rate,
        with_cache_usd=part.with_cache_usd,
        without_cache_usd=part.without_cache_usd,
        net_saved_usd=part.saved_usd - part.checks_usd,
        usd_per_request=_per(part, part.requests),
        usd_per_mtok=_per(part, part.tokens / _MTOK),
    )


def _per(part: Sums, units: float) -> WithAndWithout:
    if not units:
        return WithAndWithout(with_cache=None, without_cache=None)
    return WithAndWithout(with_cache=part.with_cache_usd / units, without_cache=part.without_cache_usd / units)


def _margin(total: Sums, revenue_per_request_usd: float) -> Margin:
    revenue = revenue_per_request_usd * total.requests
    return Margin(
        revenue_per_request_usd=revenue_per_request_usd,
        revenue_usd=revenue,
        gross_margin=WithAndWithout(
            with_cache=economics.margin(revenue, total.with_cache_usd),
            without_cache=economics.margin(revenue, total.without_cache_usd),
        ),
    )


def _traffic(part: Sums) -> Traffic:
    return Traffic(
        requests=part.requests,
        hits=part.hits[Layer.EXACT] + part.hits[Layer.SEMANTIC],
        input_tokens=part.input_tokens,
        output_tokens=part.output_tokens,
        saved_input_tokens=part.saved_input_tokens,
        saved_output_tokens=part.saved_output_tokens,
        cost_usd=part.cost_usd,
        saved_usd=part.saved_usd,
        checks_usd=part.checks_usd,
        net_saved_s=part.net_saved_s,
    )


def _forecast(month: Month) -> Forecast:
    traffic = month.traffic
    return Forecast(
        since=month.since,
        until=month.until,
        days=month.days,
        requests=traffic.requests,
        with_cache_usd=traffic.cost_usd + traffic.checks_usd,
        without_cache_usd=traffic.cost_usd + traffic.saved_usd,
        net_saved_usd=traffic.saved_usd - traffic.checks_usd,
        net_saved_s=traffic.net_saved_s,
        how=month.how,
    )


def _tier(told: AtTier) -> TierTold:
    tier = told.tier
    return TierTold(
        name=tier.name,
        input_usd_per_mtok=_span(tier.input_usd_per_mtok),
        output_usd_per_mtok=_span(tier.output_usd_per_mtok),
        latency_s=_span(tier.latency_s),
        without_cache_usd=_span(told.without_cache_usd),
        with_cache_usd=_span(told.with_cache_usd),
        saved_usd=_span(told.saved_usd),
        saved_s=_span(told.saved_s),
    )


def _span(span: economics.Span) -> Span:
    return Span(low=span.low, high=span.high)
