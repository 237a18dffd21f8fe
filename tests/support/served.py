"""Finished requests, as observers are told of them: a miss that was paid for, and a hit that was not."""

from __future__ import annotations

from support.panel import NOW

from cacheproxy.events import Served
from cacheproxy.model import CacheStatus, Reason, Usage

MISS = Served(
    at=NOW,
    dialect="openai-chat",
    upstream="openai",
    tenant="alice",
    model="gpt-4o-mini",
    http_status=200,
    status=CacheStatus.MISS,
    duration_ms=900.0,
    upstream_ms=850.0,
    reason=Reason.NO_ENTRY,
    usage=Usage(100, 50),
    cost_usd=0.25,
)


def hit_of(miss, layer, **members):
    """The same request again, answered from a layer: what the miss paid is saved."""
    saved = {"saved_usage": miss.usage, "saved_usd": miss.cost_usd, "saved_ms": miss.upstream_ms}
    free = {"reason": None, "usage": Usage(), "cost_usd": 0.0, "upstream_ms": None, "duration_ms": 4.0}
    return miss._replace(status=CacheStatus.HIT, layer=layer, **{**free, **saved, **members})
