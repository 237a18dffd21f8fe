"""What is known of the candidates near a prompt."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.candidates import features, key

from cacheproxy.core.features import (
    FEATURE_NAMES,
    GROUPS_DESCRIBED,
    KEYS_GUARDED,
    LEAST_SIMILARITY,
    VOTE_SHARPNESS,
    Features,
    Record,
    Veto,
    describe,
    matrix,
    servable,
)
from cacheproxy.core.profile import profile
from cacheproxy.model import Reason

ASKED = profile("How do I reset my card PIN?")


def only(asked, *keys, records=None, **guards):
    (group,) = describe(profile(asked), keys, records or {}, **guards)
    return group


def test_nothing_near_is_no_candidate():
    assert describe(ASKED, [], {}) == []


def test_keys_of_one_answer_are_one_candidate_with_its_nearest_key_first():
    keys = [key("one", 0.9, "a"), key("two", 0.8, "b"), key("three", 0.7, "a")]
    first, second = describe(ASKED, keys, {})
    assert (first.root, first.keys, first.similarity) == ("a", (keys[0], keys[2]), 0.9)
    assert (second.root, second.keys, second.similarity) == ("b", (keys[1],), 0.8)


@pytest.mark.parametrize(
    ("similarities", "expected"),
    [
        pytest.param(
            {"a": [0.9]},
            {
                "similarity": 0.9,
                "similarity_3": 0.9,
                "share": 1.0,
                "margin": 0.6,
                "keys": 1,
                "groups": 1,
                "farthest": 0.9,
            },
            id="one key",
        ),
        pytest.param(
            {"a": [0.9, 0.7, 0.5, 0.3]},
            {
                "similarity": 0.9,
                "similarity_3": 0.7,
                "share": 1.0,
                "margin": 0.6,
                "keys": 4,
                "groups": 1,
                "farthest": 0.3,
            },
            id="one answer with four keys",
        ),
        pytest.param(
            {"a": [0.9], "b": [0.9]},
            {"similarity": 0.9, "share": 0.5, "margin": 0.0, "keys": 1, "groups": 2},
            id="two answers equally near",
        ),
        pytest.param(
            {"a": [0.9], "b": [0.8]},
            {"share": 1 / (1 + math.exp(-0.1 * VOTE_SHARPNESS)), "margin": 0.1, "groups": 2, "farthest": 0.8},
            id="another answer a tenth further",
        ),
        pytest.param(
            {"a": [0.80, 0.80, 0.80], "b": [0.85]},
            {"similarity": 0.80, "margin": -0.05, "share": 3 / (3 + math.exp(0.05 * VOTE_SHARPNESS)), "keys": 3},
            id="many keys outvote a nearer one",
        ),
    ],
)
def test_a_candidate_is_described_by_its_neighbours(similarities, expected):
    keys = [key(f"{root} {n}", s, root) for root, near in similarities.items() for n, s in enumerate(near)]
    found = describe(ASKED, sorted(keys, key=lambda each: -each.similarity), {})[0]
    assert found.root == "a"
    assert {name: getattr(found.features, name) for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("asked", "cached", "expected"),
    [
        pytest.param(
            "reset card", "reset card", {"uncovered": 0, "overlap": 1, "difference": 0, "length_ratio": 0}, id="alike"
        ),
        pytest.param(
            "reset card",
            "reset phone",
            {"uncovered": 0.5, "uncovered_words": 1, "overlap": 1 / 3, "difference": 2},
            id="half",
        ),
        pytest.param(
            "reset",
            "reset card number today",
            {"uncovered": 0, "length": math.log(2), "length_ratio": math.log(4)},
            id="longer",
        ),
        pytest.param("", "", {"uncovered": 0, "overlap": 0, "length_ratio": 0, "length": math.log(2)}, id="empty"),
        pytest.param("is it the", "card", {"uncovered": 0, "uncovered_words": 0, "overlap": 0}, id="only stop words"),
    ],
)
def test_a_candidate_is_described_by_its_words(asked, cached, expected):
    found = only(asked, key(cached)).features
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected)


def test_a_word_that_any_key_of_the_answer_has_is_covered():
    asked = "reset card pin"
    assert only(asked, key("reset card", 0.9, "a")).features.uncovered_words == 1
    assert only(asked, key("reset card", 0.9, "a"), key("new pin", 0.8, "a")).features.uncovered_words == 0


def test_a_candidate_is_described_by_its_record_up_to_a_limit():
    asked, near = "reset card", key("reset card", 0.9, "a")
    found = only(asked, near, records={"a": Record(3, 1), "b": Record(9, 9)}).features
    assert (found.right, found.wrong) == pytest.approx((math.log(4), math.log(2)))
    assert only(asked, near, records={"a": Record(20, 20)}) == only(asked, near, records={"a": Record(10**9, 10**9)})
    assert only(asked, near).features.right == 0.0


def test_a_guard_vetoes_a_candidate_only_when_each_of_its_nearest_keys_is_objected_to():
    asked = "How do I pay 100 euros?"
    wrong = [key(f"How do I pay {n} euros?", 0.9, "a") for n in (200, 300, 400, 500)]
    agrees = key("How do I pay 100 euros", 0.8, "a")

    vetoed = only(asked, *wrong[:3])
    assert (vetoed.objection, vetoed.features.objected) == (Reason.GUARD_NUMBERS, 1.0)
    one_agrees = only(asked, *wrong[:2], agrees)
    assert one_agrees.objection is None
    assert one_agrees.features.objected == pytest.approx(2 / 3)
    assert one_agrees.features.vetoed_amount == 0.0
    too_far_to_be_asked = only(asked, *wrong[:KEYS_GUARDED], agrees)
    assert too_far_to_be_asked.objection is Reason.GUARD_NUMBERS


@pytest.mark.parametrize(
    ("asked", "cached", "reason", "veto"),
    [
        ("Pay 100 euros", "Pay 200 euros", Reason.GUARD_NUMBERS, Veto.AMOUNT),
        ("How do I enable 2FA?", "How do I disable 2FA?", Reason.GUARD_ANTONYMS, Veto.SENSE),
        ("How do I enable 2FA?", "How can I enable 2FA?", None, None),
    ],
)
def test_vetoes_of_amounts_and_of_sense_are_told_apart(asked, cached, reason, veto):
    found = only(asked, key(cached))
    assert found.objection is reason
    assert (found.features.vetoed_amount, found.features.vetoed_sense) == (veto is Veto.AMOUNT, veto is Veto.SENSE)
    assert found.features.veto is veto


def test_a_disabled_guard_vetoes_nothing():
    found = only("Pay 100 euros", key("Pay 200 euros"), disabled_guards={Reason.GUARD_NUMBERS})
    assert (found.objection, found.features.objected) == (None, 0.0)


NEAR = st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdef")), min_size=1, max_size=16).map(
    lambda found: [key("reset my card", s, root) for s, root in sorted(found, key=lambda each: -each[0])]
)


@given(NEAR)
def test_candidates_come_with_the_most_votes_first_and_stay_within_their_ranges(keys):
    groups = describe(ASKED, keys, {})
    shares = [group.features.share for group in groups]
    assert 1 <= len(groups) <= GROUPS_DESCRIBED
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1 + 1e-9
    for group in groups:
        assert all(math.isfinite(value) for value in group.features)
        assert group.features.margin <= group.similarity
        assert group.features.similarity_3 <= group.similarity + 1e-9


@given(NEAR, st.permutations("abcdef"))
def test_what_answers_are_called_changes_nothing(keys, names):
    renamed = dict(zip("abcdef", names, strict=True))
    others = [key("reset my card", each.similarity, renamed[each.root]) for each in keys]
    assert [group.features for group in describe(ASKED, others, {})] == [
        group.features for group in describe(ASKED, keys, {})
    ]


@given(st.permutations(["reset card", "new pin", "block it", "pay 100 euros", "what now"]))
def test_equally_near_keys_of_one_answer_may_come_in_any_order_for_all_but_the_words_of_the_nearest(prompts):
    of_the_nearest = {"overlap", "length_ratio", "length", "difference", "objected", "vetoed_amount", "vetoed_sense"}

    def described(order):
        found = only("reset my card pin", *(key(prompt, 0.9, "a") for prompt in order)).features
        return {name: value for name, value in found._asdict().items() if name not in of_the_nearest}

    assert described(prompts) == described(sorted(prompts))


def test_features_are_the_columns_of_a_matrix():
    table = matrix([features(similarity=0.5), features(vetoed_sense=1.0)])
    assert table.shape == (2, len(FEATURE_NAMES))
    assert Features(*table[1]).vetoed_sense == 1.0
    assert matrix([]).shape == (0, len(FEATURE_NAMES))


@pytest.mark.parametrize(
    ("seen", "guards_final", "served"),
    [
        ({"similarity": LEAST_SIMILARITY}, True, True),
        ({"similarity": LEAST_SIMILARITY - 0.01}, False, False),
        ({"similarity": 1.0, "vetoed_sense": 1.0}, True, False),
        ({"similarity": 1.0, "vetoed_sense": 1.0}, False, True),
    ],
)
def test_thresholds_decide_on_what_is_near_and_no_guard_has_the_last_word_on(seen, guards_final, served):
    assert servable(features(**seen), guards_final=guards_final) is served
