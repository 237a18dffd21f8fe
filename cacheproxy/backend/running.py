"""The local server as a process: listen, load, warm up, serve, drain."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.backend.batched import BatchOptions, open_batched
from cacheproxy.backend.loading import load
from cacheproxy.backend.prompts import Prompter
from cacheproxy.backend.server import Server, Serving
from cacheproxy.backend.speculative import Drafting, SpeculativeEngine, draft_arguments
from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cacheproxy.backend.engine import Engine
    from cacheproxy.backend.loading import Loaded, ModelOptions

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_CLOSE_S: Final = 0.1
"""For connections, once what was under way is over."""
LISTEN: Final = Address("127.0.0.1", 8100)


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Everything that can be set."""

    model: ModelOptions
    listen: Address = LISTEN
    name: str = ""
    """What requests call the model; the model's own name when empty."""
    batch: BatchOptions = field(default_factory=BatchOptions)
    drafting: Drafting = field(default_factory=Drafting)
    embedding_model: str = ""
    drain_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is warm."""

    address: Address
    name: str
    device: str
    dtype: str
    weight_bytes: int
    context: int

    @property
    def url(self) -> str:
        """The base URL, for clients and for the proxy's settings."""
        return f"http://{self.address}/v1"


@asynccontextmanager
async def open_backend(options: BackendOptions, *, now: Callable[[], float]) -> AsyncIterator[Running]:
    """Serve; yields when the model is warm. Leaving the block drains it. Raises ``ConfigError``."""
    async with AsyncExitStack() as stack:
        server = Server(now=now)
        address = await stack.enter_async_context(_listening(server.app(), options.listen))
        loaded = await asyncio.to_thread(load, options.model)
        engine = await open_engine(loaded, options)
        stack.push_async_callback(engine.aclose)
        prompter = Prompter(loaded, context=engine.context)
        stack.callback(prompter.aclose)
        embedder = None
        if options.embedding_model:
            from cacheproxy.embed.local import open_local  # noqa: PLC0415 - a second model, only if asked for

            embedder = await open_local(options.embedding_model, device=options.model.device)
            stack.push_async_callback(embedder.aclose)
        name = options.name or loaded.name
        server.metrics.watch(engine)
        server.metrics.weight_bytes.set(loaded.weight_bytes)
        server.serving = Serving(name, engine, prompter, embedder)
        stack.push_async_callback(server.drain, options.drain_s)
        yield Running(address, name, loaded.device, loaded.dtype, loaded.weight_bytes, engine.context)


async def open_engine(loaded: Loaded, options: BackendOptions) -> Engine:
    """A warm engine as the options want it. Raises ``ConfigError``."""
    drafting = options.drafting
    if not drafting.assistant and not drafting.prompt_lookup:
        return await open_batched(loaded, options.batch)
    more = await asyncio.to_thread(draft_arguments, loaded, drafting, options.model)
    return SpeculativeEngine(await open_batched(loaded, options.batch), loaded, more)


def run_backend(options: BackendOptions, *, now: Callable[[], float], on_ready: Callable[[Running], None]) -> None:
    """Serve until SIGINT or SIGTERM, then let what is under way end. Raises ``ConfigError``."""
    asyncio.run(_serve(options, now, on_ready))


async def _serve(options: BackendOptions, now: Callable[[], float], on_ready: Callable[[Running], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with open_backend(options, now=now) as running:
        on_ready(running)
        await stop.wait()


@asynccontextmanager
async def _listening(app: web.Application, address: Address) -> AsyncIterator[Address]:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_CLOSE_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"cannot listen on {address}: {reason}; choose another address") from error
        yield Address(address.host, runner.addresses[0][1])
    finally:
        await runner.cleanup()
