"""Which wordings are volatile, and that reading them stays cheap and safe."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.core.volatile import VOLATILE_PATTERNS, is_volatile

VOLATILE = [
    "What is the weather today?",
    "whats the weather like in Lisbon",
    "Will it rain?",
    "latest news",
    "What are the headlines? Any news?",
    "Who is the current chancellor of Austria?",
    "What time is it in Lima?",
    "what's the date",
    "tell me the time",
    "How long until summer?",
    "What happened yesterday?",
    "What should I wear tonight?",
    "what is going on right now",
    "can you do it now",
    "What films come out this week?",
    "Is the shop open?",
    "bitcoin price",
    "What is the price of gold?",
    "how much is bitcoin worth",
    "what are the exchange rates",
    "What's the score?",
    "who is winning",
    "Which bakeries are near me?",
    "a cheap hotel nearby",
    "Where am I?",
    "where is my package",
    "Where\N{RIGHT SINGLE QUOTATION MARK}s my order?",
    "When will my new card arrive?",
    "has my refund been processed",
    "status of my application",
    "track my parcel",
    "what's my balance",
    "Show me my last transactions",
    "check my account balance",
    "how much do i owe",
    "Do I have any meetings?",
    "what's on my calendar",
    "Wie ist das Wetter?",
    "Was ist heute passiert?",
    "Wo ist meine Bestellung?",
    "Que s'est-il passé aujourd'hui ?",
    "Où est ma commande ?",
    "¿Qué hora es?",
    "¿Dónde está mi pedido?",
]

LASTING = [
    "",
    "How do I reset my password?",
    "How do I change the address on my account?",
    "How can I check my balance?",
    "how do i track expenses",
    "What is the difference between a current account and a savings account?",
    "What is electric current?",
    "What causes weather?",
    "What is the time complexity of quicksort?",
    "How much do I have to pay for a transfer?",
    "Now translate it into French.",
    "I lost my keys and now I am locked out. Who helps?",
    "Is my English correct?",
    "What do you know about knots?",
    "Who discovered oxygen?",
    "How far is the moon?",
    "Wie backe ich Brot?",
    "Comment changer mon mot de passe ?",
    "¿Cómo cambio mi contraseña?",
]


@pytest.mark.parametrize("text", VOLATILE)
def test_wording_about_the_moment_or_the_asker_is_volatile(text):
    assert is_volatile(text)


@pytest.mark.parametrize("text", LASTING)
def test_wording_with_a_lasting_answer_is_not(text):
    assert not is_volatile(text)


@pytest.mark.parametrize("text", VOLATILE)
def test_case_and_spacing_do_not_matter(text):
    assert is_volatile(f"  {text.upper()}\n".replace(" ", " \t "))


@pytest.mark.parametrize("text", VOLATILE)
def test_a_pattern_that_holds_has_its_cue(text):
    words = set(re.findall(r"[^\W\d_]+", text.lower()))
    found = [wording for wording in VOLATILE_PATTERNS if wording.pattern.search(text.lower())]
    assert not [wording for wording in found if wording.pattern.pattern and not wording.cues & words]


def test_every_cue_is_one_lower_case_word():
    cues = [cue for wording in VOLATILE_PATTERNS for cue in wording.cues]
    assert all(re.fullmatch(r"[^\W\d_]+", cue) and cue == cue.lower() for cue in cues)
    assert all(wording.cues for wording in VOLATILE_PATTERNS)


def test_no_repetition_is_unbounded():
    assert not [w.pattern.pattern for w in VOLATILE_PATTERNS if re.search(r"(?<!\\)[*+]", w.pattern.pattern)]


def test_an_operator_may_add_patterns():
    assert not is_volatile("Is the ACME line busy?")
    assert is_volatile("Is the  ACME line busy?", [re.compile(r"the ACME line")])


def test_a_question_is_found_at_either_end_of_a_long_text():
    filler = "lorem ipsum dolor " * 10_000
    assert is_volatile("What is the latest news? " + filler)
    assert is_volatile(filler + " What is the latest news?")
    assert not is_volatile(filler + " the latest news " + filler)


@given(st.text())
def test_any_text_can_be_asked(text):
    assert is_volatile(text) in {True, False}
