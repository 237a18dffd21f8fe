"""Puts the parts together. Here and in ``opening.py`` alone are adapters named.

Nothing is built at import. Adapters that are heavy are imported where they are needed, so that a command which does
not need them starts quickly.
"""

from __future__ import annotations

import gc
import logging
import random
import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cacheproxy import __version__, derive
from cacheproxy.assembly import World, assemble
from cacheproxy.config import in_force
from cacheproxy.core.pricing import GenaiPrices
from cacheproxy.core.prior import load_prior, shipped_prior
from cacheproxy.embed.shared import open_shared
from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.flow.calls import Calls, Counted
from cacheproxy.flow.request_log import RequestLog
from cacheproxy.flow.routing import DEFAULT, Routes
from cacheproxy.flow.spending import Spending
from cacheproxy.judge.chain import JudgeChain, automatic
from cacheproxy.judge.equality import EqualityJudge
from cacheproxy.judge.llm import LlmJudge
from cacheproxy.opening import now, open_embedder, open_index, open_kept, open_shared_flights, open_verifier
from cacheproxy.server.admin import build_admin
from cacheproxy.server.api.health import Facts, Queued
from cacheproxy.server.api.live import MOST_LISTENERS
from cacheproxy.server.api.plane import Parts, handlers
from cacheproxy.server.api.recent import Recent
from cacheproxy.server.auth import Door
from cacheproxy.server.data_plane import DataPlane
from cacheproxy.server.listen import CallersSlots, Slots, admin_listener, admin_socket, data_listener, operators_slots
from cacheproxy.server.metrics import Metrics
from cacheproxy.server.readiness import Readiness
from cacheproxy.settings import JudgeName
from cacheproxy.store.dbfile import size_on_disk
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.http import HttpUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from cacheproxy.address import Address
    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.embed.local import LocalEmbedder
    from cacheproxy.embed.remote import RemoteEmbedder
    from cacheproxy.embed.shared import SharedEmbedder
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.opening import Kept
    from cacheproxy.ports import Embedder, Judge, Keys, Observer, Prices, Upstream
    from cacheproxy.settings import Settings
    from cacheproxy.tracing import Tracer

log = logging.getLogger(__name__)

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Python's own (700, 10, 10) cost a tenth of the requests per second on misses."""
SETTLE_S: Final = 2.0
"""At the end, for what was answered and is not stored yet."""
_FENCE_BYTES: Final = 8
_clock: Final = time.monotonic


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that serves."""

    data: Address
    admin: Address
    upstream_url: str
    store: str
    model: str
    """The embedding model and its device; empty without one."""
    no_model: str
    """Why there is none; empty with one."""
    settings: Settings
    leave: Callable[[], None]
    """Tell load balancers that it is about to end."""
    render: Callable[[], bytes]
    """Its metrics."""
    slots: CallersSlots | None = None
    """Its share of the listening sockets, where they outlive it."""
    operators: Slots | None = None
    """Likewise, of the admin plane's."""


@dataclass(frozen=True, slots=True)
class SharedModel:
    """Where the embedding model is that workers share, and what it said of itself."""

    path: Path
    hello: JsonObject


@dataclass(frozen=True, slots=True)
class Seat:
    """What a proxy gets in place of listeners of its own: they outlive it."""

    listen: Address
    sockets: Sequence[int]
    """The listening sockets' descriptors."""
    admin: Address
    admin_sockets: Sequence[int] | Path
    """Those of the admin plane, or where that is for the supervisor alone."""
    model: SharedModel | None = None
    """The shared embedding model; without one it loads its own."""
    no_model: str = ""
    """Why there is no model at all."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is sent to a collector; by default nothing."""

    tracer: Tracer | None = None
    observers: Sequence[Observer] = ()


@asynccontextmanager
async def open_proxy(settings: Settings, seat: Seat | None = None) -> AsyncIterator[Running]:
    """Build everything and serve; leaving the block drains and closes it. Raises ``ConfigError``.

    One that has a ``seat`` accepts nothing before it takes up ``slots``.
    """
    async with AsyncExitStack() as stack:
        telemetry = await stack.enter_async_context(_telemetry(settings))
        metrics, recent = Metrics(exemplars=settings.telemetry.exemplars), Recent()
        kept = await stack.enter_async_context(open_kept(settings))  # before the model, which takes its time
        store, ledger, labels = kept.store, kept.ledger, kept.labels
        embedder, no_model = await _embedder(settings, stack, metrics, seat)
        if embedder is not None:
            await store.claim_embedding(embedder.model, embedder.dimension)
        index = await open_index(settings, kept, embedder)
        most_calls = settings.limits.upstream_calls
        upstream = await stack.enter_async_context(HttpUpstream(derive.deadlines(settings), most_calls=most_calls))
        local = await stack.enter_async_context(HttpUpstream(derive.local_deadlines(settings), most_calls=most_calls))
        tasks = await stack.enter_async_context(TaskSet("flow"))
        routes = Routes(derive.targets(settings))
        prices = GenaiPrices(clock=now, overrides=derive.prices(settings))
        spending = Spending(settings.decision.judge_share)
        flow = assemble(
            settings,
            store=store,
            ledger=ledger,
            labels=labels,
            index=index,
            embedder=embedder,
            patient=embedder.patient if embedder else None,
            verifier=await stack.enter_async_context(open_verifier(settings, embedder)) if embedder else None,
            judge=_judge(
                settings,
                embedder.patient if embedder else None,
                upstream=upstream,
                calls=Calls(metrics),
                prices=prices,
                spending=spending,
            ),
            prices=prices,
            spending=spending,
            upstream=upstream,
            local=local,
            shared_flights=await stack.enter_async_context(open_shared_flights(settings, kept)),
            metrics=metrics,
            tracer=telemetry.tracer,
            observers=[recent, *telemetry.observers, *([RequestLog()] if settings.log.requests else [])],
            tasks=tasks,
            routes=routes,
            prior=_prior(settings, embedder) if embedder else None,
            secret=kept.secret(),
            world=World(now, _clock, _dice()),
        )
        await flow.pools.load()
        await flow.withdrawn.load(labels)
        await flow.elsewhere.follow()
        rounds = await stack.enter_async_context(TaskSet("upkeep"))
        stack.push_async_callback(flow.upkeep.flush)
        stack.push_async_callback(tasks.settle, SETTLE_S)
        await flow.upkeep.sweep()
        settle_memory()
        flow.upkeep.start(rounds)
        calls = partial(_calls, upstream, local)
        _watch(metrics, settings, kept, embedder, calls)
        readiness = Readiness(partial(_state, embedder, no_model, flow.shelters))
        door = await _door(settings, kept.keys, rounds)
        plane = DataPlane(flow.proxy, readiness, now=now, body_s=settings.deadlines.body_s, door=door)
        events = await stack.enter_async_context(TaskSet("events"))
        parts = Parts(
            facts=_facts(settings, kept.name),
            store=store,
            ledger=ledger,
            labels=labels,
            index=index,
            embedder=embedder,
            patient=embedder.patient if embedder else None,
            no_model=no_model,
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
            recent=recent,
            revenue_usd=settings.economics.revenue_per_request_usd,
            tiers=derive.tiers(settings),
            samples=settings.cache.samples,
            ready=readiness,
            calls=calls,
            tasks=events,
            now=now,
        )
        token = derive.plain(settings.admin_token) or None
        admin = build_admin(metrics=metrics, handlers=handlers(parts), token=token, hosts=settings.admin_hosts)
        drain_s, slots, operators = settings.deadlines.drain_s, None, None
        if seat is None:
            admin_address = await stack.enter_async_context(admin_listener(admin, settings.admin_listen))
            data_address = await stack.enter_async_context(data_listener(plane, settings.listen, drain_s=drain_s))
        else:
            admin_address, data_address = seat.admin, seat.listen
            if isinstance(seat.admin_sockets, Path):
                await stack.enter_async_context(admin_socket(admin, seat.admin_sockets))
            else:
                operators = await stack.enter_async_context(operators_slots(admin, seat.admin_sockets))
            slots = await stack.enter_async_context(CallersSlots(plane, seat.sockets, drain_s=drain_s))
        yield Running(
            data=data_address,
            admin=admin_address,
            upstream_url=routes.targets[DEFAULT].base_url,
            store=kept.name,
            model=f"{embedder.model} on {embedder.device}" if embedder else "",
            no_model=no_model,
            settings=settings,
            leave=readiness.leave,
            render=metrics.render,
            slots=slots,
            operators=operators,
        )


def settle_memory() -> None:
    """What is here now stays: the garbage collector need not walk it again and again while requests are served.

    What comes is mostly kept for long (entries) or gone at once, so it looks more seldom, too.
    """
    gc.unfreeze()  # a proxy that was here before this one, and is not any more
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


@asynccontextmanager
async def _telemetry(settings: Settings) -> AsyncIterator[Telemetry]:
    """What is sent to a collector. Raises ``ConfigError`` where it should be and the extra is not installed."""
    wanted = settings.telemetry
    if not (wanted.traces or wanted.metrics):
        yield Telemetry()
        return
    try:
        from cacheproxy.telemetry.otel import open_telemetry  # noqa: PLC0415 - an extra that most do not have
    except ImportError as error:
        raise ConfigError(
            f"telemetry needs packages that are not installed ({error.name}): pip install 'cacheproxy[otel]'"
        ) from error
    async with open_telemetry(
        traces=wanted.traces, metrics=wanted.metrics, endpoint=wanted.endpoint, version=__version__
    ) as (tracer, metrics):
        yield Telemetry(tracer, [] if metrics is None else [metrics])


async def _embedder(
    settings: Settings, stack: AsyncExitStack, metrics: Metrics, seat: Seat | None
) -> tuple[LocalEmbedder | RemoteEmbedder | SharedEmbedder | None, str]:
    """The model, or why there is none: then the exact layer serves alone."""
    if not derive.needs_model(settings):
        return None, f"mode {settings.mode} needs none"
    if seat is not None and seat.no_model:
        return None, seat.no_model
    try:
        if seat is not None and seat.model is not None:
            shared = await open_shared(seat.model.path, hello=seat.model.hello, max_waiting=settings.batching.max_queue)
            return await stack.enter_async_context(shared), ""
        return await stack.enter_async_context(open_embedder(settings, metrics.batched)), ""
    except PortUnavailable as error:
        log.warning("no embedding model, so only identical requests are answered from the cache: %s", error)
        return None, error.message


def _calls(*upstreams: HttpUpstream) -> int:
    return sum(upstream.calls for upstream in upstreams)


def _watch(
    metrics: Metrics, settings: Settings, kept: Kept, embedder: Embedder | None, calls: Callable[[], int]
) -> None:
    """Have the metrics ask what only this place knows."""
    metrics.watch("workers", lambda: 1.0)
    metrics.watch("upstream_calls", calls)
    metrics.watch("upstream_calls_limit", lambda: settings.limits.upstream_calls)
    if kept.redis is None:
        metrics.watch("store_bytes", partial(size_on_disk, settings.database))
    if isinstance(embedder, Queued):  # a shared model's queue is in its own process
        metrics.watch("embedding_queue", lambda: embedder.waiting)


async def _door(settings: Settings, keys: Keys, rounds: TaskSet) -> Door | None:
    """Who checks the keys that callers show; nobody where none are asked for."""
    if not settings.asks_key:
        return None
    door = Door(derive.proxy_keys(settings), keys if settings.virtual_keys else None, now=now)
    await door.load()
    if settings.virtual_keys:
        rounds.start(door.follow(), name="keys")
    return door


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
            upstream=Counted(upstream, calls, name=model.upstream),
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


def _facts(settings: Settings, store: str) -> Facts:
    return Facts(
        started=now(),
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


def _state(embedder: Embedder | None, no_model: str, shelters: Sequence[Shelter]) -> Mapping[str, object]:
    semantic = {"semantic": "on", "model": embedder.model} if embedder else {"semantic": "off", "why": no_model}
    ports = {shelter.port: shelter.state.name.lower() for shelter in shelters}
    return {**semantic, "breakers": ports}


def _dice() -> random.Random:
    """Chance without a system call each time. It names answers and chooses samples; it guards nothing."""
    return random.Random(secrets.token_bytes(32))  # noqa: S311 - as said
