"""Tallies are added up by what became of the requests."""

from __future__ import annotations

import pytest

from cacheproxy.events import Tally
from cacheproxy.server.api.sums import Sums


def tally(status, layer="", **sums):
    return Tally({"status": status, "layer": layer}, **{"requests": 1, **sums})


def summed(*tallies):
    total = Sums()
    for each in tallies:
        total.add(each)
    return total


@pytest.mark.parametrize(
    ("group", "cache_ms"),
    [
        pytest.param(tally("Hit", "exact", duration_ms=3.0), 3.0, id="an exact hit is the cache's own time"),
        pytest.param(tally("Hit", "semantic", duration_ms=9.0), 9.0, id="so is a semantic one"),
        pytest.param(tally("Hit", "coalesced", duration_ms=900.0), 0.0, id="a shared answer waits for an upstream"),
        pytest.param(
            tally("Miss", duration_ms=900.0, upstream_ms=880.0), 20.0, id="of a miss, what is not the upstream's"
        ),
        pytest.param(tally("", requests=0, audit_usd=1.0), 0.0, id="a check takes no request's time"),
    ],
)
def test_the_caches_own_time_is_told_apart(group, cache_ms):
    assert summed(group).cache_ms == cache_ms


def test_hits_misses_and_bypasses_are_counted_apart():
    total = summed(tally("Hit", "exact"), tally("Miss"), tally("Refresh"), tally("Bypass"), tally("", requests=0))
    assert (total.requests, total.hits["exact"], total.misses, total.bypassed) == (4, 1, 2, 1)
    assert total.hit_rate == 0.25


def test_checks_are_part_of_what_was_spent():
    total = summed(tally("Miss", cost_usd=1.0), tally("", requests=0, audit_usd=0.25, judge_usd=0.125))
    assert (total.with_cache_usd, total.without_cache_usd, total.checks_usd) == (1.375, 1.0, 0.375)


def test_one_sum_takes_another_in():
    total = summed(tally("Hit", "exact", saved_usd=1.0, saved_input_tokens=5))
    total.absorb(summed(tally("Hit", "exact", saved_usd=2.0), tally("Miss", input_tokens=7)))
    assert (total.requests, total.hits["exact"], total.saved_usd, total.tokens) == (3, 2, 3.0, 12)


def test_nothing_has_a_hit_rate_of_zero():
    assert Sums().told()["hit_rates"].all == 0.0
