"""An entry's life is fixed when it is stored."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.core.freshness import staleness
from cacheproxy.model import NO_USAGE, Entry, Reason

ENTRY = Entry(
    id="e",
    key=b"k",
    scope=b"s",
    tenant="t",
    dialect="openai-chat",
    upstream="openai",
    model="m",
    prompt="p",
    answer=b"{}",
    usage=NO_USAGE,
    cost_usd=0.0,
    latency_ms=1.0,
    created_at=1000.0,
    expires_at=1100.0,
    semantic=True,
)


@pytest.mark.parametrize(
    ("now", "max_age_s", "reason"),
    [
        pytest.param(1000, None, None, id="new"),
        pytest.param(1099.9, None, None, id="in its last moment"),
        pytest.param(1100, None, Reason.EXPIRED, id="at its end"),
        pytest.param(2000, None, Reason.EXPIRED, id="long after"),
        pytest.param(1050, 50, None, id="as old as the caller takes"),
        pytest.param(1050.1, 50, Reason.TOO_OLD, id="older than the caller takes"),
        pytest.param(1000.1, 0, Reason.TOO_OLD, id="a max-age of zero is a limit"),
        pytest.param(1100, 1000, Reason.EXPIRED, id="a caller cannot prolong a life"),
        pytest.param(990, 5, None, id="stored by a clock that is ahead"),
    ],
)
def test_staleness(now, max_age_s, reason):
    assert staleness(ENTRY, now=now, max_age_s=max_age_s) is reason


@given(st.floats(0, 1e10), st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_a_stale_entry_never_becomes_fresh_again(now, later, max_age_s):
    if staleness(ENTRY, now=now, max_age_s=max_age_s) is not None:
        assert staleness(ENTRY, now=now + later, max_age_s=max_age_s) is not None


def test_a_life_of_nothing_is_over_at_once():
    assert staleness(replace(ENTRY, expires_at=1000.0), now=1000.0, max_age_s=None) is Reason.EXPIRED
