"""The model of how likely a candidate is right: what fits it, what holds it, what never breaks it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.candidates import always, features

from cacheproxy.core.features import FEATURE_NAMES, matrix
from cacheproxy.core.likelihood import (
    KNOTS,
    PRODUCTS,
    VETO,
    WEIGHTS,
    Likelihood,
    believing_guards,
    bent,
    fit,
    logistic,
    sigmoid,
)


def verdicts(count, seed=0):
    """Candidates that are right with a chance that grows with their similarity."""
    rng = np.random.default_rng(seed)
    similarity, share = rng.uniform(0.3, 1.0, count), rng.uniform(0.0, 1.0, count)
    rows = bent(matrix([features(similarity=s, share=h, keys=2) for s, h in zip(similarity, share, strict=True)]))
    return rows, (rng.random(count) < sigmoid(12 * (similarity - 0.7))).astype(float)


FITTED = fit(*verdicts(200))


def test_every_feature_has_its_knots_in_rising_order():
    assert tuple(KNOTS) == FEATURE_NAMES
    assert all(list(knots) == sorted(set(knots)) for knots in KNOTS.values())
    assert {name for left, right, _ in PRODUCTS for name in (left, right)} <= set(FEATURE_NAMES)


def test_a_feature_counts_from_its_first_knot_to_its_last():
    below, low, middle, high, above = bent(matrix([features(wrong=w) for w in (-1, 0, 1.05, 3, 99)]))
    assert below.tolist() == low.tolist()
    assert high.tolist() == above.tolist()
    assert middle.sum() - low.sum() == pytest.approx(1.5)


def test_a_fit_ends_where_the_slope_vanishes():
    rows, right = verdicts(1500)
    start, ridge = np.zeros(WEIGHTS), np.ones(WEIGHTS)
    weights, _ = logistic(rows, right, start=start, ridge=ridge)
    slope = rows.T @ (sigmoid(rows @ weights) - right) + ridge * weights
    assert np.abs(slope).max() < 1e-3


def test_a_fit_explains_verdicts_about_as_well_as_can_be():
    rows, right = verdicts(3000)
    exact, _ = logistic(rows, right, start=np.zeros(WEIGHTS), ridge=np.r_[0.1, np.ones(WEIGHTS - 1)], enough=1e-12)
    np.testing.assert_allclose(rows @ fit(rows, right).weights, rows @ exact, atol=0.05)


@settings(deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(0.3, 1.0), st.booleans()), min_size=1, max_size=60),
    stiffness=st.sampled_from([1e-3, 1.0]),
)
def test_no_verdicts_keep_a_fit_from_its_end(points, stiffness):
    rows = np.array([[1.0, s] for s, _ in points])
    right = np.array([float(r) for _, r in points])
    start, ridge = np.array([-8.0, 10.0]), np.full(2, stiffness)
    weights, _ = logistic(rows, right, start=start, ridge=ridge)
    slope = rows.T @ (sigmoid(rows @ weights) - right) + ridge * (weights - start)
    assert np.abs(slope).max() < 1e-2


def test_the_same_verdicts_in_any_order_give_the_same_model():
    rows, right = verdicts(400)
    order = np.random.default_rng(1).permutation(400)
    assert fit(rows, right).weights.tolist() == fit(rows, right).weights.tolist()
    np.testing.assert_allclose(fit(rows[order], right[order]).weights, fit(rows, right).weights, atol=1e-8)


def test_without_verdicts_the_prior_stands():
    prior = Likelihood(np.linspace(-1, 1, WEIGHTS))
    assert fit(np.zeros((0, WEIGHTS)), np.zeros(0), prior=prior).weights.tolist() == prior.weights.tolist()
    assert not fit(np.zeros((0, WEIGHTS)), np.zeros(0)).weights.any()


def test_a_prior_holds_against_few_verdicts_and_yields_to_many():
    rows, right = verdicts(4000)
    prior = fit(rows, 1 - right)  # all that it believes is wrong here
    near = bent(matrix([features(similarity=0.97, share=0.5, keys=2)]))

    def chance(count):
        return sigmoid(near @ fit(rows[:count], right[:count], prior=prior).weights)[0]

    assert chance(5) < 0.5
    assert chance(4000) > 0.85


@given(st.lists(st.floats(-1e6, 1e6), min_size=len(FEATURE_NAMES), max_size=len(FEATURE_NAMES)))
def test_no_features_are_too_extreme_for_a_chance(values):
    (logit,) = FITTED.logits(np.array([values]))
    assert np.isfinite(logit)
    assert 0.0 < sigmoid(np.array([logit]))[0] < 1.0


def test_only_right_verdicts_or_only_wrong_ones_are_no_end_of_the_world():
    rows, _ = verdicts(500)
    assert np.isfinite(fit(rows, np.ones(500)).weights).all()
    assert np.isfinite(fit(rows, np.zeros(500)).weights).all()


@pytest.mark.parametrize("veto", ["vetoed_amount", "vetoed_sense"])
def test_a_prior_believes_guards_whatever_it_learnt_of_them(veto):
    learnt = always(1.0)
    believing = believing_guards(learnt)
    plain, vetoed = believing.logits(matrix([features(), features(**{veto: 1.0})]))
    assert (plain, vetoed) == (1.0, 1.0 + VETO)
    assert learnt.logits(matrix([features(**{veto: 1.0})]))[0] == 1.0


def test_a_prior_that_believes_guards_more_is_left_as_it_is():
    once = believing_guards(always(0.0))
    doubled = Likelihood(2 * once.weights)
    assert believing_guards(doubled).weights.tolist() == doubled.weights.tolist()


def test_no_logit_overflows():
    with np.errstate(all="raise"):
        assert sigmoid(np.array([-1e9, 0.0, 1e9])).tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_what_a_verifier_says_corrects_what_is_known_and_changes_nothing_where_it_was_not_asked():
    random = np.random.default_rng(0)
    near = random.uniform(0.3, 1.0, 400)
    scores = random.uniform(0.0, 1.0, 400)
    right = (near + scores > 1.2).astype(float)
    plain = [features(similarity=value) for value in near]
    half = [
        each._replace(verifier=7.0, verified=score) if at % 2 else each
        for at, (each, score) in enumerate(zip(plain, scores, strict=True))
    ]
    without, with_scores = fit(bent(matrix(plain)), right), fit(bent(matrix(half)), right)
    np.testing.assert_allclose(without.logits(matrix(plain)), with_scores.logits(matrix(plain)))
    low, high = (features(similarity=0.7, verifier=7.0, verified=score) for score in (0.1, 0.9))
    assert with_scores.logits(matrix([high]))[0] > with_scores.logits(matrix([low]))[0] + 2


def test_an_offset_is_what_is_known_already():
    rows, right = np.ones((100, 1)), np.r_[np.ones(80), np.zeros(20)]
    (weight,), _ = logistic(rows, right, start=np.zeros(1), ridge=np.array([1e-9]), offset=np.full(100, 1.0))
    assert weight + 1.0 == pytest.approx(np.log(4), abs=1e-4)
