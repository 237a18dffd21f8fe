"""What can be set about telling: the log, and what is sent to an OpenTelemetry collector."""

from typing import Annotated, Literal

from cacheproxy.setting_types import AnyCase, Frozen, Url


class LogSettings(Frozen):
    """The log, on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = "info"
    """The least serious messages that are shown."""
    format: Annotated[Literal["text", "json"], AnyCase] = "text"
    """For people or for programs."""
    requests: bool = False
    """One line for each finished request: its id, what the cache did and why, how long it took, what it cost."""
    prompts: bool = False
    """With the question in that line. Questions may be personal: whoever reads the log reads them."""


class TelemetrySettings(Frozen):
    """OpenTelemetry, which needs cacheproxy[otel], and exemplars. The SDK's own OTEL_* variables count too."""

    traces: bool = False
    """Send a trace of each request, continuing the caller's and continued by the upstream's."""
    metrics: bool = False
    """Send metrics by the GenAI conventions. Those of /metrics are there in any case."""
    endpoint: Url | None = None
    """OTLP over HTTP, without /v1/traces; unset, OTEL_EXPORTER_OTLP_ENDPOINT or http://localhost:4318."""
    exemplars: bool = False
    """Put a trace's id, or a request's, beside the durations in /metrics, for scrapers that ask for OpenMetrics."""
