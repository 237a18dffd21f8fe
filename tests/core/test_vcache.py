"""The published policy, against its formulas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.candidates import key

from cacheproxy.core.policy import Forward, Found, Serve
from cacheproxy.core.profile import profile
from cacheproxy.core.vcache import FEWEST, Boundary, VCachePolicy, boundary, serve_probability
from cacheproxy.model import Reason

OBSERVED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=FEWEST, max_size=80)
SEPARABLE = [(0.70, False), (0.78, False), (0.82, True), (0.9, True)] * 5


def decide(observed, *, similarity=0.95, delta=0.02, draw=0.0):
    near = key("What is a cache", similarity)
    found = Found(profile("What is a cache?"), [near], observed={near.root: observed})
    return VCachePolicy(delta).decide(found, draw=draw)


@pytest.mark.parametrize(
    ("gamma", "t", "similarity", "delta", "expected"),
    [
        # All t' are t where its deviation is nil, and the least eps, 0.01, gives the most:
        # 0.02 / (1 - 0.99 sigmoid(50 * .05)) = 0.02 / (1 - 0.99 * 0.92414)
        pytest.param(50.0, 0.90, 0.95, 0.02, 0.02 / (1 - 0.99 * 0.9241418), id="above the boundary"),
        pytest.param(50.0, 0.90, 0.90, 0.02, 0.02 / (1 - 0.99 * 0.5), id="on it"),
        pytest.param(50.0, 0.90, 0.40, 0.02, 0.02, id="far below it: still delta, whatever it believes"),
        pytest.param(200.0, 0.50, 1.00, 0.02, 1.0, id="far above it"),
    ],
)
def test_the_chance_to_serve_is_the_papers(gamma, t, similarity, delta, expected):
    assert serve_probability(Boundary(gamma, t, 0.0), similarity, delta) == pytest.approx(expected, abs=1e-6)


def test_an_uncertain_boundary_is_pushed_up_by_its_deviation():
    # By hand for three of the fifty eps; the maximum over all is at least each of them.
    gamma, t, sd, similarity, delta = 40.0, 0.8, 0.02, 0.9, 0.02
    by_hand = []
    for eps, z in ((0.01, 2.3263479), (0.01 + 0.02 * 12, 0.6744898), (0.99, -2.3263479)):
        alpha = (1 - eps) / (1 + math.exp(-gamma * (similarity - (t + z * sd))))
        by_hand.append(delta / (1 - alpha))
    assert serve_probability(Boundary(gamma, t, sd), similarity, delta) >= max(by_hand) - 1e-6
    assert serve_probability(Boundary(gamma, t, sd), similarity, delta) < serve_probability(
        Boundary(gamma, t, 0.0), similarity, delta
    )


@settings(deadline=None)
@given(observed=OBSERVED, similarity=st.floats(0, 1), deltas=st.tuples(st.floats(0.001, 0.5), st.floats(0.001, 0.5)))
def test_the_chance_to_serve_is_one_and_grows_with_delta(observed, similarity, deltas):
    found = boundary(observed)
    strict, loose = (serve_probability(found, similarity, delta) for delta in sorted(deltas))
    assert 0.0 <= strict <= loose <= 1.0
    assert strict >= min(deltas) - 1e-12


@settings(deadline=None)
@given(observed=OBSERVED, similarities=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_nearer_the_likelier(observed, similarities):
    found = boundary(observed)
    far, near = (serve_probability(found, similarity, 0.02) for similarity in sorted(similarities))
    assert far <= near + 1e-12


# Each step was cut per weight, which is no Newton step any more: fits ended at .77 to .9 for boundaries at .65 to .85.
@pytest.mark.parametrize(("gamma", "t"), [(100, 0.8), (100, 0.6), (60, 0.7), (30, 0.85)])
def test_a_known_boundary_was_missed(gamma, t):
    rng = np.random.default_rng(1)
    similarity = rng.uniform(0.4, 1.0, 4000)
    right = rng.random(4000) < 1 / (1 + np.exp(-gamma * (similarity - t)))
    found = boundary(list(zip(similarity.tolist(), right.tolist(), strict=True)))
    assert found.t == pytest.approx(t, abs=0.01)
    assert found.gamma == pytest.approx(gamma, rel=0.2)
    assert found.sd < 0.01


def test_separable_observations_have_a_boundary_between_them():
    found = boundary(SEPARABLE)
    assert 0.78 < found.t < 0.82
    assert found.gamma <= 200.0
    assert found.sd < 0.1


def test_a_boundary_past_the_steepest_stays_where_it_is():
    found = boundary([(0.898, False), (0.902, True)] * 2000)
    assert found.gamma == 200.0
    assert found.t == pytest.approx(0.9, abs=0.002)


@settings(deadline=None)
@given(OBSERVED)
def test_any_observations_have_a_boundary(observed):
    found = boundary(observed)
    assert all(map(math.isfinite, (found.gamma, found.t, found.sd)))
    assert found.gamma > 0
    assert found.sd >= 0


def test_nothing_near_is_its_own_reason():
    assert VCachePolicy(0.02).decide(Found(profile("What?"), []), draw=0.0) == Forward(Reason.NO_NEIGHBOR)


@pytest.mark.parametrize("count", range(FEWEST))
def test_an_answer_with_few_observations_is_explored(count):
    decision = decide([(0.9, True)] * count)
    assert isinstance(decision, Forward)
    assert (decision.reason, decision.nearest) == (Reason.UNCERTIFIED, 0.95)
    assert decision.assessed.group.similarity == 0.95


def test_the_draw_decides_between_serving_and_exploring():
    chance = serve_probability(boundary(SEPARABLE), 0.84, 0.02)
    assert 0.0 < chance < 1.0
    assert isinstance(decide(SEPARABLE, similarity=0.84, draw=chance - 1e-6), Serve)
    assert isinstance(decide(SEPARABLE, similarity=0.84, draw=chance), Forward)


def test_only_the_nearest_key_counts():
    near, other = key("What is a cash?", 0.9), key("What is a cache", 0.89)
    found = Found(profile("What is a cache?"), [near, other], observed={other.root: [(0.8, True)] * 50})
    assert isinstance(VCachePolicy(0.9).decide(found, draw=0.0), Forward)


def test_nothing_is_promised_of_what_it_serves():
    decision = decide(SEPARABLE, similarity=1.0, delta=0.05)
    assert isinstance(decision, Serve)
    assert decision.stage is None
