"""A judge's errors are counted, with intervals that are exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.core.certificate import interval
from cacheproxy.core.judge_noise import judge_noise


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        # No failure in n: the upper bound is 1 - (alpha / 2) ** (1 / n).
        (0, 10, 0.0, 1 - 0.025**0.1),
        (10, 10, 0.025**0.1, 1.0),
        # Clopper and Pearson's interval as R's binom.test(7, 20) gives it.
        (7, 20, 0.1539092, 0.5921885),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_interval_is_clopper_and_pearsons(count, of, low, high):
    assert interval(count, of) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_interval_holds_the_rate_and_narrows_with_less_confidence(count, more):
    of = count + more
    low, high = interval(count, of)
    narrow_low, narrow_high = interval(count, of, 0.2)
    assert 0 <= low <= narrow_low <= narrow_high <= high <= 1
    assert of == 0 or low <= count / of <= high


def test_a_missing_verdict_counts_as_different():
    noise = judge_noise([True, True, False, None], [False, None, True])
    assert (noise.specificity.count, noise.specificity.of) == (2, 4)
    assert (noise.sensitivity.count, noise.sensitivity.of) == (2, 3)
    assert noise.undecided == 2


def test_without_spot_checks_nothing_is_known_of_sensitivity():
    noise = judge_noise([True] * 20)
    assert noise.sensitivity.value is None
    assert (noise.sensitivity.low, noise.sensitivity.high) == (0.0, 1.0)
    assert noise.specificity.value == 1.0
    assert noise.specificity.low == pytest.approx(0.025 ** (1 / 20))
