"""Metrics by the GenAI conventions."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from cacheproxy.core.few import MOST
from cacheproxy.events import Audited, CheckKind, Served
from cacheproxy.model import CacheStatus, Layer, Usage
from cacheproxy.telemetry.metering import GenAiMetrics

MISS = Served(
    at=1.0,
    dialect="openai-chat",
    upstream="openai",
    tenant="t",
    model="gpt-4o",
    http_status=200,
    status=CacheStatus.MISS,
    duration_ms=900.0,
    usage=Usage(10, 20),
    upstream_ms=800.0,
)
HIT = MISS._replace(status=CacheStatus.HIT, layer=Layer.EXACT, usage=Usage(), upstream_ms=None, duration_ms=1.0)


@pytest.fixture
def points():
    """The points of each metric after some events."""

    def points(*events):
        reader = InMemoryMetricReader()
        metrics = GenAiMetrics(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
        for event in events:
            (metrics.audited if isinstance(event, Audited) else metrics.served)(event)
        (resource,) = reader.get_metrics_data().resource_metrics
        found = [metric for scope in resource.scope_metrics for metric in scope.metrics]
        return {metric.name: list(metric.data.data_points) for metric in found}

    return points


def test_tokens_that_were_bought_are_counted_by_kind(points):
    found = points(MISS, HIT)["gen_ai.client.token.usage"]
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in found} == {"input": 10, "output": 20}


def test_an_upstreams_time_and_a_callers_are_told_apart(points):
    found = points(MISS, HIT)
    (call,) = found["gen_ai.client.operation.duration"]
    assert (call.sum, call.count) == (pytest.approx(0.8), 1)
    assert call.attributes["gen_ai.provider.name"] == "openai"
    layers = {point.attributes["cacheproxy.layer"]: point.sum for point in found["gen_ai.server.request.duration"]}
    assert layers == {"none": pytest.approx(0.9), "exact": pytest.approx(0.001)}


def test_an_error_is_named(points):
    (request,) = points(MISS._replace(http_status=502))["gen_ai.server.request.duration"]
    assert request.attributes["error.type"] == "502"


def test_what_a_check_takes_is_used_too(points):
    audit = Audited(at=1.0, model="gpt-4o", tenant="t", upstream="openai", kind=CheckKind.AUDIT, usage=Usage(1, 2))
    found = points(audit)["gen_ai.client.token.usage"]
    assert {point.attributes["cacheproxy.check"] for point in found} == {"audit"}


def test_models_that_callers_make_up_stay_few(points):
    found = points(*(MISS._replace(model=f"model-{number}") for number in range(2 * MOST)))
    assert len(found["gen_ai.client.operation.duration"]) == MOST + 1
