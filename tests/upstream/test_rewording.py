"""Answers in other words: the same facts for a class whatever the seed, other facts for another class."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.core.agreement import facts
from cacheproxy.lab.questions import SAMPLE, read_questions
from cacheproxy.upstream.rewording import code_word, code_word_in, reworded

LABELS = sorted({question.label or "" for question in read_questions(SAMPLE)})


@given(st.sampled_from(LABELS), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_class_states_the_same_facts_in_any_words(label, seed, other):
    one, two = reworded(label, "", seed), reworded(label, "", other)
    found = facts("", one, two)
    assert found.contradictions == ()
    assert found.shared >= 3
    assert code_word_in(one) == code_word_in(two) == code_word(label)


@given(st.sampled_from(LABELS), st.sampled_from(LABELS), st.integers(0, 2**64 - 1))
def test_another_class_states_other_facts(label, other, seed):
    contradictions = facts("", reworded(label, "", seed), reworded(other, "", seed + 1)).contradictions
    assert (len(contradictions) >= 2) == (label != other)


def test_the_same_seed_gives_the_same_words_and_others_hardly_ever():
    assert reworded("card_arrival", "", 7) == reworded("card_arrival", "", 7)
    assert len({reworded("card_arrival", "", seed) for seed in range(500)}) > 490


def test_a_question_without_a_class_is_one_of_its_own():
    asked, again = reworded(None, "Who are you?", 1), reworded(None, " who ARE you? ", 2)
    assert code_word_in(asked) == code_word_in(again)
    assert code_word_in(asked) != code_word_in(reworded(None, "Who am I?", 1))


def test_code_words_tell_hundreds_of_classes_apart():
    assert len({code_word(f"class {number}") for number in range(1000)}) == 1000


@given(st.text())
def test_any_question_is_answered(question):
    assert code_word_in(reworded(None, question, 1)) is not None


def test_a_text_without_code_word_names_none():
    assert code_word_in("See AB-1234 or Tamiro-48 for more") is None
