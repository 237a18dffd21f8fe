"""A stream through a policy, with what the flow does with verdicts."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from support.candidates import always
from support.corpora import made_up, vectors_of

from cacheproxy.core.features import Verified
from cacheproxy.core.policy import Bootstrap, CertifiedPolicy, Serve, ThresholdPolicy
from cacheproxy.core.pool import Pool, Rule, Stage
from cacheproxy.core.vcache import VCachePolicy
from cacheproxy.lab import offline
from cacheproxy.lab.corpus import corpus_of
from cacheproxy.lab.offline import EXACT, SEMANTIC, Rules

TEXTS = ("How do I reset my card?", "How do I reset the card?", "Where is my parcel?", "Where is the parcel?")
CORPUS = corpus_of(TEXTS, vectors_of(TEXTS))
BUDGET = 0.01


def run(questions, classes, policy, *, rules=Rules(), truth=None, pool=None, corpus=CORPUS, seed=1):  # noqa: B008
    pool = pool or Pool(budget=BUDGET, prior=None)
    return offline.run(corpus, questions, classes, policy, pool=pool, chance=Random(seed), rules=rules, truth=truth)


def test_the_same_question_again_is_an_exact_hit():
    result = run([0, 0, 2], [0, 0, 1], ThresholdPolicy(2.0))
    assert result.outcome.tolist() == [0, EXACT, 0]
    assert not result.wrong.any()


def test_a_similar_question_is_served_and_right_where_the_class_is_the_same():
    result = run([0, 1], [0, 0], ThresholdPolicy(0.5))
    assert result.outcome.tolist() == [0, SEMANTIC]
    assert result.wrong.tolist() == [False, False]


def test_a_similar_question_of_another_class_is_a_wrong_hit():
    result = run([0, 1], [0, 1], ThresholdPolicy(0.5))
    assert result.outcome.tolist() == [0, SEMANTIC]
    assert result.wrong.tolist() == [False, True]


def test_an_exact_hit_is_wrong_once_the_answer_has_changed():
    result = run([0, 0], [0, 0], ThresholdPolicy(2.0), truth=lambda request, kind: kind + request)
    assert result.outcome.tolist() == [0, EXACT]
    assert result.wrong.tolist() == [False, True]


def test_the_candidate_is_told_whatever_the_policy():
    result = run([0, 1], [0, 0], ThresholdPolicy(2.0))
    assert result.similarity[0] == 0
    assert result.similarity[1] > 0.5
    assert result.candidate_right.tolist() == [False, True]


def test_in_shadow_nothing_similar_is_served_and_all_is_judged():
    result = run([0, 1, 2, 3], [0, 0, 1, 1], CertifiedPolicy(BUDGET), rules=Rules(shadow=4))
    assert not (result.outcome == SEMANTIC).any()
    assert result.judged >= 3


def test_after_its_shadow_a_stream_is_served():
    result = run([0, 1, 2, 3], [0, 0, 1, 1], ThresholdPolicy(0.5), rules=Rules(shadow=3))
    assert result.outcome.tolist() == [0, 0, 0, SEMANTIC]


# What is known after a time in shadow is taken over into several runs, none of which may see what another one learns.
def test_a_live_run_goes_on_where_a_shadow_ends_and_changes_nothing_in_it():
    stream = offline.Stream(
        CORPUS, CertifiedPolicy(BUDGET), Pool(budget=BUDGET, prior=None), Random(1), Rules(shadow=4), 4
    )
    stream.ask(0, 0, 0)
    lives = [stream.live(ThresholdPolicy(0.5), budget=0.02, chance=Random(1)) for _ in range(2)]
    assert [live.pool.budget for live in lives] == [0.02, 0.02]
    lives[0].ask(1, 1, 0)
    lives[1].ask(1, 3, 1)
    stream.ask(1, 2, 1)
    assert [each.result.outcome.tolist() for each in (*lives, stream)] == [
        [0, SEMANTIC, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    assert stream.pool.labels
    assert not lives[0].pool.labels


def test_a_question_judged_the_same_becomes_a_key_of_the_same_answer():
    pool = Pool(budget=BUDGET, prior=None)
    run([0, 1], [0, 0], CertifiedPolicy(BUDGET), pool=pool)
    assert pool.records["0"].right == 1


def test_a_judge_that_always_errs_turns_every_verdict():
    pool = Pool(budget=BUDGET, prior=None)
    run([0, 1], [0, 0], CertifiedPolicy(BUDGET), pool=pool, rules=Rules(judge_error=1.0))
    assert pool.records["0"].wrong == 1


def made_up_run(policy, *, rules=Rules(), budget=BUDGET, truth=None, requests=700):  # noqa: B008
    domain = made_up(tuple(f"{word}{number}" for word in ("lamp", "boat", "shoe", "pipe") for number in "abcdefghij"))
    stream = domain.stream(requests, np.random.default_rng(3), repeats=0.6)
    return run(
        stream.questions.tolist(),
        stream.classes.tolist(),
        policy,
        rules=rules,
        pool=Pool(budget=budget, prior=None),
        corpus=corpus_of(domain.texts, vectors_of(domain.texts)),
        truth=truth,
    )


def test_labels_lead_to_a_rule():
    assert made_up_run(CertifiedPolicy(BUDGET)).fits > 0


def test_policies_that_keep_no_budget_are_fitted_nothing():
    assert made_up_run(VCachePolicy(0.05)).fits == 0


def test_the_same_coins_give_the_same_run():
    one, other = (made_up_run(CertifiedPolicy(0.05)) for _ in range(2))
    assert (one.outcome == other.outcome).all()
    assert one.audits == other.audits


def test_fewer_neighbours_are_looked_at_when_told_so():
    result = run([0, 2, 1], [0, 1, 0], CertifiedPolicy(BUDGET), rules=Rules(neighbors=1))
    assert result.judged == 2


class Everything:
    """Serves the nearest key, as if it were certified."""

    keeps_budgets = True
    learns = True

    def decide(self, found, *, draw):
        decision = CertifiedPolicy(BUDGET).decide(found, draw=draw)
        if decision.assessed is None or found.tripped:
            return decision
        return Serve(found.keys[0], Stage.CERTIFIED, decision.assessed)


def test_the_breaker_trips_when_what_is_served_is_wrong():
    result = made_up_run(Everything(), rules=replace(Rules(), audit_rate=1.0), truth=lambda request, _: request)
    assert result.tripped_at
    first = result.tripped_at[0]
    assert result.outcome[first] == SEMANTIC
    assert result.wrong[first]


@pytest.mark.parametrize("aliases", [0, 32])
def test_aliases_are_bounded(aliases):
    domain = made_up()
    corpus = corpus_of(domain.texts, vectors_of(domain.texts))
    questions = [domain.texts.index(text) for text in domain.classes["card"]]
    stream = offline.Stream(
        corpus, CertifiedPolicy(BUDGET), Pool(budget=BUDGET, prior=None), Random(1), Rules(aliases=aliases), 8
    )
    for request, question in enumerate(questions):
        stream.ask(request, question, 0)
    served = int((stream.result.outcome == SEMANTIC).sum())
    assert len(stream._keys) == (1 if aliases == 0 else 8 - served)


@pytest.mark.parametrize(("verify", "asked"), [(True, [(1, 0)]), (False, [])])
def test_a_verifier_is_asked_about_close_decisions_where_the_rules_say_so(verify, asked):
    compared = []

    def compare(question, stored):
        compared.append((question, stored))
        return Verified("", 7.0, 0.5)

    pool = Pool(budget=BUDGET, prior=None)
    policy = CertifiedPolicy(BUDGET, bootstrap=Bootstrap(0.5, 0.5), prior=Rule(always(0.4)))
    run([0, 1], [0, 0], policy, pool=pool, corpus=replace(CORPUS, compare=compare), rules=Rules(verify=verify))
    assert compared == asked
    assert [label.features.verifier for label in pool.labels] == [7.0 * verify]
