"""Spans by themselves; tests/flow/test_trace.py has them in the flow."""

import asyncio

import pytest
from multidict import CIMultiDict
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from cacheproxy.errors import BadRequest, ProxyError
from cacheproxy.ports import UpstreamRequest
from cacheproxy.telemetry.tracing import OtelTracer

ASKED = UpstreamRequest("POST", "https://llm.example/v1/chat/completions", [("TraceParent", "old"), ("X", "1")], b"{}")


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def begin(exporter):
    def begin(headers=(), **provider):
        spans = TracerProvider(shutdown_on_exit=False, **provider)
        spans.add_span_processor(SimpleSpanProcessor(exporter))
        return OtelTracer(spans.get_tracer("test")).begin("POST", "/v1/chat/completions", CIMultiDict(headers))

    return begin


def test_headers_are_found_in_any_case(begin):
    trace = begin({"TraceParent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    assert trace.id == "0af7651916cd43dd8448eb211c80319c"


def test_a_call_carries_one_context_and_all_else_as_it_was(begin):
    with begin().call("openai", ASKED) as call:
        pass
    names = [name.lower() for name, _ in call.request.headers]
    assert names == ["x", "traceparent"]
    assert call.request.body == ASKED.body


def test_a_call_says_where_it_goes(begin, exporter):
    with begin().call("openai", ASKED) as call:
        call.answered(200)
    (span,) = exporter.get_finished_spans()
    assert (span.attributes["server.address"], span.attributes["server.port"]) == ("llm.example", 443)
    assert span.attributes["http.response.status_code"] == 200


@pytest.mark.parametrize(
    ("error", "kind"),
    [(asyncio.CancelledError(), "cancelled"), (BadRequest("no"), "BadRequest")],
    ids=["left", "failed"],
)
def test_a_step_that_fails_says_how_and_does_not_hide_it(begin, exporter, error, kind):
    with pytest.raises(type(error)), begin().step("embed"):
        raise error
    assert exporter.get_finished_spans()[0].attributes["error.type"] == kind


def test_a_request_ends_once(begin, exporter):
    trace = begin()
    trace.passed(200)
    trace.failed(ProxyError("late"))
    trace.failed(None)
    (span,) = exporter.get_finished_spans()
    assert span.attributes["http.response.status_code"] == 200


def test_what_is_not_sampled_still_hands_its_context_on(begin, exporter):
    trace = begin(sampler=ALWAYS_OFF)
    with trace.call("openai", ASKED) as call:
        pass
    trace.passed(200)
    assert exporter.get_finished_spans() == ()
    flags = int(dict(call.request.headers)["traceparent"].rpartition("-")[2], 16)
    assert not flags & 1
