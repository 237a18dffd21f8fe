"""The SDK opened and closed over a real collector, and over none."""

import pytest
from multidict import CIMultiDict
from support.collector import collecting

from cacheproxy.events import Served
from cacheproxy.model import CacheStatus
from cacheproxy.telemetry import otel
from cacheproxy.telemetry.otel import open_telemetry

SERVED = Served(
    at=1.0,
    dialect="openai-chat",
    upstream="openai",
    tenant="t",
    model="gpt-4o",
    http_status=200,
    status=CacheStatus.MISS,
    duration_ms=1.0,
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


async def one_request(endpoint, **wanted):
    wanted = {"traces": True, "metrics": True, **wanted}
    async with open_telemetry(endpoint=endpoint, version="1.2.3", **wanted) as (tracer, metrics):
        if tracer is not None:
            tracer.begin("POST", "/v1/chat/completions", CIMultiDict()).served(SERVED)
        if metrics is not None:
            metrics.served(SERVED)


async def test_closing_sends_what_waits():
    with collecting() as collector:
        await one_request(collector.url)
    assert [span.name for span in collector.spans] == ["POST"]
    assert "gen_ai.server.request.duration" in collector.metrics


async def test_the_service_has_its_name_and_version():
    with collecting() as collector:
        await one_request(collector.url)
    assert {(told["service.name"], told["service.version"]) for told in collector.resources} == {
        ("cacheproxy", "1.2.3")
    }


async def test_the_sdks_own_variables_hold(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge-cache")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        await one_request(None)
    assert {told["service.name"] for told in collector.resources} == {"edge-cache"}
    assert {headers["x-team"] for headers in collector.headers} == {"blue"}


async def test_a_sampler_from_the_environment_is_used(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with collecting() as collector:
        await one_request(collector.url)
    assert collector.spans == []


@pytest.mark.parametrize("wanted", ["traces", "metrics"])
async def test_each_can_be_sent_alone(wanted):
    with collecting() as collector:
        await one_request(collector.url, **{"traces": False, "metrics": False, wanted: True})
    assert (bool(collector.spans), bool(collector.metrics)) == (wanted == "traces", wanted == "metrics")


async def test_a_collector_that_fails_costs_what_was_to_be_sent_and_no_more(monkeypatch, caplog):
    monkeypatch.setattr(otel, "CLOSE_S", 0.5)
    with collecting(status=503) as collector:
        await one_request(collector.url)
    assert "what was not sent yet is lost" in caplog.text
