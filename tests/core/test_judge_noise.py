"""How often a judge errs: believed at first, then measured, and never believed to err less than at first."""

import pytest

from cacheproxy.core.judge_noise import BELIEVED, UNMEASURED, Noise


def test_before_anything_is_measured_the_belief_speaks():
    assert UNMEASURED.error == BELIEVED
    assert UNMEASURED.missed == pytest.approx(0.0591)


@pytest.mark.parametrize(
    ("pairs", "disagreed", "error"),
    [
        pytest.param(100, 3, 0.03, id="as-believed"),
        pytest.param(100, 17, 0.10, id="worse"),
        pytest.param(900, 97, 0.10, id="worse-and-well-known"),
        pytest.param(10, 2, 0.0454, id="few"),
        pytest.param(1000, 0, 0.03, id="better"),
    ],
)
def test_pairs_outweigh_the_belief_as_they_become_many_and_never_make_it_better(pairs, disagreed, error):
    assert Noise(pairs, disagreed).error == pytest.approx(error, abs=1e-4)


def test_each_pair_is_counted():
    assert Noise.of([True, False, True]) == Noise(3, 1)
