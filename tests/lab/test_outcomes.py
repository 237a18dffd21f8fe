from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.lab.outcomes import Latency, Outcome, Share, summarise


def hit(layer="semantic", latency_ms=1.0, *, wrong=None, **rest):
    return Outcome(latency_ms, status="Hit", layer=layer, wrong=wrong, **rest)


def miss(latency_ms=100.0, reason="no-neighbor", status="Miss", **rest):
    return Outcome(latency_ms, status=status, reason=reason, **rest)


OUTCOMES = [
    hit("exact", 1.0, wrong=False, saved_usd=0.25, input_tokens=3, output_tokens=4),
    hit("exact", 3.0, wrong=False, saved_usd=0.25),
    hit("semantic", 5.0, wrong=True, saved_usd=0.5),
    hit("semantic", 6.0, wrong=False),
    hit("semantic", 7.0),
    hit("coalesced", 50.0, wrong=False),
    miss(100.0, cost_usd=1.5, input_tokens=10, output_tokens=20, wrong=False),
    miss(200.0, "below-threshold", wrong=False),
    miss(300.0, "no-neighbor"),
    miss(10.0, "mode-off", status="Bypass"),
    miss(10.0, "", status=""),
    Outcome(9.0, "HTTP 500"),
    Outcome(9.0, "HTTP 500"),
    Outcome(9.0, "timed out"),
]


def test_the_report_adds_everything_up():
    report = summarise(OUTCOMES, duration_s=2.0)
    assert (report.requests, report.failed) == (14, 3)
    assert report.hit_rate == 6 / 11
    assert report.hits == {"exact": 2, "semantic": 3, "coalesced": 1}
    assert report.others == {"Miss": 3, "Bypass": 1, "none": 1}
    assert list(report.reasons.items()) == [("no-neighbor", 2), ("below-threshold", 1), ("mode-off", 1)]
    assert report.errors == {"HTTP 500": 2, "timed out": 1}
    assert (report.wrong_per_semantic_hit, report.wrong_per_hit, report.wrong_per_request) == (
        Share(1, 2),
        Share(1, 5),
        Share(1, 7),
    )
    assert (report.spent_usd, report.saved_usd) == (1.5, 1.0)
    assert (report.bought_tokens, report.saved_tokens) == (30, 7)
    assert report.latency["exact"] == Latency(2, 1.0, 3.0)
    assert report.latency["semantic"] == Latency(3, 6.0, 7.0)
    assert report.latency["miss"] == Latency(5, 100.0, 300.0)


def test_a_miss_with_the_wrong_class_is_the_models_fault():
    assert summarise([miss(wrong=True)], duration_s=1).wrong_per_request == Share(0, 1)


def test_nothing_gives_an_empty_report():
    report = summarise([], duration_s=0.0)
    assert (report.hit_rate, report.failed, report.latency["exact"]) == (0.0, 0, Latency())
    assert report.wrong_per_hit.interval == (0.0, 1.0)


def test_the_report_is_json():
    report = json.loads(json.dumps(summarise(OUTCOMES, duration_s=2.0).to_json()))
    assert report["wrong_per_semantic_hit"]["rate"] == 0.5
    assert report["hits"]["exact"] == 2
    assert report["latency"]["miss"]["p95_ms"] == 300.0
    assert report["hit_rate"] == 6 / 11


@pytest.mark.parametrize(
    ("share", "interval"),
    [
        (Share(0, 100), (0.0, 0.0370)),
        (Share(10, 100), (0.0552, 0.1744)),
        (Share(100, 100), (0.9630, 1.0)),
        (Share(1, 1000), (0.00018, 0.00564)),
    ],
    ids=str,
)
def test_the_interval_is_wilsons(share, interval):
    assert share.interval == pytest.approx(interval, abs=5e-5)


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_rate_lies_inside_its_interval(count, of):
    share = Share(min(count, of), of)
    low, high = share.interval
    assert 0 <= low <= share.rate <= high <= 1
