"""What it costs to be observed: exact hits through the flow, without sockets, told to nobody and to all.

    python benchmarks/telemetry.py [--rounds 7] [--requests 4000]

    off        metrics and ledger alone, as by default
    log        a line for each request, as JSON, to /dev/null
    exemplars  a request's id beside its duration
    metrics    OpenTelemetry's metrics by the GenAI conventions
    unsampled  OpenTelemetry's traces with a sampler that keeps none
    traces     all of them kept, and dropped by the exporter
    parts      not requests: what an untraced request does for a tracer that is not there, alone

Rounds are interleaved; medians of microseconds of CPU time per request are reported, of the thread that serves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

from multidict import CIMultiDict
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from cacheproxy import derive
from cacheproxy.assembly import World, assemble
from cacheproxy.core.pricing import GenaiPrices
from cacheproxy.flow.arrival import UNTRACED, Arrival, name_given
from cacheproxy.flow.request_log import LOGGER, RequestLog
from cacheproxy.flow.routing import Routes
from cacheproxy.flow.spending import Spending
from cacheproxy.index.flat import FlatIndex
from cacheproxy.judge.equality import EqualityJudge
from cacheproxy.logs import JsonLines
from cacheproxy.server.metrics import Metrics
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.store.sqlite_ledger import SqliteLedger
from cacheproxy.tasks import TaskSet
from cacheproxy.telemetry.metering import GenAiMetrics
from cacheproxy.telemetry.tracing import OtelTracer
from cacheproxy.upstream.scripted import Answer, ScriptedUpstream

PAUSE_S = 0.5
"""Time for the rounds of upkeep."""
PATH = "/v1/chat/completions"
BODY = json.dumps(
    {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is a cache? " * 50}]}
).encode()
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "It is one. " * 60}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 120, "total_tokens": 320},
}


class Request:
    """One request, as a door hands it in."""

    method, target, has_body, caller = "POST", PATH, True, None

    def __init__(self) -> None:
        self.headers = CIMultiDict({"Authorization": "Bearer sk-bench", "Content-Type": "application/json"})

    async def read(self, limit: int) -> bytes:
        """The body."""
        assert len(BODY) <= limit
        return BODY


class Nowhere(SpanExporter):
    """Drops every span."""

    def export(self, spans: Any) -> SpanExportResult:
        """Nothing is sent."""
        assert spans
        return SpanExportResult.SUCCESS


async def build(stack: AsyncExitStack, **told: Any) -> Any:
    """A proxy over a store of its own, with the answer in it."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    settings = Settings(upstream_url="https://llm.example/v1", data_dir=folder, mode="exact")
    store = await stack.enter_async_context(open_sqlite(settings.database, clock=time.time))
    upstream = ScriptedUpstream(lambda _: Answer(chunks=[json.dumps(ANSWER).encode()]))
    flow = assemble(
        settings,
        store=store,
        ledger=SqliteLedger(store.database),
        labels=SqliteLabels(store.database),
        index=FlatIndex(),
        embedder=None,
        verifier=None,
        shared_flights=None,
        judge=EqualityJudge(),
        prices=GenaiPrices(clock=time.time),
        spending=Spending(0.05),
        upstream=upstream,
        local=upstream,
        tasks=await stack.enter_async_context(TaskSet("bench")),
        routes=Routes(derive.targets(settings)),
        prior=None,
        secret=b"s" * 32,
        world=World(time.time, time.monotonic, Random(0)),
        **{"metrics": Metrics(), **told},
    )
    await flow.proxy.handle(Request())
    rounds = await stack.enter_async_context(TaskSet("upkeep"))
    flow.upkeep.start(rounds)  # memory is trusted only while somebody follows the store
    return flow.proxy


async def timed(proxy: Any, requests: int) -> float:
    """Microseconds per request."""
    asked = [Request() for _ in range(requests)]
    await asyncio.sleep(PAUSE_S)
    started = time.thread_time()
    replies = [await proxy.handle(request) for request in asked]
    seconds = time.thread_time() - started
    assert {dict(reply.headers)["X-Cache-Status"] for reply in replies} == {"Hit"}
    return seconds / requests * 1e6


def parts(times: int) -> float:
    """Microseconds that the tracer's place in a request takes while nobody is there."""
    headers = Request().headers
    started = time.thread_time()
    for _ in range(times):
        arrival = Arrival(name_given(headers) or "req_1", 0.0, UNTRACED)
        arrival.trace.about(dialect="openai-chat", upstream="openai", model="gpt-4o-mini", stream=False)
        with arrival.trace.step("embed"):
            pass
        arrival.trace.served(None)  # type: ignore[arg-type]  # the untraced one looks at nothing
    return (time.thread_time() - started) / times * 1e6


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=4000)
    options = parser.parse_args()
    async with AsyncExitStack() as stack:
        sink = logging.FileHandler("/dev/null")
        stack.callback(sink.close)
        sink.setFormatter(JsonLines())
        logger = logging.getLogger(LOGGER)
        logger.addHandler(sink)
        logger.propagate = False
        logger.setLevel(logging.INFO)
        tracers = {}
        for name, sampler in (("unsampled", ALWAYS_OFF), ("traces", ALWAYS_ON)):
            provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
            provider.add_span_processor(BatchSpanProcessor(Nowhere()))
            stack.callback(provider.shutdown)
            tracers[name] = OtelTracer(provider.get_tracer("bench"))
        meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("bench")
        arms = {
            "off": await build(stack),
            "log": await build(stack, observers=[RequestLog()]),
            "exemplars": await build(stack, metrics=Metrics(exemplars=True)),
            "metrics": await build(stack, observers=[GenAiMetrics(meter)]),
            "unsampled": await build(stack, tracer=tracers["unsampled"]),
            "traces": await build(stack, tracer=tracers["traces"]),
        }
        taken: dict[str, list[float]] = {name: [] for name in [*arms, "parts"]}
        for _ in range(options.rounds):
            for name, proxy in arms.items():
                taken[name].append(await timed(proxy, options.requests))
            taken["parts"].append(parts(options.requests * 10))
    for name, measured in taken.items():
        print(f"{name:<10} {statistics.median(measured):7.2f} us")


if __name__ == "__main__":
    asyncio.run(main())
