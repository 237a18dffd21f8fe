"""The overview page: what happened hour by hour or day by day, and what it came to. Also the ledger's plain sums."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.server.api import sums
from cacheproxy.server.api.decision import told_pool
from cacheproxy.server.api.figure_shapes import (
    Latency,
    Overview,
    OverviewAsked,
    Point,
    Stats,
    StatsAsked,
    StatsRow,
    Step,
    Totals,
)
from cacheproxy.server.api.sums import Sums
from cacheproxy.server.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from cacheproxy.events import Tally
    from cacheproxy.flow.pools import LivePool
    from cacheproxy.ports import Ledger
    from cacheproxy.server.api.calls import Call, Handler
    from cacheproxy.server.api.recent import Recent

STEP_S: Final[Mapping[Step, int]] = {"hour": 3600, "day": 86_400}
HOURS_UP_TO_S: Final = 8 * 86_400
"""Longer times are told by day, unless asked otherwise."""
MOST_POINTS: Final = 4_000
_PATTERNS: Final[Mapping[Step, str]] = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d"}
"""How the ledger names hours and days."""


class OverviewPage:
    """``entries`` tells how many there are; ``now`` tells the time."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        recent: Recent,
        pools: Iterable[LivePool],
        entries: Callable[[], Awaitable[int]],
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._recent = recent
        self._pools = pools
        self._entries = entries
        self._now = now

    def handlers(self) -> Mapping[str, Handler]:
        """By operation."""
        return {"overview": self.overview, "stats": self.stats}

    async def stats(self, call: Call) -> Stats:
        """Sums, grouped as asked."""
        asked: StatsAsked = call.query
        by = [name for name in asked.by.split(",") if name]
        await self._ledger.flush()
        tallies = await self._ledger.tallies(by, since=asked.since, until=asked.until)
        rows = [StatsRow(**asdict(tally), net_saved_usd=tally.net_saved_usd) for tally in tallies]
        return Stats(by=by, rows=rows)

    async def overview(self, call: Call) -> Overview:
        """The whole page."""
        asked: OverviewAsked = call.query
        now = self._now()
        until = min(now, asked.until) if asked.until is not None else now
        step, tallies = await self._tallies(asked, until)
        since, points, total = series(tallies, step=step, since=asked.since, until=until)
        hits_ms, misses_ms = self._recent.durations_ms()
        return Overview(
            since=since,
            until=until,
            step=step,
            points=points,
            totals=told_totals(total),
            hit_latency=_latency(total.hit_ms, sum(total.hits.values()), hits_ms),
            miss_latency=_latency(total.miss_ms, total.misses, misses_ms),
            pools=[told_pool(pool) for pool in self._pools],
            entries=await self._entries(),
        )

    async def _tallies(self, asked: OverviewAsked, until: float) -> tuple[Step, Sequence[Tally]]:
        await self._ledger.flush()
        since = asked.since
        step = asked.step
        if step is None and since is not None:
            step = "hour" if until - since <= HOURS_UP_TO_S else "day"
        tallies = await self._read(step or "day", since or 0.0, until)
        if step is None:
            step = "day"
            if tallies and until - _second(tallies[0].group["day"], "day") <= HOURS_UP_TO_S:
                step = "hour"
                tallies = await self._read(step, _second(tallies[0].group["day"], "day"), until)
        return step, tallies

    async def _read(self, step: Step, since: float, until: float) -> Sequence[Tally]:
        # One second more: the moment that it is belongs to the time that is told.
        return await self._ledger.tallies([step, *sums.BY], since=since, until=until + 1)


def series(tallies: Sequence[Tally], *, step: Step, since: float | None, until: float) -> tuple[int, list[Point], Sums]:
    """Where the series begins, its points without gaps, and their sum. Raises ``Refused`` for one without end."""
    length = STEP_S[step]
    by_start: dict[int, Sums] = {}
    total = Sums()
    for tally in tallies:
        start = _second(tally.group[step], step)
        by_start.setdefault(start, Sums()).add(tally)
        total.add(tally)
    last = math.floor(until / length) * length
    first = min(by_start, default=last)
    if since is not None and since // length * length >= last - MOST_POINTS * length:
        first = min(first, math.floor(since / length) * length)
    if (last - first) // length > MOST_POINTS:
        raise Refused(400, f"step: that is over {MOST_POINTS} points; ask for step=day, or a later since")
    points = [Point(at=start, **by_start.get(start, Sums()).told()) for start in range(first, last + 1, length)]
    return first, points, total


def told_totals(total: Sums) -> Totals:
    """Sums as the API tells them."""
    return Totals(
        **total.told(),
        audit_usd=total.audit_usd,
        judge_usd=total.judge_usd,
        estimated=total.estimated,
        unpriced=total.unpriced,
    )


@lru_cache(maxsize=16_384)
def _second(name: str, step: Step) -> int:
    return int(datetime.strptime(name, _PATTERNS[step]).replace(tzinfo=UTC).timestamp())


def _latency(total_ms: float, count: int, latest_ms: Sequence[float]) -> Latency:
    percentiles: list[float] = np.percentile(latest_ms, (50, 95, 99)).tolist() if latest_ms else []
    p50, p95, p99 = percentiles or (None, None, None)
    return Latency(
        mean_ms=total_ms / count if count else None, p50_ms=p50, p95_ms=p95, p99_ms=p99, latest=len(latest_ms)
    )
