from __future__ import annotations

import numpy as np
from support.corpora import made_up, vectors_of

from cacheproxy.core.features import matrix
from cacheproxy.core.prior import train
from cacheproxy.lab.corpus import Profiles
from cacheproxy.lab.labelled import Pair
from cacheproxy.lab.training import verdicts_on_pairs, verdicts_on_stream


def test_a_stream_gives_a_verdict_on_each_question_but_the_first_and_repeats():
    domain = made_up()
    verdicts = verdicts_on_stream(domain, vectors_of(domain.texts), requests=60, seed=1)
    asked = domain.stream(60, np.random.default_rng(1)).questions
    assert len(verdicts) == len(set(asked.tolist())) - 1
    assert {right for _, right in verdicts} == {True, False}


def test_many_labels_change_nothing_of_what_is_heard():
    domain = made_up(tuple(f"thing{number}" for number in range(30)))
    verdicts = verdicts_on_stream(domain, vectors_of(domain.texts), requests=240, seed=1)
    assert len(verdicts) > 150  # more than lead to a rule, which would serve and hear no more


def test_a_pair_is_one_key_and_its_verdict():
    pairs = [Pair("How old is Ann?", "How old is Bob?", same=False), Pair("How old is Ann?", "Ann's age?", same=True)]
    texts = [text for pair in pairs for text in (pair.a, pair.b)]
    verdicts = verdicts_on_pairs(pairs, Profiles(texts), vectors_of(texts))
    assert [right for _, right in verdicts] == [False, True]
    assert [features.keys for features, _ in verdicts] == [1.0, 1.0]
    assert verdicts[0][0].objected == 1.0


def test_what_was_heard_makes_a_prior():
    domain = made_up()
    verdicts = verdicts_on_stream(domain, vectors_of(domain.texts), requests=80, seed=1)
    scores = train(verdicts).logits(matrix([features for features, _ in verdicts]))
    right = np.array([right for _, right in verdicts])
    assert scores[right].mean() > scores[~right].mean()
