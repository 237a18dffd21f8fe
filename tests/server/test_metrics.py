"""Metrics: each finished request counted once under bounded labels, each port watched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cacheproxy import __version__
from cacheproxy.core.few import MOST
from cacheproxy.events import Audited, CallResult, CheckKind, Served
from cacheproxy.model import CacheStatus, CheckVerdict, Layer, Reason, Usage
from cacheproxy.server.metrics import Metrics

MISS = Served(
    at=1_800_000_000.0,
    dialect="openai-chat",
    upstream="default",
    tenant="t",
    model="gpt-4o",
    http_status=200,
    status=CacheStatus.MISS,
    duration_ms=800.0,
    reason=Reason.BELOW_THRESHOLD,
    similarity=0.91,
    usage=Usage(100, 50),
    cost_usd=0.25,
    upstream_ms=790.0,
    price_version="1",
)


def served(**changes):
    return Served(**{name: changes.get(name, getattr(MISS, name)) for name in Served._fields})


HIT = served(
    status=CacheStatus.HIT,
    layer=Layer.SEMANTIC,
    reason=None,
    similarity=0.97,
    usage=Usage(),
    cost_usd=0.0,
    saved_usage=Usage(100, 50),
    saved_usd=0.25,
    saved_ms=800.0,
    upstream_ms=None,
    duration_ms=4.0,
    entry_id="e",
)


def samples(metrics):
    """Name and labels of each sample, as it is written, and its value."""
    lines = metrics.render().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def after(*events):
    metrics = Metrics()
    for event in events:
        metrics.served(event)
    return samples(metrics)


EXPECTED = {
    "a miss": (
        MISS,
        {
            'cacheproxy_requests_total{dialect="openai-chat",layer="none",status="Miss"}': 1,
            'cacheproxy_request_seconds_count{layer="none"}': 1,
            'cacheproxy_request_seconds_sum{layer="none"}': 0.8,
            'cacheproxy_upstream_seconds_sum{upstream="default"}': 0.79,
            'cacheproxy_miss_reasons_total{reason="below-threshold"}': 1,
            "cacheproxy_similarity_count": 1,
            "cacheproxy_coalesced_total": 0,
        },
    ),
    "a semantic hit": (
        HIT,
        {
            'cacheproxy_requests_total{dialect="openai-chat",layer="semantic",status="Hit"}': 1,
            'cacheproxy_saved_usd_total{layer="semantic",model="gpt-4o"}': 0.25,
            'cacheproxy_saved_tokens_total{kind="input",model="gpt-4o"}': 100,
            'cacheproxy_saved_tokens_total{kind="output",model="gpt-4o"}': 50,
            'cacheproxy_request_seconds_sum{layer="semantic"}': 0.004,
        },
    ),
    "a coalesced hit": (
        served(status=CacheStatus.HIT, layer=Layer.COALESCED, reason=None, similarity=None, upstream_ms=None),
        {
            "cacheproxy_coalesced_total": 1,
            'cacheproxy_requests_total{dialect="openai-chat",layer="coalesced",status="Hit"}': 1,
            "cacheproxy_similarity_count": 0,
        },
    ),
}


@pytest.mark.parametrize(("event", "expected"), EXPECTED.values(), ids=EXPECTED)
def test_a_request_is_counted_once_where_it_belongs(event, expected):
    found = after(event)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_what_was_spent_is_told_by_model():
    spent = {name: value for name, value in after(MISS, MISS).items() if name.startswith("cacheproxy_cost_usd_total{")}
    assert list(spent.values()) == [0.5]
    assert 'model="gpt-4o"' in next(iter(spent))


def test_checks_are_counted_by_verdict_and_paid_by_kind():
    asked = Audited(at=0.0, model="gpt-4o", tenant="t", upstream="u", kind=CheckKind.AUDIT, cost_usd=0.25)
    judge = replace(asked, model="judge", kind=CheckKind.JUDGE, cost_usd=0.125, verdict=CheckVerdict.WRONG)
    free = replace(judge, cost_usd=0.0, verdict=CheckVerdict.RIGHT)
    metrics = Metrics()
    for event in (asked, judge, free, free):
        metrics.audited(event)
    found = samples(metrics)
    assert found['cacheproxy_cost_usd_total{kind="audit",model="gpt-4o"}'] == 0.25
    assert found['cacheproxy_cost_usd_total{kind="judge",model="judge"}'] == 0.125
    assert found['cacheproxy_audits_total{verdict="wrong"}'] == 1
    assert found['cacheproxy_audits_total{verdict="right"}'] == 2


def test_checks_and_answers_add_up_to_the_cost_of_a_model():
    metrics = Metrics()
    metrics.served(MISS)
    metrics.audited(Audited(at=0.0, model="gpt-4o", tenant="t", upstream="u", kind=CheckKind.AUDIT, cost_usd=0.5))
    metrics.served(MISS)
    found = samples(metrics)
    assert found['cacheproxy_cost_usd_total{kind="audit",model="gpt-4o"}'] == 0.5
    assert found['cacheproxy_cost_usd_total{kind="upstream",model="gpt-4o"}'] == 0.5


def test_sums_add_up():
    found = after(MISS, HIT, HIT)
    assert found['cacheproxy_saved_usd_total{layer="semantic",model="gpt-4o"}'] == 0.5
    assert found["cacheproxy_similarity_count"] == 3


def test_a_miss_saves_nothing_and_a_hit_costs_nothing():
    assert not any(name.startswith("cacheproxy_saved") for name in after(MISS) if "{" in name)
    assert not any(name.startswith("cacheproxy_cost") for name in after(HIT) if "{" in name)


def test_names_of_models_that_callers_make_up_are_bounded():
    found = after(*(served(model=f"model-{number}") for number in range(3 * MOST)))
    models = [name for name in found if name.startswith("cacheproxy_cost_usd_total{")]

    assert len(models) == MOST + 1
    assert sum(found[name] for name in models) == pytest.approx(3 * MOST * 0.25)
    assert any('model="other"' in name for name in models)


def test_a_port_that_fails_is_counted_by_operation():
    metrics = Metrics()
    metrics.failed("store", "find")
    metrics.failed("store", "find")
    metrics.failed("embedder", "embed")
    found = samples(metrics)

    assert found['cacheproxy_store_errors_total{op="store.find"}'] == 2
    assert found['cacheproxy_store_errors_total{op="embedder.embed"}'] == 1


def test_embedding_and_searching_are_timed():
    metrics = Metrics()
    metrics.took("embedder", "embed", 0.02)
    metrics.took("index", "nearest", 0.001)
    metrics.took("index", "is_empty", 5.0)
    metrics.took("store", "find", 5.0)
    metrics.batched(8, 0.02)
    found = samples(metrics)

    assert found["cacheproxy_embedding_seconds_sum"] == 0.02
    assert found["cacheproxy_index_seconds_sum"] == 0.001
    assert found["cacheproxy_embedding_batch_size_sum"] == 8


def test_entries_and_breakers_are_asked_at_each_scrape():
    metrics = Metrics()
    state = {"entries": 3.0, "store": 0.0}
    metrics.watch("entries", lambda: state["entries"])
    metrics.watch_breakers({"store": lambda: state["store"]})
    assert samples(metrics)["cacheproxy_entries"] == 3

    state |= {"entries": 4.0, "store": 2.0}
    assert samples(metrics)["cacheproxy_entries"] == 4
    assert samples(metrics)['cacheproxy_breaker_state{port="store"}'] == 2


def test_two_proxies_in_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.served(MISS)
    assert not any(name.startswith("cacheproxy_requests_total{") for name in samples(other))


@pytest.mark.parametrize("number", [1, 63, 64, 65, 200])
def test_each_request_is_counted_once_however_many_there_are(number):
    counted = after(*[MISS] * number)
    assert counted['cacheproxy_requests_total{dialect="openai-chat",layer="none",status="Miss"}'] == number
    assert counted['cacheproxy_request_seconds_count{layer="none"}'] == number
    assert counted['cacheproxy_cost_usd_total{kind="upstream",model="gpt-4o"}'] == number * 0.25


def test_looking_twice_counts_nothing_twice():
    metrics = Metrics()
    metrics.served(MISS)
    first, second = (
        {name: value for name, value in samples(metrics).items() if name.startswith("cacheproxy_")} for _ in range(2)
    )
    assert first == second


def test_what_was_bought_is_counted_in_tokens():
    found = after(MISS, HIT)
    assert found['cacheproxy_tokens_total{kind="input",model="gpt-4o"}'] == 100
    assert found['cacheproxy_tokens_total{kind="output",model="gpt-4o"}'] == 50


def test_requests_and_checks_without_a_price_are_counted():
    metrics = Metrics()
    metrics.served(served(unpriced=True, cost_usd=0.0))
    metrics.audited(Audited(at=0.0, model="gpt-4o", tenant="t", upstream="u", kind=CheckKind.AUDIT, unpriced=True))
    assert samples(metrics)['cacheproxy_unpriced_total{model="gpt-4o"}'] == 2


def test_calls_fallbacks_and_errors_are_counted_by_what_they_were():
    metrics = Metrics()
    metrics.called("local", CallResult.RATE_LIMITED)
    metrics.fell_back("rate-limited")
    metrics.refused("cacheproxy_overloaded")
    found = samples(metrics)
    assert found['cacheproxy_upstream_results_total{result="rate-limited",upstream="local"}'] == 1
    assert found['cacheproxy_local_fallbacks_total{reason="rate-limited"}'] == 1
    assert found['cacheproxy_errors_total{code="cacheproxy_overloaded"}'] == 1


def test_the_process_and_the_build_are_told():
    found = samples(Metrics())
    assert found["process_resident_memory_bytes"] > 0
    assert any(name.startswith("cacheproxy_build_info{") and __version__ in name for name in found)


OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.mark.parametrize(("accept", "kind"), [("", "text/plain"), (OPEN_METRICS, "application/openmetrics-text")])
def test_a_scraper_gets_the_format_that_it_asks_for(accept, kind):
    text, content_type = Metrics().exposition(accept)
    assert content_type.startswith(kind)
    assert text.endswith(b"# EOF\n") == (kind != "text/plain")


@pytest.mark.parametrize(
    ("accept", "exemplars", "shown"),
    [(OPEN_METRICS, True, True), (OPEN_METRICS, False, False), ("", True, False)],
)
def test_exemplars_need_the_setting_and_the_format(accept, exemplars, shown):
    metrics = Metrics(exemplars=exemplars)
    metrics.served(served(request_id="req_1"))
    assert (b'{request_id="req_1"} 0.8' in metrics.exposition(accept)[0]) == shown


def test_an_exemplar_names_the_trace_where_there_is_one():
    metrics = Metrics(exemplars=True)
    metrics.served(served(request_id="req_1", trace_id="0af7651916cd43dd8448eb211c80319c"))
    assert b'{trace_id="0af7651916cd43dd8448eb211c80319c"}' in metrics.exposition(OPEN_METRICS)[0]
