"""The latest requests and checks are remembered, numbered and counted."""

from __future__ import annotations

from support.panel import NOW

from cacheproxy.events import Audited, Checked, CheckKind, Served
from cacheproxy.model import CacheStatus, CheckVerdict, Layer, Reason
from cacheproxy.server.api.recent import KEPT, Recent

MISS = Served(
    NOW, "openai-chat", "openai", "t", "m", 200, CacheStatus.MISS, 900.0, reason=Reason.NO_ENTRY, cost_usd=0.5
)
HIT = MISS._replace(status=CacheStatus.HIT, layer=Layer.EXACT, reason=None, duration_ms=2.0, cost_usd=0, saved_usd=0.5)


def heard(*events):
    recent = Recent()
    for event in events:
        recent.served(event)
    return recent


def check(verdict, *, hit, cost_usd=0.0):
    checked = Checked("default", "e", 0.9, hit=hit)
    return Audited(NOW, "m", "t", "u", CheckKind.JUDGE, verdict, cost_usd=cost_usd, checked=checked)


def test_requests_are_counted():
    counters = heard(MISS, HIT, HIT, MISS._replace(status=CacheStatus.BYPASS)).counters
    assert (counters.requests, dict(counters.hits), counters.bypassed) == (4, {"exact": 2}, 1)
    assert (counters.cost_usd, counters.saved_usd) == (1.0, 1.0)


def test_the_latest_come_first_with_their_numbers():
    recent = heard(*[MISS._replace(at=float(number)) for number in range(10)])
    assert [(number, event.at) for number, event in recent.latest(3, lambda _: True)] == [(10, 9.0), (9, 8.0), (8, 7.0)]
    assert [number for number, _ in recent.latest(9, lambda event: event.at < 2)] == [2, 1]


def test_memory_is_bounded_and_numbers_go_on():
    recent = heard(*[MISS] * (KEPT + 7))
    assert len(recent) == KEPT
    ((number, _),) = recent.latest(1, lambda _: True)
    assert number == recent.counters.requests == KEPT + 7


def test_what_came_behind_a_number_is_told_oldest_first():
    recent = heard(*[MISS._replace(at=float(number)) for number in range(1, 11)])
    found, left_out = recent.behind(7, 50)
    assert ([number for number, _ in found], left_out) == ([8, 9, 10], 0)
    assert recent.behind(10, 50) == ([], 0)


def test_of_too_many_the_newest_are_told_and_the_others_counted():
    recent = heard(*[MISS] * (KEPT + 100))
    found, left_out = recent.behind(0, 5)
    assert ([number for number, _ in found], left_out) == (list(range(KEPT + 96, KEPT + 101)), KEPT + 95)


def test_hits_and_misses_are_timed_apart_and_bypasses_not_at_all():
    assert heard(MISS, HIT, MISS._replace(status=CacheStatus.BYPASS)).durations_ms() == ([2.0], [900.0])


def test_verdicts_on_hits_are_counted_and_all_verdicts_kept():
    recent = Recent()
    for event in (
        check(CheckVerdict.RIGHT, hit=True, cost_usd=0.25),
        check(CheckVerdict.UNKNOWN, hit=True),
        check(CheckVerdict.WRONG, hit=False),
    ):
        recent.audited(event)
    counters = recent.counters
    assert (counters.audits, counters.wrong_audits, counters.checks_usd) == (2, 1, 0.25)
    assert [event.verdict for event in recent.checks(2)] == [CheckVerdict.WRONG, CheckVerdict.UNKNOWN]


def test_what_a_check_cost_counts_without_a_verdict_too():
    recent = Recent()
    recent.audited(Audited(NOW, "m", "t", "u", CheckKind.AUDIT, cost_usd=0.5))
    assert (recent.counters.checks_usd, list(recent.checks(5))) == (0.5, [])
