"""Which neighbour may answer, and why none may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.core.policy import Forward, Serve, ThresholdPolicy
from cacheproxy.model import NO_USAGE, Candidate, Entry, Reason


def near(prompt, similarity):
    entry = Entry(
        id=f"id of {prompt}",
        key=b"k",
        scope=b"s",
        tenant="t",
        dialect="openai-chat",
        upstream="openai",
        model="m",
        prompt=prompt,
        answer=b"{}",
        usage=NO_USAGE,
        cost_usd=0.0,
        latency_ms=1.0,
        created_at=0.0,
        expires_at=1.0,
        semantic=True,
    )
    return Candidate(entry, similarity)


def decide(prompt, *found, threshold=0.9, disabled=frozenset()):
    return ThresholdPolicy(threshold, disabled).decide(prompt, found, draw=0.5)


def test_nothing_near_is_its_own_reason():
    assert decide("What is a cache?") == Forward(Reason.NO_NEIGHBOR)


def test_the_most_similar_entry_is_served():
    first, second = near("What is a cache", 0.99), near("What's a cache?", 0.95)
    assert decide("What is a cache?", first, second) == Serve(first)


def test_an_entry_at_the_threshold_is_served_and_one_below_is_not():
    assert decide("What is a cache?", near("What is a cache", 0.9)) == Serve(near("What is a cache", 0.9))
    assert decide("What is a cache?", near("What is a cache", 0.8999)) == Forward(Reason.BELOW_THRESHOLD, 0.8999)


# redis-vl 649: a threshold of zero was taken for none
def test_a_threshold_of_zero_was_taken_for_no_threshold():
    candidate = near("What is a cache", 0.0)
    assert ThresholdPolicy(0.0).floor == 0.0
    assert decide("What is a cache?", candidate, threshold=0.0) == Serve(candidate)


def test_a_threshold_of_one_serves_only_what_is_alike():
    assert decide("What is a cache?", near("What is a cache", 0.9999), threshold=1.0) == Forward(
        Reason.BELOW_THRESHOLD, 0.9999
    )


@pytest.mark.parametrize(
    ("asked", "cached", "reason"),
    [
        # vllm semantic-router 2691: enabling was answered with disabling
        pytest.param("How do I enable 2FA?", "How do I disable 2FA?", Reason.GUARD_ANTONYMS, id="enable and disable"),
        # vllm semantic-router 1616: 2+3 was answered with 2+2
        pytest.param("What is 2+3?", "What is 2+2?", Reason.GUARD_NUMBERS, id="sums"),
        # GPTCache 694: the reversed meaning was .83 to .9997 similar
        pytest.param("I like dogs", "I do not like dogs", Reason.GUARD_NEGATION, id="negation"),
        pytest.param("Where is Paris?", "Where is London?", Reason.GUARD_ENTITIES, id="names"),
        pytest.param("Convert USD to EUR", "Convert EUR to USD", Reason.GUARD_ROLES, id="direction"),
    ],
)
def test_a_question_was_answered_with_another_ones_answer(asked, cached, reason):
    for one, other in ((asked, cached), (cached, asked)):
        decision = decide(one, near(other, 0.9999))
        assert isinstance(decision, Forward)
        assert decision.reason.value.startswith("guard-")
        assert decision.nearest == 0.9999
    assert decide(asked, near(cached, 0.9999)).reason is reason


def test_the_next_candidate_is_tried_when_a_guard_objects():
    wrong, right = near("How do I disable 2FA?", 0.99), near("How do I enable 2FA", 0.95)
    assert decide("How do I enable 2FA?", wrong, right) == Serve(right)


def test_the_reason_is_that_of_the_nearest_candidate():
    found = near("What is 2+2?", 0.99), near("What is not 2+3?", 0.95), near("How are you", 0.1)
    assert decide("What is 2+3?", *found) == Forward(Reason.GUARD_NUMBERS, 0.99)


def test_a_disabled_guard_does_not_object():
    candidate = near("What is 2+2?", 0.99)
    assert decide("What is 2+3?", candidate, disabled=frozenset({Reason.GUARD_NUMBERS, Reason.GUARD_CODE})) == Serve(
        candidate
    )


@given(
    threshold=st.floats(0, 1),
    similarities=st.lists(st.floats(0, 1), max_size=6).map(lambda found: sorted(found, reverse=True)),
)
def test_nothing_below_the_floor_is_ever_served(threshold, similarities):
    policy = ThresholdPolicy(threshold)
    match policy.decide("What is a cache?", [near("What is a cache", s) for s in similarities], draw=0.0):
        case Serve(chosen):
            assert chosen.similarity == similarities[0] >= policy.floor
        case Forward(reason, nearest):
            assert (reason is Reason.NO_NEIGHBOR) == (not similarities) == (nearest is None)
            assert not similarities or similarities[0] < policy.floor
