"""Sums of the ledger's tallies, as the overview and economics tell them. Pure.

Tallies are grouped by ``status`` and ``layer``, whatever else they are grouped by.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.model import CacheStatus, Layer
from cacheproxy.server.api.figure_shapes import HitRates, Hits

if TYPE_CHECKING:
    from cacheproxy.events import Tally

BY: Final = ("status", "layer")
_OWN_TIME: Final = (Layer.EXACT, Layer.SEMANTIC)
"""Layers whose hits take the cache's time. Who shares an answer waits for an upstream."""


@dataclass(slots=True)
class Sums:
    """Adds tallies up."""

    requests: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    bypassed: int = 0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    audit_usd: float = 0.0
    judge_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_ms: float = 0.0
    cache_ms: float = 0.0
    hit_ms: float = 0.0
    misses: int = 0
    miss_ms: float = 0.0
    estimated: int = 0
    unpriced: int = 0

    def add(self, tally: Tally) -> None:
        """One more group."""
        layer, status = tally.group["layer"], tally.group["status"]
        self.requests += tally.requests
        if layer:
            self.hits[layer] += tally.requests
            self.hit_ms += tally.duration_ms
        elif status == CacheStatus.BYPASS:
            self.bypassed += tally.requests
        elif status:
            self.misses += tally.requests
            self.miss_ms += tally.duration_ms
        if layer in _OWN_TIME:
            self.cache_ms += tally.duration_ms
        elif not layer:
            self.cache_ms += tally.duration_ms - tally.upstream_ms
        self.cost_usd += tally.cost_usd
        self.saved_usd += tally.saved_usd
        self.audit_usd += tally.audit_usd
        self.judge_usd += tally.judge_usd
        self.input_tokens += tally.input_tokens
        self.output_tokens += tally.output_tokens
        self.saved_input_tokens += tally.saved_input_tokens
        self.saved_output_tokens += tally.saved_output_tokens
        self.saved_ms += tally.saved_ms
        self.estimated += tally.estimated
        self.unpriced += tally.unpriced

    def absorb(self, other: Sums) -> None:
        """Everything that another one summed up."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def checks_usd(self) -> float:
        """Paid for audits and judges."""
        return self.audit_usd + self.judge_usd

    @property
    def with_cache_usd(self) -> float:
        """Everything that was spent."""
        return self.cost_usd + self.checks_usd

    @property
    def without_cache_usd(self) -> float:
        """What the same requests would have cost."""
        return self.cost_usd + self.saved_usd

    @property
    def tokens(self) -> int:
        """All tokens of all answers, bought or not."""
        return self.input_tokens + self.output_tokens + self.saved_input_tokens + self.saved_output_tokens

    @property
    def net_saved_s(self) -> float:
        """What hits spared callers, less the cache's own time."""
        return (self.saved_ms - self.cache_ms) / 1000

    @property
    def hit_rate(self) -> float:
        """Hits of all layers per request; 0 without requests."""
        return sum(self.hits.values()) / (self.requests or 1)

    def told(self) -> dict[str, Any]:
        """The members of ``Figures``, which checks them."""
        rates = {layer.value: self.hits[layer] / (self.requests or 1) for layer in Layer}
        counts = {layer.value: self.hits[layer] for layer in Layer}
        return {
            "requests": self.requests,
            "hits": Hits(**counts),
            "bypassed": self.bypassed,
            "hit_rates": HitRates(**rates, all=self.hit_rate),
            "cost_usd": self.cost_usd,
            "saved_usd": self.saved_usd,
            "checks_usd": self.checks_usd,
            "net_saved_usd": self.saved_usd - self.checks_usd,
            "with_cache_usd": self.with_cache_usd,
            "without_cache_usd": self.without_cache_usd,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "saved_input_tokens": self.saved_input_tokens,
            "saved_output_tokens": self.saved_output_tokens,
            "saved_s": self.saved_ms / 1000,
            "cache_s": self.cache_ms / 1000,
            "net_saved_s": self.net_saved_s,
        }
