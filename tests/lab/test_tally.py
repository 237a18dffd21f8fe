from __future__ import annotations

import numpy as np
import pytest

from cacheproxy.core.pool import Stage
from cacheproxy.lab.offline import EXACT, SEMANTIC, Run
from cacheproxy.lab.tally import Prices, Proportion, Tally, reliability


def run(outcome, wrong=(), similarity=None, chance=None, right=None, stage=None, **more):
    count = len(outcome)
    flags = np.zeros(count, np.bool_)
    flags[list(wrong)] = True
    return Run(
        np.array(outcome, np.int8),
        flags,
        stage or [None] * count,
        np.array(similarity if similarity is not None else [0.0] * count),
        np.array(chance if chance is not None else [0.0] * count),
        np.array(right if right is not None else [False] * count, np.bool_),
        **more,
    )


def test_hits_and_wrong_ones_are_added_up_over_orderings():
    tally = Tally("a", [run([0, EXACT, SEMANTIC, SEMANTIC], wrong=[3]), run([0, 0, 0, SEMANTIC])])
    assert (tally.hits.count, tally.hits.of) == (4, 8)
    assert (tally.wrong.count, tally.wrong.of) == (1, 3)
    assert tally.wrong_per_request.rate == 1 / 8
    assert (tally.late_hits.count, tally.late_hits.of) == (3, 4)
    assert tally.late_wrong == tally.wrong


def test_a_wrong_exact_hit_is_no_wrong_semantic_hit():
    assert Tally("a", [run([0, EXACT], wrong=[1])]).wrong == Proportion(0, 0)


# The values of the binomial distribution's tables
@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        pytest.param(0, 299, 0.0, 0.01226, id="none"),
        pytest.param(1, 10, 0.00253, 0.44502, id="one"),
        pytest.param(10, 10, 0.69150, 1.0, id="all"),
        pytest.param(0, 0, 0.0, 1.0, id="nothing-counted"),
    ],
)
def test_the_interval_is_clopper_and_pearsons(count, of, low, high):
    assert Proportion(count, of).interval == pytest.approx((low, high), abs=1e-4)


def test_audits_and_judgements_are_paid_from_what_was_saved():
    tally = Tally("a", [run([SEMANTIC] * 10, audits=2, judged=5)])
    prices = Prices(answer_usd=1.0, judge_usd=0.1)
    assert tally.gross_usd(prices) == 10
    assert tally.net_usd(prices) == pytest.approx(10 - 2 * 1.1 - 5 * 0.1)


def test_the_best_cut_is_the_loosest_within_the_limit():
    scores, right = [0.9, 0.8, 0.7, 0.6], [True, True, False, True]
    tally = Tally("a", [run([0, 0, 0, 0], similarity=scores, right=right)])
    assert tally.reachable(0.01) == 0.5
    assert tally.reachable(0.25) == 1.0
    assert tally.reachable(0.3) == 1.0


def test_exact_hits_count_whatever_the_cut():
    tally = Tally("a", [run([EXACT, 0], similarity=[0.0, 0.9], right=[False, False])])
    assert tally.reachable(0.01) == 0.5


def test_candidates_are_ordered_by_chance_where_there_is_one():
    outcomes = run([0, 0], similarity=[0.9, 0.5], chance=[0.1, 0.8], right=[False, True])
    assert Tally("a", [outcomes]).candidates()[1].tolist() == [False, True]
    assert Tally("a", [outcomes], scored=True).candidates()[1].tolist() == [True, False]


def test_hits_are_told_by_what_was_promised_of_them():
    stage = [Stage.CERTIFIED, Stage.CERTIFIED, Stage.BOOTSTRAP]
    told = Tally("a", [run([SEMANTIC] * 3, wrong=[1], stage=stage)]).by_stage
    assert told == {"certified": Proportion(1, 2), "uncertified": Proportion(0, 1)}


def test_recall_is_of_candidates_that_are_right():
    tally = Tally("a", [run([SEMANTIC, SEMANTIC, 0, 0], wrong=[1], right=[True, False, True, False])])
    assert tally.recall == Proportion(1, 2)


def test_predicted_chances_are_held_against_what_was_right():
    bins = reliability(np.array([0.05, 0.95, 0.97, 1.0]), np.array([False, True, False, True]))
    assert [(b.observed.count, b.observed.of) for b in bins] == [(0, 1), (2, 3)]
    assert bins[1].predicted == pytest.approx((0.95 + 0.97 + 1.0) / 3)


def test_a_policy_without_chances_has_no_reliability():
    assert Tally("a", [run([0], similarity=[0.5])]).reliability() == []


def test_all_is_told_as_json():
    told = Tally("a", [run([0, SEMANTIC], similarity=[0.0, 0.9], right=[False, True])]).to_json()
    assert told["hit_rate"] == 0.5
    assert told["wrong_per_semantic_hit"]["of"] == 1
    assert told["reachable"]["0.01"] == 0.5
