"""What stands behind the listeners: the flow over a store, with what keeps it up, and the pages that look at it.

It is put together at the start, or, where the store cannot be reached then, as soon as it can. Until then something
stands there that forwards every request past the cache, and says so.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cacheproxy import derive
from cacheproxy.assembly import assemble
from cacheproxy.config import in_force
from cacheproxy.core.pricing import GenaiPrices
from cacheproxy.core.prior import load_prior, shipped_prior
from cacheproxy.flow.calls import Calls, Counted
from cacheproxy.flow.request_log import RequestLog
from cacheproxy.flow.spending import Spending
from cacheproxy.index.flat import FlatIndex
from cacheproxy.judge.chain import JudgeChain, automatic
from cacheproxy.judge.equality import EqualityJudge
from cacheproxy.judge.llm import LlmJudge
from cacheproxy.model import Reason
from cacheproxy.opening import Kept, open_index, open_shared_flights
from cacheproxy.server.api.health import Facts
from cacheproxy.server.api.live import MOST_LISTENERS
from cacheproxy.server.api.plane import Parts, handlers
from cacheproxy.server.auth import Door
from cacheproxy.settings import JudgeName
from cacheproxy.store.away import AwaitedLedger, Away
from cacheproxy.store.redis_url import read_url
from cacheproxy.tasks import TaskSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AsyncExitStack

    from cacheproxy.assembly import Flow, World
    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.embed.local import LocalEmbedder
    from cacheproxy.embed.remote import RemoteEmbedder
    from cacheproxy.embed.shared import SharedEmbedder
    from cacheproxy.flow.proxy import Proxy
    from cacheproxy.flow.routing import Routes
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.ports import Embedder, Judge, Observer, Prices, SharedFlights, Upstream, VectorIndex, Verifier
    from cacheproxy.server.api.calls import Handler
    from cacheproxy.server.api.recent import Recent
    from cacheproxy.server.metrics import Metrics
    from cacheproxy.server.readiness import Readiness
    from cacheproxy.settings import Settings
    from cacheproxy.tracing import Tracer

SETTLE_S: Final = 2.0
"""At the end, for what was answered and is not stored yet."""
FINISH_S: Final = 5.0
"""Then, for all sums and verdicts together. Whoever ends the process waits for both (``workers.serving.MARGIN_S``)."""
_FENCE_BYTES: Final = 8
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Lasting:
    """What there is whatever becomes of the store."""

    settings: Settings
    embedder: LocalEmbedder | RemoteEmbedder | SharedEmbedder | None
    no_model: str
    """Why there is none; empty with one."""
    verifier: Verifier | None
    upstream: Upstream
    local: Upstream
    calls: Callable[[], int]
    """How many calls to the two are under way."""
    routes: Routes
    metrics: Metrics
    recent: Recent
    tracer: Tracer | None
    observers: Sequence[Observer]
    tasks: TaskSet
    """What requests leave behind them."""
    events: TaskSet
    """What listeners are told by."""
    ready: Readiness
    world: World
    started: float


@dataclass(frozen=True, slots=True)
class Behind:
    """What the listeners hand their requests to."""

    proxy: Proxy
    door: Door | None
    handlers: Mapping[str, Handler]
    """Of the admin API, by operation."""
    shelters: Sequence[Shelter]
    semantic: Mapping[str, object]
    """Whether similar questions are answered, and by which model or why not."""
    away: str = ""
    """Why the store has not been reached; empty where it has."""

    def state(self) -> Mapping[str, object]:
        """What ``/readyz`` tells of it."""
        ports = {shelter.port: shelter.state.name.lower() for shelter in self.shelters}
        if self.away:
            return {"status": "degraded", "store": "away", "why": self.away, "semantic": "off", "breakers": ports}
        return {**self.semantic, "breakers": ports}


async def stand_over(kept: Kept, lasting: Lasting, stack: AsyncExitStack) -> Behind:
    """Put everything together over a store; leaving the stack writes what is not written yet, and ends it.

    Raises ``ConfigError``, and ``PortUnavailable`` where the store goes meanwhile.
    """
    settings, embedder = lasting.settings, lasting.embedder
    if embedder is not None:
        await kept.store.claim_embedding(embedder.model, embedder.dimension)
    index = await open_index(settings, kept, embedder)
    shared_flights = await stack.enter_async_context(open_shared_flights(settings, kept))
    flow = _assembled(kept, lasting, index, shared_flights=shared_flights)
    await flow.pools.load()
    await flow.withdrawn.load(kept.labels)
    await flow.elsewhere.follow()
    rounds = await stack.enter_async_context(TaskSet("upkeep"))
    stack.push_async_callback(flow.upkeep.finish, FINISH_S)
    stack.push_async_callback(lasting.tasks.settle, SETTLE_S)
    await flow.upkeep.sweep()
    door = _door(kept, lasting)
    if door is not None:
        await door.load()
        if settings.virtual_keys:
            rounds.start(door.follow(), name="keys")
    flow.upkeep.start(rounds)
    return _behind(kept, lasting, flow, index, door=door)


def stand_without(ledger: AwaitedLedger, lasting: Lasting, *, why: str) -> Behind:
    """What forwards every request past the cache while the store cannot be reached. ``ledger`` sums what they cost."""
    nothing: Any = Away()
    given = derive.given_secret(lasting.settings)
    secret = given or secrets.token_bytes(_SECRET_BYTES)  # nobody keeps what is hashed with it
    kept = Kept(
        nothing, ledger, nothing, nothing, f"{store_named(lasting.settings)}, away", lambda: secret, nothing.keep
    )
    index = FlatIndex()
    flow = _assembled(kept, lasting, index, secret_lasts=given is not None, bypass=Reason.STORE_UNAVAILABLE)
    return _behind(kept, lasting, flow, index, door=_door(kept, lasting), away=why)


def _assembled(
    kept: Kept,
    lasting: Lasting,
    index: VectorIndex,
    *,
    shared_flights: SharedFlights | None = None,
    secret_lasts: bool = True,
    bypass: Reason | None = None,
) -> Flow:
    settings, embedder = lasting.settings, lasting.embedder
    prices = GenaiPrices(clock=lasting.world.now, overrides=derive.prices(settings))
    spending = Spending(settings.decision.judge_share)
    patient = embedder.patient if embedder else None
    return assemble(
        settings,
        store=kept.store,
        ledger=kept.ledger,
        labels=kept.labels,
        index=index,
        embedder=embedder,
        patient=patient,
        verifier=lasting.verifier,
        judge=_judge(
            settings,
            patient,
            upstream=lasting.upstream,
            calls=Calls(lasting.metrics),
            prices=prices,
            spending=spending,
        ),
        prices=prices,
        spending=spending,
        upstream=lasting.upstream,
        local=lasting.local,
        shared_flights=shared_flights,
        metrics=lasting.metrics,
        tracer=lasting.tracer,
        observers=[lasting.recent, *lasting.observers, *([RequestLog()] if settings.log.requests else [])],
        tasks=lasting.tasks,
        routes=lasting.routes,
        prior=_prior(settings, embedder) if embedder else None,
        secret=kept.secret(),
        secret_lasts=secret_lasts,
        world=lasting.world,
        bypass=bypass,
    )


def _behind(
    kept: Kept, lasting: Lasting, flow: Flow, index: VectorIndex, *, door: Door | None, away: str = ""
) -> Behind:
    embedder = lasting.embedder
    semantic = {"semantic": "on", "model": embedder.model} if embedder else {"semantic": "off", "why": lasting.no_model}
    return Behind(flow.proxy, door, _pages(kept, lasting, flow, index), flow.shelters, semantic, away)


def _pages(kept: Kept, lasting: Lasting, flow: Flow, index: VectorIndex) -> Mapping[str, Handler]:
    """The admin API's handlers, by operation."""
    settings, embedder = lasting.settings, lasting.embedder
    return handlers(
        Parts(
            facts=_facts(settings, kept.name, started=lasting.started),
            store=kept.store,
            ledger=kept.ledger,
            labels=kept.labels,
            index=index,
            embedder=embedder,
            patient=embedder.patient if embedder else None,
            no_model=lasting.no_model,
            upkeep=flow.upkeep,
            pools=flow.pools,
            withdrawn=flow.withdrawn,
            explanations=flow.explanations,
            feedback=flow.feedback,
            recall=flow.recall,
            policy=flow.policy,
            l1=flow.l1,
            churn=flow.churn,
            shelters=flow.shelters,
            recent=lasting.recent,
            revenue_usd=settings.economics.revenue_per_request_usd,
            tiers=derive.tiers(settings),
            samples=settings.cache.samples,
            ready=lasting.ready,
            calls=lasting.calls,
            tasks=lasting.events,
            now=lasting.world.now,
        )
    )


def store_named(settings: Settings) -> str:
    """The store that the settings name, for people."""
    return f"sqlite {settings.database}" if settings.redis_url is None else f"redis {read_url(settings.redis_url)}"


def _door(kept: Kept, lasting: Lasting) -> Door | None:
    """Who checks the keys that callers show; nobody where none are asked for."""
    settings = lasting.settings
    if not settings.asks_key:
        return None
    return Door(derive.proxy_keys(settings), kept.keys if settings.virtual_keys else None, now=lasting.world.now)


def _prior(settings: Settings, embedder: Embedder) -> Likelihood | None:
    """What is believed before verdicts: what `calibrate --train` left in the data directory, else what ships."""
    if settings.prior.is_file():
        return load_prior(
            settings.prior.read_text(encoding="utf-8"),
            embedding_model=embedder.model,
            verifier=settings.decision.verifier,
        )
    return shipped_prior(embedding_model=embedder.model)


def _judge(
    settings: Settings,
    embedder: Embedder | None,
    *,
    upstream: Upstream,
    calls: Calls,
    prices: Prices,
    spending: Spending,
) -> Judge:
    """Who compares cached answers with fresh ones."""
    model = derive.judge_model(settings)
    llm: Judge | None = None
    if model is not None:
        llm = LlmJudge(
            model,
            upstream=lambda trace: Counted(upstream, calls, name=model.upstream, model=model.name, trace=trace),
            prices=prices,
            budget=spending,
            fence=partial(secrets.token_hex, _FENCE_BYTES),
        )
    match settings.judge:
        case JudgeName.AUTO:
            return automatic(embedder, llm)
        case JudgeName.EQUALITY:
            return EqualityJudge()
        case JudgeName.SEMANTIC:
            return automatic(embedder, None)
        case JudgeName.LLM:
            return JudgeChain([EqualityJudge()] if llm is None else [EqualityJudge(), llm])


def _facts(settings: Settings, store: str, *, started: float) -> Facts:
    return Facts(
        started=started,
        mode=settings.mode.value,
        policy=settings.policy.value,
        store=store,
        max_entries=settings.cache.max_entries,
        max_bytes=settings.cache.max_bytes,
        max_calls=settings.limits.upstream_calls,
        max_embeddings=settings.batching.max_queue,
        max_listeners=MOST_LISTENERS,
        settings=in_force(settings),
    )
