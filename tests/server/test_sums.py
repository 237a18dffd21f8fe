"""Metrics of several processes as those of one."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cacheproxy.events import Served
from cacheproxy.flow.pools import LivePool
from cacheproxy.model import CacheStatus, Layer
from cacheproxy.server.collectors import GAUGES
from cacheproxy.server.metrics import Metrics
from cacheproxy.server.sums import RULES, Past, rule_of, together

SERVED = Served(
    at=0.0,
    dialect="openai-chat",
    upstream="default",
    tenant="t",
    model="m",
    http_status=200,
    status=CacheStatus.HIT,
    duration_ms=3.0,
    layer=Layer.EXACT,
)
HITS = 'cacheproxy_requests_total{dialect="openai-chat",layer="exact",status="Hit"}'


def told(requests=0, entries=0.0):
    """What a process says that has answered so many requests."""
    metrics = Metrics()
    for name in GAUGES:
        metrics.watch(name, lambda: entries)
    metrics.watch("scope_churn", lambda: entries / 10)
    metrics.watch_pools(lambda: [LivePool("default", budget=0.01, prior=None)])
    for _ in range(requests):
        metrics.served(SERVED)
    return metrics.render().decode()


def values(text):
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in text.decode().splitlines() if line[0] != "#")
    }


def test_counters_and_histograms_are_added_up():
    summed = values(together([told(2), told(3)]))
    assert summed[HITS] == 5
    assert summed['cacheproxy_request_seconds_count{layer="exact"}'] == 5
    assert summed['cacheproxy_request_seconds_bucket{layer="exact",le="0.005"}'] == 5


def test_gauges_have_rules_of_their_own():
    summed = values(together([told(entries=4.0), told(entries=6.0)]))
    assert summed["cacheproxy_entries"] == 6
    assert summed["cacheproxy_upstream_calls"] == 10
    assert summed["cacheproxy_scope_churn"] == pytest.approx(0.5)
    assert summed['cacheproxy_wrong_per_hit{bound="budget",scope="default"}'] == 0.01


def test_one_alone_is_as_it_was():
    alone = told(3, entries=2.0)
    assert values(together([alone])) == values(alone.encode())


def test_what_processes_counted_that_are_gone_stays():
    past = Past()
    past.add(told(2, entries=50.0))
    past.add(told(1, entries=70.0))
    past.add("")
    summed = values(together([told(4, entries=3.0)], [past.text]))
    assert summed[HITS] == 7
    assert summed["cacheproxy_entries"] == 3


def test_what_only_those_counted_that_are_gone_stays_too():
    past = Past()
    past.add(told(2))
    assert values(together([told()], [past.text]))[HITS] == 2


def test_the_rule_of_every_gauge_is_chosen_and_not_by_accident():
    gauges = {metric.name for metric in text_string_to_metric_families(told(1)) if metric.type == "gauge"}
    assert {name for name in gauges if not name.endswith("_created")} <= RULES.keys()


def test_the_first_of_several_beginnings_is_the_beginning():
    assert rule_of("cacheproxy_requests_created", "gauge")([3.0, 2.0]) == 2.0


def test_help_and_types_are_kept():
    text = together([told(1), told(1)]).decode()
    assert "# TYPE cacheproxy_requests_total counter" in text
    assert text.count("# HELP cacheproxy_entries Entries in the store") == 1
