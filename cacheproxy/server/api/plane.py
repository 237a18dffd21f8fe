"""The pages put together: which part of a running proxy each of them looks at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cacheproxy.errors import PortUnavailable
from cacheproxy.server.api.audits import AuditsPage
from cacheproxy.server.api.decision import DecisionPage
from cacheproxy.server.api.economics import EconomicsPage
from cacheproxy.server.api.entries import EntriesPage
from cacheproxy.server.api.health import HealthPage
from cacheproxy.server.api.live import LivePage
from cacheproxy.server.api.openapi import document
from cacheproxy.server.api.overview import OverviewPage
from cacheproxy.server.api.transfers import TransfersPage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cacheproxy.core.economics import Tier
    from cacheproxy.core.policy import Policy
    from cacheproxy.flow.churn import ScopeChurn
    from cacheproxy.flow.explain import Explanations
    from cacheproxy.flow.feedback import Feedback, Withdrawn
    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.pools import Pools
    from cacheproxy.flow.recall import Recall
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.flow.upkeep import Upkeep
    from cacheproxy.ports import Embedder, Labels, Ledger
    from cacheproxy.server.api.calls import Call, Handler
    from cacheproxy.server.api.health import Facts
    from cacheproxy.server.api.recent import Recent
    from cacheproxy.tasks import TaskSet
    from cacheproxy.transfer import RootKeeper


@dataclass(frozen=True, slots=True)
class Parts:
    """What the pages look at."""

    facts: Facts
    store: RootKeeper
    ledger: Ledger
    labels: Labels
    index: object
    embedder: Embedder | None
    patient: Embedder | None
    """The same, for what no request waits for."""
    no_model: str
    upkeep: Upkeep
    pools: Pools
    withdrawn: Withdrawn
    explanations: Explanations
    feedback: Feedback
    recall: Recall
    policy: Policy
    l1: L1
    churn: ScopeChurn
    shelters: Sequence[Shelter]
    recent: Recent
    revenue_usd: float | None
    tiers: Sequence[Tier]
    samples: int
    ready: Callable[[], tuple[bool, Mapping[str, object]]]
    calls: Callable[[], int]
    tasks: TaskSet
    now: Callable[[], float]


def handlers(parts: Parts) -> Mapping[str, Handler]:
    """A handler for each operation, by its name."""
    now, recent, pools = parts.now, parts.recent, parts.pools

    async def entries() -> int:
        try:
            return await parts.store.count()
        except PortUnavailable:
            return parts.upkeep.entries  # as they were last counted

    live = LivePage(recent, tasks=parts.tasks, now=now)
    pages = (
        OverviewPage(ledger=parts.ledger, recent=recent, pools=pools, entries=entries, now=now),
        EconomicsPage(ledger=parts.ledger, revenue_usd=parts.revenue_usd, tiers=parts.tiers, now=now),
        DecisionPage(pools=pools, explanations=parts.explanations, feedback=parts.feedback, policy=parts.policy),
        AuditsPage(recent=recent, pools=pools, started=parts.facts.started),
        EntriesPage(
            store=parts.store,
            labels=parts.labels,
            embedder=parts.patient,
            upkeep=parts.upkeep,
            withdrawn=parts.withdrawn,
            pools=pools,
            now=now,
        ),
        TransfersPage(store=parts.store, recall=parts.recall, upkeep=parts.upkeep, samples=parts.samples, now=now),
        live,
        HealthPage(
            parts.facts,
            ready=parts.ready,
            shelters=parts.shelters,
            embedder=parts.embedder,
            no_model=parts.no_model,
            index=parts.index,
            l1=parts.l1,
            entries=entries,
            calls=parts.calls,
            listeners=lambda: live.listeners,
            churn=lambda: parts.churn.share,
            now=now,
        ),
    )
    text = json.dumps(document()).encode()

    async def openapi(_: Call) -> bytes:
        return text

    found: dict[str, Handler] = {"openapi": openapi}
    for page in pages:
        found |= page.handlers()
    return found
