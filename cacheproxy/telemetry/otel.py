"""Opens and closes OpenTelemetry's SDK.

Exporting is its threads' work: a collector that is down or slow loses spans and metrics, and nothing else.

What the SDK reads from the environment itself holds: OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER,
OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME, OTEL_METRIC_EXPORT_INTERVAL, OTEL_BSP_* and so on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from cacheproxy.telemetry.metering import GenAiMetrics
from cacheproxy.telemetry.tracing import OtelTracer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CLOSE_S: Final = 3.0
"""For what was not sent yet, at the end."""
_SCOPE: Final = "cacheproxy"
SERVICE_INSTANCE: Final = "service.instance.id"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Open:
    """What has to be closed, and how to make it stop trying to send."""

    close: Callable[[], None]
    give_up: Callable[[], None]


@asynccontextmanager
async def open_telemetry(
    *, traces: bool, metrics: bool, endpoint: str | None, version: str
) -> AsyncIterator[tuple[OtelTracer | None, GenAiMetrics | None]]:
    """Send traces and metrics over OTLP/HTTP; ``endpoint`` is without ``/v1/...``, None leaves it to the SDK.

    Gives a tracer and an observer, each None where it is not wanted.
    """
    # Workers are processes of one service, whose metrics must not pass for each other's.
    resource = Resource.create({SERVICE_VERSION: version, SERVICE_INSTANCE: str(uuid4())})
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: _SCOPE}))
    tracer, meter, open_parts = None, None, list[_Open]()
    if traces:
        span_exporter = OTLPSpanExporter(endpoint and f"{endpoint}/v1/traces")
        spans = TracerProvider(resource=resource, shutdown_on_exit=False)
        spans.add_span_processor(BatchSpanProcessor(span_exporter))
        tracer = OtelTracer(spans.get_tracer(_SCOPE, version))
        open_parts.append(_Open(spans.shutdown, span_exporter.shutdown))
    if metrics:
        metric_exporter = OTLPMetricExporter(endpoint and f"{endpoint}/v1/metrics")
        measures = MeterProvider([PeriodicExportingMetricReader(metric_exporter)], resource, shutdown_on_exit=False)
        meter = GenAiMetrics(measures.get_meter(_SCOPE, version))
        open_parts.append(_Open(measures.shutdown, metric_exporter.shutdown))
    try:
        yield tracer, meter
    finally:
        await _close(open_parts)


async def _close(open_parts: list[_Open]) -> None:
    """Send what waits. That blocks, so each has a thread; one whose collector does not answer is given up."""
    loop = asyncio.get_running_loop()

    def run(close: Callable[[], None], done: asyncio.Future[None]) -> None:
        try:
            close()
        except Exception:
            log.exception("telemetry did not close well")
        with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
            loop.call_soon_threadsafe(_settle, done)

    closing = {loop.create_future(): part for part in open_parts}
    for done, part in closing.items():
        threading.Thread(target=run, args=(part.close, done), name="telemetry-close", daemon=True).start()
    if not closing:
        return
    _, late = await asyncio.wait(closing, timeout=CLOSE_S)
    if late:
        log.warning("the telemetry collector does not answer: what was not sent yet is lost")
        for done in late:
            closing[done].give_up()
        await asyncio.wait(late, timeout=CLOSE_S)


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
