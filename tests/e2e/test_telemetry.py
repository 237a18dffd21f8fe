"""Traces and metrics of a running proxy, as a collector gets them."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from support.answers import completion
from support.collector import attributes, collecting

CALLER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


async def answer(_request, recorded):
    return web.json_response(completion(f"Answer to {recorded.json['messages'][-1]['content']}"))


@pytest.fixture
def collector():
    with collecting() as collector:
        yield collector


def by_kind(spans):
    return {span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"): span for span in spans}


async def test_a_request_is_one_trace_from_its_caller_to_the_upstream(http, record, running_proxy, collector):
    upstream = record(answer)
    telemetry = {"traces": True, "metrics": True, "endpoint": collector.url}
    with running_proxy(upstream.v1, mode="exact", telemetry=telemetry) as served:
        miss = await http.ask("Hi", base=served.url, headers=CALLER)
        hit = await http.ask("Hi", base=served.url)
    assert (miss.cache, hit.cache) == (("Miss", "credential-unproven"), ("Hit", "exact"))

    first = [span for span in collector.spans if span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"]
    spans = by_kind(first)
    assert spans.keys() == {"SERVER", "CLIENT"}
    assert spans["SERVER"].parent_span_id.hex() == "b7ad6b7169203331"
    assert spans["CLIENT"].parent_span_id == spans["SERVER"].span_id
    assert spans["CLIENT"].name == "chat gpt-4o-mini"
    carried = upstream.requests[0].headers["traceparent"]
    assert carried == f"00-0af7651916cd43dd8448eb211c80319c-{spans['CLIENT'].span_id.hex()}-01"

    (other,) = [span for span in collector.spans if span not in first]
    told = attributes(other)
    assert (told["cacheproxy.status"], told["cacheproxy.layer"]) == ("Hit", "exact")
    assert told["cacheproxy.request_id"] == hit.headers["x-request-id"]

    assert {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"} <= collector.metrics.keys()
    (calls,) = collector.metrics["gen_ai.client.operation.duration"].histogram.data_points
    assert calls.count == 1


async def test_no_prompt_answer_or_credential_is_sent(http, record, running_proxy, collector):
    upstream = record(answer)
    telemetry = {"traces": True, "metrics": True, "endpoint": collector.url}
    with running_proxy(upstream.v1, mode="exact", telemetry=telemetry) as served:
        await http.ask("A most secret question", base=served.url)
    sent = str(collector.spans) + str(collector.metrics)
    assert "gpt-4o-mini" in sent
    assert not any(secret in sent for secret in ("secret question", "Answer to", http.key))


async def test_without_a_collector_requests_are_answered_as_ever(http, record, running_proxy):
    upstream = record(answer)
    telemetry = {"traces": True, "metrics": True, "endpoint": "http://127.0.0.1:9"}
    with running_proxy(upstream.v1, mode="exact", telemetry=telemetry) as served:
        told = [await http.ask("Hi", base=served.url) for _ in range(3)]
    assert [answered.status for answered in told] == [200, 200, 200]


async def test_the_log_has_a_requests_line_and_no_question(http, record, spawn):
    upstream = record(answer)
    environment = {
        "CACHEPROXY_UPSTREAM_URL": upstream.v1,
        "CACHEPROXY_MODE": "exact",
        "CACHEPROXY_LOG__REQUESTS": "true",
        "CACHEPROXY_LOG__FORMAT": "json",
    }
    process = spawn("serve", **environment)
    told = await http.ask("A most secret question", base=process.served().url, headers={"X-Request-Id": "caller-7"})
    assert process.terminate() == 0
    process.close()
    lines = [json.loads(line) for line in process.log if line.startswith("{")]
    (line,) = [line for line in lines if line["logger"] == "cacheproxy.requests"]
    assert line["request_id"] == told.headers["x-request-id"] == "caller-7"
    assert (line["status"], line["model"]) == ("Miss", "gpt-4o-mini-2024-07-18")
    assert "secret question" not in "".join(process.log)
    assert http.key not in "".join(process.log)
