"""What a month of traffic comes to, and what it would at other models' prices. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MONTH_DAYS: Final = 30.0
LATEST_DAYS: Final = 7.0
"""A forecast rests on at most so many days: what was before tells less of what comes."""
LEAST_DAYS: Final = 1 / 24
_DAY_S: Final = 86_400.0
_DAY_H: Final = 24
_MTOK: Final = 1e6


class Span(NamedTuple):
    """From the lowest to the highest."""

    low: float
    high: float

    def times(self, factor: float) -> Span:
        """Both ends."""
        return Span(self.low * factor, self.high * factor)

    def plus(self, other: Span) -> Span:
        """End by end."""
        return Span(self.low + other.low, self.high + other.high)

    def and_always(self, amount: float) -> Span:
        """With something that is the same at both ends."""
        return Span(self.low + amount, self.high + amount)


@dataclass(frozen=True, slots=True)
class Tier:
    """A class of models: what they cost and how long they take for an answer."""

    name: str
    input_usd_per_mtok: Span
    output_usd_per_mtok: Span
    latency_s: Span


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happened in some time. Tokens of hits are those that they did not buy."""

    requests: float
    hits: float
    """Exact and semantic ones: the cache itself answered."""
    input_tokens: float
    output_tokens: float
    saved_input_tokens: float
    saved_output_tokens: float
    cost_usd: float
    saved_usd: float
    checks_usd: float
    net_saved_s: float

    def scaled(self, factor: float) -> Traffic:
        """As much of everything as in a time that is so many times as long."""
        return Traffic(*(getattr(self, name) * factor for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Month:
    """A forecast: 30 days like those that it rests on."""

    since: float
    until: float
    traffic: Traffic

    @property
    def days(self) -> float:
        """How many days it rests on."""
        return (self.until - self.since) / _DAY_S

    @property
    def how(self) -> str:
        """In words."""
        length = f"{self.days:.3g} days" if self.days >= 1 else f"{self.days * _DAY_H:.3g} h"
        return f"{length} up to now, times {MONTH_DAYS / self.days:.3g}"


@dataclass(frozen=True, slots=True)
class AtTier:
    """What a month's traffic would come to with models of a tier."""

    tier: Tier
    without_cache_usd: Span
    with_cache_usd: Span
    saved_usd: Span
    saved_s: Span


def latest(*, first: float, until: float) -> float:
    """Where the days begin that a forecast rests on. ``first`` is when the first request came."""
    return min(max(first, until - LATEST_DAYS * _DAY_S), until - LEAST_DAYS * _DAY_S)


def month(traffic: Traffic, *, since: float, until: float) -> Month:
    """The forecast that this traffic leads to."""
    days = (until - since) / _DAY_S
    return Month(since, until, traffic.scaled(MONTH_DAYS / days))


def at_tiers(traffic: Traffic, tiers: Sequence[Tier]) -> list[AtTier]:
    """The same traffic at each tier's prices. What checking costs stays as it is."""
    told = []
    for tier in tiers:
        bought = _cost(tier, traffic.input_tokens, traffic.output_tokens)
        saved = _cost(tier, traffic.saved_input_tokens, traffic.saved_output_tokens)
        with_cache = bought.and_always(traffic.checks_usd)
        without = bought.plus(saved)
        net = saved.and_always(-traffic.checks_usd)
        told.append(AtTier(tier, without, with_cache, net, tier.latency_s.times(traffic.hits)))
    return told


def margin(revenue: float, spent: float) -> float | None:
    """(revenue - spent) / revenue; None without revenue."""
    return (revenue - spent) / revenue if revenue else None


def _cost(tier: Tier, input_tokens: float, output_tokens: float) -> Span:
    read = tier.input_usd_per_mtok.times(input_tokens / _MTOK)
    return read.plus(tier.output_usd_per_mtok.times(output_tokens / _MTOK))
