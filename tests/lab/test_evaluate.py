from __future__ import annotations

from itertools import product

from support.corpora import made_up, vectors_of

from cacheproxy.core.features import Veto
from cacheproxy.core.pool import Rule, Threshold
from cacheproxy.core.prior import train
from cacheproxy.lab.corpus import corpus_of
from cacheproxy.lab.evaluate import certified, over_pairs, over_streams, threshold, vcache
from cacheproxy.lab.labelled import Pair
from cacheproxy.lab.training import verdicts_on_stream

PAIRS = [
    Pair("How do I reset my card?", "How do I reset the card?", same=True),
    Pair("How do I enable 2FA?", "How do I disable 2FA?", same=False),
    Pair("Where is my parcel?", "Why do whales sing?", same=False),
]
TEXTS = [text for pair in PAIRS for text in (pair.a, pair.b)]
CORPUS = corpus_of(TEXTS, vectors_of(TEXTS))


def trained():
    domain = made_up()
    return train(verdicts_on_stream(domain, vectors_of(domain.texts), requests=80, seed=1))


def test_every_arm_sees_the_same_orderings():
    domain = made_up()
    told = []
    tallies = over_streams(
        [threshold(2.0), threshold(0.7), vcache(0.05), certified(0.05, None)],
        domain,
        corpus_of(domain.texts, vectors_of(domain.texts)),
        requests=50,
        orderings=2,
        seed=4,
        on_progress=lambda name, at: told.append((name, at)),
    )
    exact = {tally.hits.count - tally.wrong.of for tally in tallies if tally.name.startswith("threshold 2")}
    assert [tally.requests for tally in tallies] == [100] * 4
    assert all(tally.hits.count >= min(exact) for tally in tallies)
    assert len(told) == 400
    assert tallies[1].wrong.of > 0


def test_guards_are_what_keeps_a_trap_from_being_served():
    guarded, bare = over_pairs([threshold(0.6), threshold(0.6, guards=False)], PAIRS, CORPUS, seed=0)
    assert guarded.runs[0].outcome.tolist() == [2, 0, 0]
    assert bare.runs[0].outcome.tolist() == [2, 2, 0]
    assert bare.wrong.count == 1
    assert guarded.recall.rate == 1.0


def test_pairs_of_one_text_are_left_to_the_exact_cache():
    pairs = [Pair("Why?", "Why? ", same=True)]
    (tally,) = over_pairs([threshold(0.6)], pairs, corpus_of(["Why?", "Why? "], vectors_of(["Why?", "Why? "])), seed=0)
    assert tally.runs[0].outcome.tolist() == [1]
    assert tally.wrong.of == 0


def test_vcache_serves_nothing_on_a_pair_since_it_has_observed_nothing():
    (tally,) = over_pairs([vcache(0.5)], PAIRS, CORPUS, seed=0)
    assert tally.wrong.of == 0


# The stored question had the name of a stream's first answer, and passed for it.
def test_a_pair_passed_for_an_answer_of_the_stream_that_a_rule_was_learnt_on():
    known = Rule(trained(), {0.01: Threshold(estimated=-99.0)}, 100, needless=frozenset(product("0123456789", Veto)))
    (tally,) = over_pairs([certified(0.01, None)], PAIRS, CORPUS, seed=0, rule=known)
    assert tally.wrong.count == 0


def test_a_pair_is_decided_by_what_a_pool_had_learnt():
    prior = trained()
    everything = Rule(prior, {0.01: Threshold(estimated=-99.0)}, labels=100)
    (fresh,) = over_pairs([certified(0.01, prior)], PAIRS, CORPUS, seed=0)
    trusting = certified(0.01, prior, guards_final=False)
    (learnt,) = over_pairs([trusting], PAIRS, CORPUS, seed=0, rule=everything)
    assert fresh.wrong.of < learnt.wrong.of == 2  # what lies far apart is served by no rule
    assert (fresh.runs[0].chance > 0).all()
