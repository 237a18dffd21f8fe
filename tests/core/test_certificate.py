"""What verdicts prove: bounds against published and independent values, promises against simulated truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from cacheproxy.core.certificate import (
    FAIR_SHARES,
    LABELS_TO_ESTIMATE,
    MISFIT,
    PROOFS_PER_ROOT,
    STRICTEST,
    Calibration,
    alpha_at,
    certified,
    estimated,
    first_look,
    interval,
    labels_needed,
    look_at,
    proven,
    upper_bound,
)
from cacheproxy.core.likelihood import sigmoid

COUNTS = [(0, 1), (0, 59), (1, 100), (3, 100), (17, 300), (99, 100), (100, 100)]


def surely_at_most(share, runs):
    """The count that a true share exceeds once in ten thousand sets of runs."""
    return binom.ppf(0.9999, runs, share)


@pytest.mark.parametrize(("wrong", "total"), COUNTS)
def test_the_bound_is_clopper_and_pearsons(wrong, total):
    expected = binomtest(wrong, total, alternative="less").proportion_ci(0.95, "exact").high
    assert upper_bound(wrong, total, 0.05) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("wrong", "total"), COUNTS)
def test_the_interval_is_clopper_and_pearsons(wrong, total):
    expected = binomtest(wrong, total).proportion_ci(0.95, "exact")
    assert interval(wrong, total) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_nothing_seen_bounds_nothing():
    assert upper_bound(0, 0, 0.05) == 1.0
    assert interval(0, 0) == (0.0, 1.0)
    assert proven(0, 0) == 1.0


@pytest.mark.parametrize(("budget", "labels"), [(0.05, 59), (0.02, 149), (0.01, 299)])
def test_so_many_labels_without_a_wrong_one_prove_a_budget(budget, labels):
    assert labels_needed(budget) == labels
    assert upper_bound(0, labels, 0.05) <= budget < upper_bound(0, labels - 1, 0.05)


def test_all_looks_together_spend_alpha():
    spent = sum(alpha_at(look) for look in range(1, 100_000))
    assert spent < 0.05
    assert spent == pytest.approx(0.05, rel=1e-3)
    assert alpha_at(0) == 0.0


GROWTH, MOST = 1.3, 4_000


# A look was each doubling of the labels, and the three fits in between tried their luck at its alpha, each.
@pytest.mark.parametrize("budget", [0.001, 0.01, 0.02, 0.05])
def test_several_fits_shared_a_look_and_spent_its_alpha_several_times(budget):
    labels, looks = 100, []
    while labels < 300_000:
        looks.append(look_at(labels, budget, growth=GROWTH, most=MOST))
        labels = min(math.ceil(labels * GROWTH), labels + MOST)
    begun = [look for look in looks if look]
    assert len(begun) == len(set(begun))
    assert begun == sorted(begun)


# The looks at a few hundred labels, at which no verdicts whatever prove 1%, had spent most of alpha.
@pytest.mark.parametrize("budget", [0.01, 0.02, 0.05])
def test_looks_at_too_few_labels_for_any_proof_spent_alpha(budget):
    first = first_look(budget)
    assert look_at(first - 1, budget, growth=GROWTH, most=MOST) == 0
    assert look_at(first, budget, growth=GROWTH, most=MOST) == 1
    assert certified(np.zeros(first - 1), np.ones(first - 1), budget=budget, alpha=alpha_at(1)) is None
    assert certified(np.zeros(first), np.ones(first), budget=budget, alpha=alpha_at(1), missed=0.0) == 0.0


@pytest.mark.parametrize(
    ("wrong", "total", "bound"),
    [
        pytest.param(0, 1, 1 - 1 / 40, id="one clean audit: 1 / (2 (1 - p)) = 20"),
        pytest.param(1, 1, 1.0, id="one wrong audit"),
        pytest.param(0, 100, 1 - (20 * 101) ** -0.01, id="a hundred clean ones: (1 - p) ** -100 / 101 = 20"),
        pytest.param(0, 986, 0.01, id="about a thousand clean ones prove 1%"),
    ],
)
def test_the_bound_in_service_has_known_values(wrong, total, bound):
    assert proven(wrong, total) == pytest.approx(bound, abs=1e-4)


@settings(deadline=None)
@given(total=st.integers(1, 2000), share=st.floats(0, 1))
def test_the_bound_in_service_lies_above_what_was_seen_and_above_a_bound_that_looks_once(total, share):
    wrong = round(share * total)
    assert wrong / total <= proven(wrong, total) <= 1.0
    assert proven(wrong, total) >= upper_bound(wrong, total, 0.05)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_the_bound_in_service_is_below_the_truth_at_any_time_in_few_streams(rate):
    streams, audits = 400, 1500
    seen = np.cumsum(np.random.default_rng(3).random((streams, audits)) < rate, axis=1)
    # The bound at n audits is below the rate where too few of them are wrong: find how few once for each n.
    fewest = [next(wrong for wrong in range(n + 1) if proven(wrong, n) >= rate) for n in range(1, audits + 1, 5)]
    violated = (seen[:, ::5] < np.array(fewest)).any(axis=1).sum()
    assert violated <= surely_at_most(0.05, streams)


def labels(rng, count, error):
    """Scores, and verdicts that are wrong with a chance that depends on the score."""
    scores = rng.normal(3.0, 2.0, count)
    return scores, (rng.random(count) >= error(scores)).astype(float)


@pytest.mark.parametrize(("budget", "count"), [(0.01, 2000), (0.02, 2000), (0.05, 600)])
def test_an_error_of_exactly_the_budget_is_seldom_certified(budget, count):
    rng = np.random.default_rng(7)
    runs = 400
    found = [
        certified(*labels(rng, count, lambda scores: np.full(len(scores), budget)), budget=budget, alpha=0.05)
        for _ in range(runs)
    ]
    assert sum(score is not None for score in found) <= surely_at_most(0.05, runs)


def test_what_is_certified_seldom_breaks_its_budget_where_the_error_grows_as_scores_fall():
    rng = np.random.default_rng(8)
    everything = rng.normal(3.0, 2.0, 200_000)
    runs, broken, some = 300, 0, 0
    for _ in range(runs):
        score = certified(*labels(rng, 2000, lambda scores: sigmoid(-2 * scores)), budget=0.02, alpha=0.05)
        some += score is not None
        broken += score is not None and sigmoid(-2 * everything[everything >= score]).mean() > 0.02
    assert some > runs / 2
    assert broken <= surely_at_most(0.05, runs)


def test_certifying_begins_at_the_strictest_score_with_enough_labels_for_a_proof():
    scores = np.arange(400.0)
    right = np.ones(400)
    enough = math.ceil(min(STRICTEST) * labels_needed(0.05, 0.05 / len(STRICTEST)))
    assert certified(scores[: enough - 1], right[: enough - 1], budget=0.05, alpha=0.05) is None
    assert certified(scores[:enough], right[:enough], budget=0.05, alpha=0.05) == 0.0


def test_where_it_begins_is_chosen_without_looking_at_verdicts():
    scores = np.arange(400.0)
    right = np.ones(400)
    right[-12:] = 0.0  # the strictest are wrong, and no later begin makes up for it
    assert certified(scores, right, budget=0.05, alpha=0.05) is None


def test_certifying_ends_at_the_first_failure():
    scores = np.arange(2000.0)
    right = np.ones(2000)
    right[1700:1730] = 0.0  # behind 270 right ones; all further are right, and 30 of 2000 would be within the budget
    assert upper_bound(30, 2000, 0.05) < 0.05
    assert certified(scores, right, budget=0.05, alpha=0.05) > 1729


# The labels above the strictest score, just enough for a proof without errors, were the only beginning: two wrong ones
# among them, and nothing was proven however many right ones followed.
def test_a_second_scan_begins_where_some_labels_may_be_wrong():
    scores = np.arange(1000.0)
    right = np.ones(1000)
    right[-2:] = 0.0
    strictest = math.ceil(min(STRICTEST) * labels_needed(0.05, 0.025))
    assert upper_bound(2, strictest, 0.025) > 0.05
    assert certified(scores, right, budget=0.05, alpha=0.05) == pytest.approx(0.0, abs=10)


def clustered(rng, answers, count, error, alike):
    """Which answer each label is of, by Zipf's law, and verdicts: an answer's own error is drawn around ``error``."""
    chance = 1 / np.arange(1, answers + 1) ** 0.7
    own = rng.beta(error * (1 / alike - 1), (1 - error) * (1 / alike - 1), answers)
    roots = rng.choice(answers, count, p=chance / chance.sum())
    truth = float(own @ chance / chance.sum())
    return roots, (rng.random(count) >= own[roots]).astype(float), truth


# Ten labels of an answer entered a proof: forty popular answers proved nothing however often they were judged.
def test_few_answers_that_are_asked_for_often_proved_nothing():
    rng = np.random.default_rng(1)
    roots, right, _ = clustered(rng, 40, 2_500, 1e-6, 0.1)
    assert certified(rng.normal(size=2_500), right, budget=0.01, alpha=alpha_at(6), roots=roots) is not None


@pytest.mark.parametrize("alike", [0.05, 0.3])
def test_answers_that_err_more_than_others_certify_no_more_than_alpha_allows(alike):
    rng = np.random.default_rng(11)
    runs, budget, broken, some = 400, 0.02, 0, 0
    for _ in range(runs):
        roots, right, truth = clustered(rng, 40, 1_500, budget, alike)
        score = certified(rng.normal(size=1_500), right, budget=budget, alpha=0.05, roots=roots, missed=0.0)
        some += score is not None
        broken += score is not None and truth > budget
    assert some > 0
    assert broken <= surely_at_most(0.05, runs)


def test_one_answer_alone_proves_nothing_of_the_others():
    roots = np.concatenate([np.zeros(1_500, np.intp), np.arange(1, 21)])
    right, scores = np.ones(1_520), np.zeros(1_520)
    assert certified(scores, right, budget=0.01, alpha=0.05, roots=roots) is None
    assert certified(scores, right, budget=0.01, alpha=0.05) is not None


def test_wrong_ones_of_an_answer_with_few_labels_are_not_drowned_by_one_with_many():
    roots = np.concatenate([np.zeros(1_500, np.intp), np.repeat(np.arange(1, 41), PROOFS_PER_ROOT)])
    right = np.ones(len(roots))
    right[-10:] = 0.0  # 10 of 1,900 in all, but of those that are not the popular answer's 10 of 400
    fair = FAIR_SHARES * len(roots) / 41
    assert upper_bound(10, len(roots), 0.025) < 0.02 < upper_bound(10, 400 + fair, 0.025)
    assert certified(np.zeros(len(roots)), right, budget=0.02, alpha=0.05, missed=0.0) is not None
    assert certified(np.zeros(len(roots)), right, budget=0.02, alpha=0.05, roots=roots, missed=0.0) is None


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), ties=st.booleans())
def test_a_wrong_label_on_top_never_loosens_a_certificate(seed, ties):
    scores, right = labels(np.random.default_rng(seed), 300, lambda scores: sigmoid(-scores - 2))
    scores = scores.round() if ties else scores
    before = certified(scores, right, budget=0.1, alpha=0.05)
    after = certified(np.append(scores, 99.0), np.append(right, 0.0), budget=0.1, alpha=0.05)
    assert (math.inf if after is None else after) >= (math.inf if before is None else before)


# Labels with one score were cut at a count, and those that happened to be stored later were not counted.
@settings(deadline=None)
@given(st.permutations([1.0] * 60 + [0.0] * 60))
def test_all_labels_at_a_score_count_for_it_in_whatever_order_they_came(right):
    assert certified(np.zeros(120), np.array(right), budget=0.05, alpha=0.05) is None


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_certificate_holds_for_all_labels_at_or_above_its_score(seed):
    scores, right = labels(np.random.default_rng(seed), 300, lambda scores: sigmoid(-scores - 1))
    scores = scores.round()
    score = certified(scores, right, budget=0.1, alpha=0.05)
    if score is not None:
        served = right[scores >= score]
        assert upper_bound(int((1 - served).sum()), len(served), 0.05) <= 0.1


def test_an_estimate_keeps_its_budget_where_the_curve_fits():
    rng = np.random.default_rng(5)
    scores, right = labels(rng, 4000, lambda scores: sigmoid(-scores))
    traffic = rng.normal(3.0, 2.0, 2000)
    score = estimated(scores, right, traffic, budget=0.02)
    everything = rng.normal(3.0, 2.0, 200_000)
    assert sigmoid(-everything[everything >= score]).mean() == pytest.approx(0.02, abs=0.006)


def test_too_few_labels_or_too_little_traffic_estimate_nothing():
    scores, right = np.linspace(5, 9, LABELS_TO_ESTIMATE), np.ones(LABELS_TO_ESTIMATE)
    traffic = np.full(100, 10.0)
    assert estimated(scores, right, traffic, budget=0.05) == 5.0
    assert estimated(scores[1:], right[1:], traffic, budget=0.05) is None
    assert estimated(scores, right, traffic[:10], budget=0.05) is None
    assert estimated(scores, right, np.zeros(0), budget=0.05) is None


def test_an_estimate_never_leaves_more_wrong_labels_than_its_misfit_allows():
    rng = np.random.default_rng(6)
    scores, right = labels(rng, 4000, lambda scores: np.full(len(scores), 0.08))
    assert estimated(scores, right, scores[:2000], budget=0.03) is None
    score = estimated(scores, right, scores[:2000], budget=0.1)
    assert (1 - right[scores >= score]).mean() <= 0.1 / MISFIT


def test_a_known_curve_is_recovered():
    rng = np.random.default_rng(4)
    scores = rng.normal(1.0, 2.0, 20_000)
    right = (rng.random(20_000) < sigmoid(-0.5 + 0.7 * scores)).astype(float)
    curve = Calibration.of(scores, right)
    assert (curve.intercept, curve.slope) == pytest.approx((-0.5, 0.7), abs=0.05)


def test_without_labels_scores_are_taken_at_their_word():
    curve = Calibration.of(np.zeros(0), np.zeros(0))
    assert curve.chance(np.array([3.0])) == pytest.approx(sigmoid(np.array([3.0])))


def test_a_label_that_was_asked_for_seldom_counts_for_those_that_were_not():
    rng = np.random.default_rng(9)
    scores, right = labels(rng, 2000, lambda scores: np.full(len(scores), 0.1))
    once = Calibration.of(np.repeat(scores, 3), np.repeat(right, 3))
    counted = Calibration.of(scores, right, np.full(len(scores), 3.0))
    assert (counted.intercept, counted.slope) == pytest.approx((once.intercept, once.slope), abs=1e-6)


def test_few_wrong_audits_outweigh_many_right_misses():
    scores, right, counts = np.arange(1000.0), np.ones(1000), np.ones(1000)
    right[900:903] = 0.0  # three of the ten audits of hits
    counts[900:910] = 20.0
    assert certified(scores, right, budget=0.1, alpha=0.05) < 900
    assert certified(scores, right, budget=0.1, alpha=0.05, counts=counts) > 902


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), max_size=40), st.floats(-1e6, 1e6))
def test_a_calibration_is_a_chance_whatever_the_labels(pairs, score):
    scores, right = np.array([s for s, _ in pairs]), np.array([float(r) for _, r in pairs])
    (chance,) = Calibration.of(scores, right).chance(np.array([score]))
    assert 0.0 < chance < 1.0
