"""Metrics by the GenAI conventions, from the events that every observer gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cacheproxy.core.few import Few
from cacheproxy.model import NO_USAGE
from cacheproxy.telemetry import conventions as names

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from cacheproxy.events import Audited, Served

_BAD_REQUEST = 400


class GenAiMetrics:
    """An observer: what upstreams were asked, as their client; and what callers were answered, as their server."""

    def __init__(self, meter: Meter) -> None:
        self._tokens = meter.create_histogram(
            names.TOKENS_USED,
            unit="{token}",
            description="Number of input and output tokens used",
            explicit_bucket_boundaries_advisory=names.TOKEN_BUCKETS,
        )
        self._calls = meter.create_histogram(
            names.CALL_DURATION,
            unit="s",
            description="How long upstreams took for whole answers",
            explicit_bucket_boundaries_advisory=names.SECOND_BUCKETS,
        )
        self._requests = meter.create_histogram(
            names.REQUEST_DURATION,
            unit="s",
            description="How long callers waited for whole answers, from the cache or not",
            explicit_bucket_boundaries_advisory=names.SECOND_BUCKETS,
        )
        self._models = Few()

    def served(self, event: Served) -> None:
        """Take note of a finished request."""
        asked: names.Attributes = {
            names.OPERATION: names.operation(event.dialect),
            names.PROVIDER: names.provider(event.upstream, event.dialect),
            names.RESPONSE_MODEL: self._models(event.model),
        }
        if event.http_status >= _BAD_REQUEST:
            asked[names.ERROR] = str(event.http_status)
        layer = event.layer.value if event.layer else "none"
        own = {"cacheproxy.status": event.status.value, "cacheproxy.layer": layer}
        self._requests.record(event.duration_ms / 1000, {**asked, **own})
        if event.upstream_ms is not None:
            self._calls.record(event.upstream_ms / 1000, asked)
        if event.usage is not NO_USAGE:
            self._tokens.record(event.usage.input_tokens, {**asked, names.TOKEN_TYPE: "input"})
            self._tokens.record(event.usage.output_tokens, {**asked, names.TOKEN_TYPE: "output"})

    def audited(self, event: Audited) -> None:
        """Tokens that a check took are used, too."""
        if event.usage is not NO_USAGE:
            asked: names.Attributes = {
                names.OPERATION: "chat",
                names.PROVIDER: names.provider(event.upstream, ""),
                names.RESPONSE_MODEL: self._models(event.model),
                "cacheproxy.check": event.kind.value,
            }
            self._tokens.record(event.usage.input_tokens, {**asked, names.TOKEN_TYPE: "input"})
            self._tokens.record(event.usage.output_tokens, {**asked, names.TOKEN_TYPE: "output"})
