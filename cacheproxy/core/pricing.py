"""What an answer costs: the offline table of ``genai-prices``, with overrides for private models.

Nothing is fetched: the table is the one that the installed package carries, and its version goes with each amount.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import genai_prices
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id
from genai_prices.types import TieredPrices

from cacheproxy import jsontext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from decimal import Decimal

    from genai_prices.types import ModelPrice

    from cacheproxy.model import Usage

log = logging.getLogger(__name__)
_PER_MILLION: Final = 1e-6
_PER_THOUSAND: Final = 1e-3
_KEPT_S: Final = 60.0
"""How long a look-up is good for: some prices depend on the time of day."""
_MAX_KEPT: Final = 4096
"""Callers choose model names, so what is remembered about them is bounded."""
_BYTES_PER_TOKEN: Final = 4
_USUAL_PROVIDERS: Final = ("openai", "anthropic")


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """The price of a model that the table lacks, or that somebody pays another price for. Zero is a price.

    ``model`` is a name or a pattern (``*``, ``?``, ``[..]``), compared without regard to case; ``upstream``, when
    given, must be equal. Cached input costs what input does unless it says otherwise.
    """

    model: str
    usd_per_million_input: float
    usd_per_million_output: float
    usd_per_million_cached_input: float | None = None
    usd_per_million_cache_write: float | None = None
    upstream: str | None = None

    def applies(self, model: str, upstream: str) -> bool:
        """Whether this is the price of the upstream's model."""
        name, pattern = model.lower(), self.model.lower()
        return (self.upstream is None or self.upstream == upstream) and (name == pattern or fnmatchcase(name, pattern))


@dataclass(frozen=True, slots=True)
class _Rates:
    """USD per token, for requests with more than ``above`` input tokens."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    request: float = 0.0
    above: int = -1

    def usd(self, usage: Usage) -> float:
        plain = max(usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens, 0)
        return (
            plain * self.input
            + usage.cache_read_tokens * self.cache_read
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
            + self.request
        )


class GenaiPrices:
    """``Prices`` from the table that ``genai-prices`` ships. ``clock`` gives seconds since the epoch.

    The first override that applies wins. A model is looked for at the provider that the upstream is named after, then
    at any provider, then under its name without a ``provider/`` in front.
    """

    def __init__(self, *, clock: Callable[[], float], overrides: Sequence[PriceOverride] = ()) -> None:
        self.version = _version(overrides)
        self._clock = clock
        self._overrides = tuple(overrides)
        self._kept: dict[tuple[str, str], tuple[float, tuple[_Rates, ...]]] = {}
        self._unknown: set[tuple[str, str]] = set()
        """The models that the log was told of."""
        self._table = _fresh_table()

    def usd(self, *, model: str, upstream: str, usage: Usage) -> float | None:
        """See ``Prices``. A few microseconds once a model is known."""
        now = self._clock()
        good_until, rates = self._kept.get((model, upstream), (0.0, ()))
        if now >= good_until:
            rates = self._look_up(model, upstream, now)
        for step in rates:
            if usage.input_tokens > step.above:
                return step.usd(usage)
        return None

    def _look_up(self, model: str, upstream: str, now: float) -> tuple[_Rates, ...]:
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
            self._table = _fresh_table()
        override = next((price for price in self._overrides if price.applies(model, upstream)), None)
        if override is not None:
            rates: tuple[_Rates, ...] = (_overridden(override),)
        else:
            price = _find(self._table, model, upstream, datetime.fromtimestamp(now, UTC))
            rates = () if price is None else _steps(price)
        if not rates:
            self._tell(model, upstream)
        self._kept[model, upstream] = now + _KEPT_S, rates
        return rates

    def _tell(self, model: str, upstream: str) -> None:
        """Log a model without a price, once."""
        if (model, upstream) not in self._unknown and len(self._unknown) < _MAX_KEPT:
            self._unknown.add((model, upstream))
            log.warning(
                "no price is known for %.200r at upstream %s: what it costs and saves is not counted; set prices",
                model,
                upstream,
            )


def total_usd(amounts: Iterable[float | None]) -> float | None:
    """The sum, not known as soon as one of the amounts is not."""
    known: list[float] = []
    for amount in amounts:
        if amount is None:
            return None
        known.append(amount)
    return math.fsum(known)


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: a quarter of its UTF-8 bytes, rounded up.

    The rule of thumb that OpenAI gives for English is four characters a token. Counting bytes in place of characters
    stretches it to other scripts, which take more bytes a character and more tokens a character alike.
    """
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / _BYTES_PER_TOKEN)


def _version(overrides: Sequence[PriceOverride]) -> str:
    table = f"genai-prices {version('genai-prices')}"
    if not overrides:
        return table
    canonical = jsontext.canonical([astuple(override) for override in overrides])
    return f"{table}+{hashlib.sha256(canonical).hexdigest()[:8]}"


def _fresh_table() -> DataSnapshot:
    # Not the library's own snapshot: that remembers every name that it was ever asked for.
    return DataSnapshot(providers=providers, from_auto_update=False)


def _find(table: DataSnapshot, model: str, upstream: str, at: datetime) -> ModelPrice | None:
    for name, provider in _places(table, model, upstream):
        try:
            return table.calc(genai_prices.Usage(), name, provider, None, at).model_price
        except LookupError:
            continue
    return None


def _places(table: DataSnapshot, model: str, upstream: str) -> Iterator[tuple[str, str | None]]:
    """Names to look for, each with the provider to ask; None asks whichever provider knows such a name."""
    if find_provider_by_id(table.providers, upstream) is not None:
        yield model, upstream
    yield model, None
    prefix, slash, bare = model.partition("/")
    if slash:
        if find_provider_by_id(table.providers, prefix) is not None:
            yield bare, prefix
        yield model.rpartition("/")[2], None
    for provider in _USUAL_PROVIDERS:  # some of their models are found only by asking for them there
        yield model, provider


def _overridden(price: PriceOverride) -> _Rates:
    read, write = price.usd_per_million_cached_input, price.usd_per_million_cache_write
    return _Rates(
        input=price.usd_per_million_input * _PER_MILLION,
        output=price.usd_per_million_output * _PER_MILLION,
        cache_read=(price.usd_per_million_input if read is None else read) * _PER_MILLION,
        cache_write=(price.usd_per_million_input if write is None else write) * _PER_MILLION,
    )


def _steps(price: ModelPrice) -> tuple[_Rates, ...]:
    """The table's price as rates, the highest step first; none for a model that is not priced by tokens.

    As in the library, a request past a step pays the step's rates for all its tokens, and cached input without a rate
    of its own is input.
    """
    if price.input_mtok is None and price.output_mtok is None:
        return ()
    prices = (price.input_mtok, price.output_mtok, price.cache_read_mtok, price.cache_write_mtok)
    thresholds = {tier.start for tiered in prices if isinstance(tiered, TieredPrices) for tier in tiered.tiers}
    return tuple(_at_step(price, above) for above in sorted(thresholds | {-1}, reverse=True))


def _at_step(price: ModelPrice, above: int) -> _Rates:
    plain = _rate(price.input_mtok, above) or 0.0
    read, write = _rate(price.cache_read_mtok, above), _rate(price.cache_write_mtok, above)
    return _Rates(
        input=plain * _PER_MILLION,
        output=(_rate(price.output_mtok, above) or 0.0) * _PER_MILLION,
        cache_read=(plain if read is None else read) * _PER_MILLION,
        cache_write=(plain if write is None else write) * _PER_MILLION,
        request=(_rate(price.requests_kcount, above) or 0.0) * _PER_THOUSAND,
        above=above,
    )


def _rate(price: Decimal | TieredPrices | None, above: int) -> float | None:
    if isinstance(price, TieredPrices):
        reached = [tier.price for tier in price.tiers if tier.start <= above]
        return float(reached[-1] if reached else price.base)
    return None if price is None else float(price)
