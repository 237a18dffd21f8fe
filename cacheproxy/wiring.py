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
from cacheproxy.assembly import World
from cacheproxy.behind import Lasting, store_named
from cacheproxy.connecting import Connecting
from cacheproxy.embed.shared import open_shared
from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.flow.routing import DEFAULT, Routes
from cacheproxy.opening import now, open_embedder, open_verifier
from cacheproxy.server.admin import build_admin
from cacheproxy.server.api.health import Queued
from cacheproxy.server.api.recent import Recent
from cacheproxy.server.listen import CallersSlots, Slots, admin_listener, admin_socket, data_listener, operators_slots
from cacheproxy.server.metrics import Metrics
from cacheproxy.server.readiness import Readiness
from cacheproxy.store.dbfile import size_on_disk
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.http import HttpUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from cacheproxy.address import Address
    from cacheproxy.embed.local import LocalEmbedder
    from cacheproxy.embed.remote import RemoteEmbedder
    from cacheproxy.embed.shared import SharedEmbedder
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.ports import Observer
    from cacheproxy.settings import Settings
    from cacheproxy.tracing import Tracer

log = logging.getLogger(__name__)

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Python's own (700, 10, 10) cost a tenth of the requests per second on misses."""
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

    One that has a ``seat`` accepts nothing before it takes up ``slots``. Where the store is a Redis that cannot be
    reached, requests are forwarded past the cache until it can.
    """
    async with AsyncExitStack() as stack:
        telemetry = await stack.enter_async_context(_telemetry(settings))
        metrics = Metrics(exemplars=settings.telemetry.exemplars)
        connecting = await stack.enter_async_context(Connecting(settings))  # before the model, which takes its time
        embedder, no_model = await _embedder(settings, stack, metrics, seat)
        most_calls = settings.limits.upstream_calls
        upstream = await stack.enter_async_context(HttpUpstream(derive.deadlines(settings), most_calls=most_calls))
        local = await stack.enter_async_context(HttpUpstream(derive.local_deadlines(settings), most_calls=most_calls))
        lasting = Lasting(
            settings=settings,
            embedder=embedder,
            no_model=no_model,
            verifier=await stack.enter_async_context(open_verifier(settings, embedder)) if embedder else None,
            upstream=upstream,
            local=local,
            calls=partial(_calls, upstream, local),
            routes=Routes(derive.targets(settings)),
            metrics=metrics,
            recent=Recent(),
            tracer=telemetry.tracer,
            observers=telemetry.observers,
            tasks=await stack.enter_async_context(TaskSet("flow")),
            events=await stack.enter_async_context(TaskSet("events")),
            ready=Readiness(connecting.state),
            world=World(now, _clock, _dice()),
            started=now(),
        )
        plane = await stack.enter_async_context(connecting.standing(lasting))
        settle_memory()
        _watch(lasting)
        token = derive.plain(settings.admin_token) or None
        admin = build_admin(metrics=metrics, handlers=connecting.handlers(), token=token, hosts=settings.admin_hosts)
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
            upstream_url=lasting.routes.targets[DEFAULT].base_url,
            store=store_named(settings),
            model=f"{embedder.model} on {embedder.device}" if embedder else "",
            no_model=no_model,
            settings=settings,
            leave=lasting.ready.leave,
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


def _watch(lasting: Lasting) -> None:
    """Have the metrics ask what only this place knows."""
    metrics, settings, embedder = lasting.metrics, lasting.settings, lasting.embedder
    metrics.watch("workers", lambda: 1.0)
    metrics.watch("upstream_calls", lasting.calls)
    metrics.watch("upstream_calls_limit", lambda: settings.limits.upstream_calls)
    if settings.redis_url is None:
        metrics.watch("store_bytes", partial(size_on_disk, settings.database))
    if isinstance(embedder, Queued):  # a shared model's queue is in its own process
        metrics.watch("embedding_queue", lambda: embedder.waiting)


def _dice() -> random.Random:
    """Chance without a system call each time. It names answers and chooses samples; it guards nothing."""
    return random.Random(secrets.token_bytes(32))  # noqa: S311 - as said
