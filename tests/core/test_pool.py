"""Verdicts in, rules out: what counts, when a rule is made, what it promises, and what a broken promise undoes."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.candidates import always, features, label, rule

from cacheproxy.core import certificate
from cacheproxy.core.features import LEAST_SIMILARITY, Record, Veto
from cacheproxy.core.judge_noise import Noise
from cacheproxy.core.labels import FIRST_FIT, LABELS_KEPT, Source
from cacheproxy.core.pool import (
    BUDGETS,
    FIT_GROWTH,
    NEEDLESS,
    NEEDLESS_PER_WRONG,
    OBSERVED_PER_ROOT,
    Pool,
    Stage,
    Threshold,
    fits_at,
    refit,
)


def verdicts(count, seed=0, error=0.0):
    """Near candidates are right, far ones wrong, but for a share of errors."""
    chance = random.Random(seed)
    found = []
    for at in range(count):
        near = chance.uniform(0.3, 1.0)
        found.append(label(at, right=(near > 0.6) != (chance.random() < error), similarity=near, root=f"r{at % 97}"))
    return found


def traffic(count=500, seed=1):
    chance = random.Random(seed)
    return [features(similarity=near, share=near, keys=1) for near in (chance.uniform(0.3, 1.0) for _ in range(count))]


def fitted(labels, *, budget=0.01, total=None):
    return refit(labels, traffic(), prior=None, budget=budget, total=len(labels) if total is None else total)


def pool_with(labels, *, budget=0.01):
    pool = Pool(budget=budget, prior=None)
    for each in labels:
        pool.add(each)
    for seen in traffic():
        pool.saw(seen)
    return pool


def tripped(budget=0.01):
    pool = pool_with(verdicts(FIRST_FIT), budget=budget)
    for at in range(3):
        pool.add(label(at, right=False, source=Source.AUDIT))
    assert pool.tripped
    return pool


# --- rules


def test_the_same_labels_give_the_same_rule():
    labels = verdicts(400, error=0.02)
    one, other = fitted(labels), fitted(list(labels))
    assert one.model.weights.tolist() == other.model.weights.tolist()
    assert one.thresholds == other.thresholds


def test_the_order_in_which_records_came_about_changes_no_rule():
    labels = verdicts(300, error=0.02)
    one, other = pool_with(labels), pool_with(labels)
    other.records = dict(reversed(one.records.items()))
    other.observed = dict(reversed(one.observed.items()))
    assert one.fit().thresholds == other.fit().thresholds


def test_a_fit_has_an_answer_to_no_labels_at_all():
    empty = refit([], [], prior=always(1.0), budget=0.01, total=0)
    assert empty.model.weights.tolist() == always(1.0).weights.tolist()
    assert empty.stage(0.01) is Stage.BOOTSTRAP


def test_a_rule_knows_how_many_labels_there_had_been():
    labels = verdicts(200)
    assert (fitted(labels).labels, fitted(labels, total=7000).labels) == (200, 7000)


def test_verdicts_that_agree_certify_and_verdicts_that_do_not_leave_the_bootstrap():
    agreeing = fitted(verdicts(1500), budget=0.02)
    assert math.isfinite(agreeing.threshold(0.02).certified)
    assert agreeing.stage(0.02) is not Stage.BOOTSTRAP
    assert fitted(verdicts(1500, error=0.5), budget=0.02).stage(0.02) is Stage.BOOTSTRAP


# A scan ends at its first failure: a looser budget may fail early, where a stricter one has not begun.
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 1500), error=st.sampled_from([0.0, 0.01, 0.05]))
def test_a_stricter_budget_never_serves_more(seed, count, error):
    known = fitted(verdicts(count, seed, error), budget=0.011).thresholds
    assert sorted(known) == sorted({*BUDGETS, 0.011})
    strict_first = [known[budget] for budget in sorted(known)]
    for stricter, looser in pairwise(strict_first):
        assert stricter.estimated >= looser.estimated
        assert stricter.certified >= looser.certified


def test_a_budget_between_two_known_ones_is_held_to_the_stricter():
    known = rule(0.0, b50=(5.0, 6.0), b100=(3.0, 4.0))
    assert known.threshold(0.007) == Threshold(5.0, 6.0)
    assert known.threshold(0.01) == Threshold(3.0, 4.0)
    assert known.threshold(0.5) == Threshold(3.0, 4.0)
    assert known.threshold(0.004) == Threshold()


@pytest.mark.parametrize(
    ("thresholds", "stage"),
    [
        ((math.inf, math.inf), Stage.BOOTSTRAP),
        ((3.0, math.inf), Stage.ESTIMATED),
        ((3.0, 4.0), Stage.ESTIMATED),
        ((4.0, 4.0), Stage.CERTIFIED),
        ((math.inf, 4.0), Stage.CERTIFIED),
    ],
)
def test_a_rule_says_what_all_that_it_serves_is_covered_by(thresholds, stage):
    assert rule(0.0, b100=thresholds).stage(0.01) is stage
    assert rule(0.0).stage(0.01) is Stage.BOOTSTRAP


# --- the pool


def test_a_fit_is_due_when_labels_have_grown_by_a_third():
    pool = Pool(budget=0.01, prior=None)
    due = []
    for each in verdicts(300):
        pool.add(each)
        if pool.due:
            due.append(pool.total)
            pool.adopt(pool.fit())
    assert due == [FIRST_FIT, 130, 169, 220, 286]
    assert FIT_GROWTH == 1.3


# At 100,000 labels the next fit came 30,000 later: a rule outlived every label that had made it.
def test_a_rule_outlived_the_labels_that_made_it():
    pool = Pool(budget=0.01, prior=None)
    pool.rule = replace(rule(0.0), labels=fits_at(100_000))
    pool.total = pool.rule.labels + LABELS_KEPT - 1
    assert not pool.due
    pool.total += 1
    assert pool.due


# After a restart labels had grown by 30% when a hundredth of all that ever were had come: two fits shared each look.
@pytest.mark.parametrize("earlier", [0, 1_500, 96_000])
def test_fits_after_a_restart_shared_a_look(earlier):
    pool = Pool(budget=0.01, prior=None)
    pool.earlier, pool.total = earlier, LABELS_KEPT
    pool.rule = replace(rule(0.0), labels=pool.total)
    looks = []
    for _ in range(20_000):
        pool.total += 1
        if pool.due:
            pool.rule = replace(pool.rule, labels=pool.total)
            looks.append(certificate.look_at(pool.total + earlier, 0.01, growth=FIT_GROWTH, most=LABELS_KEPT))
    assert len(looks) >= 5
    assert len(set(looks)) == len(looks)


def test_a_verdict_goes_into_the_answers_record_and_observations():
    pool = pool_with([label(0, right=True, root="a"), label(1, right=False, root="a"), label(2, right=False, root="b")])
    assert pool.records == {"a": Record(1, 1), "b": Record(0, 1)}
    assert pool.observed["a"] == [(0.95, True), (0.6, False)]


def test_observations_of_one_answer_are_bounded():
    pool = pool_with([label(at, right=True, root="a") for at in range(OBSERVED_PER_ROOT + 1)])
    assert len(pool.observed["a"]) == OBSERVED_PER_ROOT


def test_a_verdict_for_the_record_only_is_no_label():
    pool = Pool(budget=0.01, prior=None)
    pool.judged("a", right=True, similarity=0.9)
    assert (pool.total, len(pool.labels), pool.records) == (0, 0, {"a": Record(1, 0)})


def test_only_audits_of_hits_move_the_monitor():
    pool = pool_with([label(at, right=False) for at in range(50)])
    assert pool.monitor.audits == 0
    pool.add(label(50, right=True, source=Source.AUDIT))
    assert (pool.monitor.audits, pool.monitor.wrong, pool.tripped) == (1, 0, False)


def test_a_broken_promise_clears_what_was_learnt_and_returns_to_shadow():
    pool = tripped()
    assert (pool.rule, pool.total, pool.hits, len(pool.labels)) == (None, 0, 0, 0)
    assert (pool.records, pool.observed) == ({}, {})
    assert (pool.monitor.trips, pool.monitor.audits) == (1, 0)


def test_shadow_ends_with_a_rule_that_promises_something():
    pool = tripped()
    pool.total = 200
    pool.adopt(rule(0.0, b100=(3.0, math.inf)))
    assert not pool.tripped


# The bootstrap rule took over again after a hundred labels, the very rule that had just broken its promise.
def test_shadow_ended_with_a_rule_that_promises_nothing():
    pool = tripped()
    for each in verdicts(FIRST_FIT, error=0.5):
        pool.add(each)
    assert pool.due
    pool.adopt(pool.fit())
    assert pool.rule is not None
    assert pool.tripped


# A fit takes a while in its thread, and a trip may come in between.
def test_a_rule_fitted_before_a_trip_ended_the_shadow():
    pool = tripped()
    pool.adopt(replace(rule(0.0, b100=(3.0, 3.0)), labels=FIRST_FIT))
    assert (pool.rule, pool.tripped) == (None, True)


def test_records_grew_with_every_answer_that_was_ever_judged(monkeypatch):
    monkeypatch.setattr("cacheproxy.core.pool.ROOTS_KEPT", 2)
    pool = Pool(budget=0.01, prior=None)
    for root in ("a", "b", "a", "c"):
        pool.judged(root, right=True, similarity=0.9)
    assert pool.records == {"a": Record(2, 0), "c": Record(1, 0)}
    assert pool.observed.keys() == pool.records.keys()


def test_labels_of_earlier_runs_had_their_looks_at_the_certificate(monkeypatch):
    looks = []
    real = certificate.look_at

    def look_at(labels, budget, **fits):
        look = real(labels, budget, **fits)
        looks.extend([look] * (budget == 0.01))
        return look

    monkeypatch.setattr(certificate, "look_at", look_at)
    labels = [label(float(number), right=number % 3 > 0, root=f"root {number}") for number in range(FIRST_FIT)]
    first = certificate.first_look(0.01)
    for earlier in (0, first - FIRST_FIT, math.ceil(1.3 * first) - FIRST_FIT):
        refit(labels, [], prior=None, budget=0.01, total=FIRST_FIT, earlier=earlier)
    assert looks == [0, 1, 2]


# Ten newest labels of each answer entered a proof: once live, misses pushed out the verdicts on what would be served.
def test_misses_below_the_threshold_pushed_verdicts_above_it_out_of_the_proof():
    shadow = [label(at, right=True, similarity=0.95, root=f"r{at % 40}") for at in range(2_000)]
    misses = [label(2_000 + at, right=False, similarity=0.4, root=f"r{at % 40}") for at in range(600)]
    assert fitted(shadow).threshold(0.01).certified < math.inf
    assert fitted([*shadow, *misses], total=2_600).threshold(0.01).certified < math.inf


@pytest.mark.parametrize(("source", "certified"), [(Source.MISS, False), (Source.FEEDBACK, True)])
def test_what_people_complain_of_enters_no_certificate(source, certified):
    right = [label(at, right=True, similarity=0.95) for at in range(2_000)]
    wrong = [label(at, right=False, similarity=0.95, source=source) for at in range(2_000, 2_100)]
    found = refit([*right, *wrong], [], prior=None, budget=0.02, total=2_100)
    assert (found.threshold(0.02).certified < math.inf) is certified


def test_a_judge_that_errs_more_proves_less():
    labels = [label(at, right=at % 100 > 0, similarity=0.95) for at in range(3_000)]
    sure, doubtful = (
        refit(labels, [], prior=None, budget=0.05, total=3_000, noise=noise) for noise in (Noise(), Noise(200, 150))
    )
    assert sure.threshold(0.05).certified < math.inf
    assert doubtful.threshold(0.05).certified == math.inf


def held_back(at, *, right=True, similarity=0.95, root="hours", source=Source.MISS, veto="vetoed_amount"):
    """A verdict on a candidate to which a guard objected."""
    known = label(at, right=right, similarity=similarity, root=root, source=source)
    return replace(known, features=known.features._replace(**{veto: 1.0}))


@pytest.mark.parametrize(
    ("held", "needless"),
    [
        pytest.param([held_back(1), held_back(2)], set(), id="too few"),
        pytest.param([held_back(at) for at in range(NEEDLESS)], {("hours", Veto.AMOUNT)}, id="all right"),
        pytest.param(
            [held_back(at, veto="vetoed_sense") for at in range(NEEDLESS)], {("hours", Veto.SENSE)}, id="another kind"
        ),
        pytest.param([held_back(at, root=f"r{at}") for at in range(NEEDLESS)], set(), id="of several answers"),
        pytest.param([held_back(0, right=False), *(held_back(at) for at in range(9))], set(), id="one wrong"),
        pytest.param(
            [held_back(0, right=False), *(held_back(at) for at in range(NEEDLESS + NEEDLESS_PER_WRONG))],
            {("hours", Veto.AMOUNT)},
            id="one wrong of many",
        ),
        pytest.param(
            [held_back(0, right=False, similarity=0.4), *(held_back(at) for at in range(NEEDLESS))],
            {("hours", Veto.AMOUNT)},
            id="wrong, and unlikely in any case",
        ),
        pytest.param([held_back(at, source=Source.FEEDBACK) for at in range(9)], set(), id="complained of"),
    ],
)
def test_guards_are_needless_at_an_answer_where_they_alone_held_back_what_was_right(held, needless):
    found = fitted([*verdicts(1_500), *held], budget=0.05)
    assert found.stage(0.05) is not Stage.BOOTSTRAP
    assert found.needless == needless
    for root, veto in needless:
        assert found.excuses(root, veto)
        assert not found.excuses("another", veto)
        assert not found.excuses(root, None)


def test_a_rule_that_serves_nothing_excuses_nothing():
    found = refit([held_back(at) for at in range(50)], [], prior=None, budget=0.01, total=50)
    assert found.threshold(0.01) == Threshold()
    assert found.needless == frozenset()


# Vetoed candidates that are right stood beside served ones that are wrong, and made a proof of the two together.
def test_what_guards_hold_back_proves_nothing_of_what_is_served():
    served = verdicts(3_000, error=0.04)
    vetoed = [
        replace(each, features=each.features._replace(vetoed_amount=1.0, objected=1.0), root=f"v{at % 499}", right=True)
        for at, each in enumerate(verdicts(3_000, seed=5))
        if each.right
    ]
    both = [each for pair in zip(served, vetoed, strict=False) for each in pair]
    kept_back = refit(both, traffic(), prior=None, budget=0.02, total=len(both))
    evidence = refit(both, traffic(), prior=None, budget=0.02, total=len(both), guards_final=False)
    assert kept_back.threshold(0.02).certified == math.inf
    assert evidence.threshold(0.02).certified < math.inf


# So did right ones that are too far to be served.
def test_what_is_too_far_proves_nothing_of_what_is_served():
    served = verdicts(3_000, error=0.04)
    sure = features(similarity=LEAST_SIMILARITY, overlap=1.0, share=1.0)
    near = [replace(each, features=sure, root=f"f{at % 499}", right=True) for at, each in enumerate(served)]
    far = [replace(each, features=sure._replace(similarity=LEAST_SIMILARITY - 0.01)) for each in near]

    def proven(others):
        both = [each for pair in zip(served, others, strict=True) for each in pair]
        return refit(both, traffic(), prior=None, budget=0.02, total=len(both)).threshold(0.02).certified

    assert proven(near) < math.inf
    assert proven(far) == math.inf


def test_rules_are_due_at_the_same_counts_whoever_counts():
    counts = [count for count in range(60_000) if fits_at(count) == count]
    assert counts[:6] == [0, FIRST_FIT, 130, 169, 220, 286]
    assert all(later - sooner <= LABELS_KEPT for sooner, later in pairwise(counts))
    assert counts[-1] - counts[-2] == LABELS_KEPT
