"""What words alone tell about two answers: equality whatever the spelling, and the facts that only one states."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.core.agreement import facts, objection, plain, same_answer, sentences, weight
from cacheproxy.model import Reason

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def shuffled(value):
    """The same JSON value with the members of its objects the other way round."""
    match value:
        case dict():
            return {name: shuffled(value[name]) for name in reversed(value)}
        case list():
            return [shuffled(item) for item in value]
        case _:
            return value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("Paris", "paris.", id="case-and-stop"),
        pytest.param("Paris", "  **Paris**\n", id="markdown"),
        pytest.param("Paris", "`Paris`", id="backticks"),
        pytest.param("Paris", "The answer is: Paris", id="lead-in"),
        pytest.param("Eiffel Tower", "It's the Eiffel Tower.", id="article"),
        pytest.param("1,000", "1000.0", id="thousands"),
        pytest.param("$1,500.50", "$1500.5", id="money"),
        pytest.param(".5", "0.50", id="leading-zero"),
        pytest.param("- red\n- green", "* red\n* green", id="bullets"),
        pytest.param("1. red\n2. green", "red\ngreen", id="numbered"),
        pytest.param("10\u201312", "10-12", id="range"),
        pytest.param('{"a": 1, "b": [true]}', '```json\n{"b":[true], "a":1.0}\n```', id="json"),
        pytest.param("[]", " [ ]", id="empty-array"),
        pytest.param("", "", id="empty"),
        pytest.param("```python\nx = 1\n```", "```\nx = 1  \n```", id="code"),
    ],
)
def test_another_spelling_is_the_same_answer(one, other):
    assert same_answer(one, other) is True
    assert same_answer(other, one) is True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("Paris", "London", id="value"),
        pytest.param("42", "43", id="number"),
        pytest.param("5", "-5", id="sign"),
        pytest.param(".5", "5", id="point"),
        pytest.param("5 euros", "5 dollars", id="unit"),
        pytest.param("spam", "not spam", id="negation"),
        pytest.param("yes", "no", id="polarity"),
        pytest.param("007", "7", id="leading-zeros-are-an-id"),
        pytest.param("Paris", "", id="empty"),
        pytest.param("?", "!", id="signs-alone"),
        pytest.param('{"a": 1}', '{"a": 2}', id="json-number"),
        pytest.param('{"a": 1}', '{"a": true}', id="json-type"),
        pytest.param('{"a": 1}', '{"a": "1"}', id="json-text-for-number"),
        pytest.param('{"a": 1}', '{"a": 1, "b": null}', id="json-member"),
        pytest.param("[1, 2]", "[2, 1]", id="json-order-of-items"),
        pytest.param('{"a": "red"}', '{"a": "blue"}', id="json-value"),
    ],
)
def test_values_that_differ_are_different_answers(one, other):
    assert same_answer(one, other) is False
    assert same_answer(other, one) is False


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("Paris", "Paris, France", id="one-says-more"),
        pytest.param("3 days", "three days", id="number-in-words"),
        pytest.param("It takes three days.", "You have to wait for it for 3 days.", id="prose"),
        pytest.param(
            '{"why": "It takes three whole days."}', '{"why": "You wait 3 days for it."}', id="prose-inside-json"
        ),
        pytest.param('{"a": 1}', "a is 1", id="json-and-prose"),
        pytest.param("```\nx = 1\ny = 2\n```", "```\ny = 2\nx = 1\n```", id="code"),
    ],
)
def test_what_spelling_cannot_tell_is_left_open(one, other):
    assert same_answer(one, other) is None


@given(VALUES.filter(lambda value: isinstance(value, dict | list)))
def test_the_order_and_spacing_of_json_do_not_matter(value):
    assert same_answer(json.dumps(value), json.dumps(shuffled(value), indent=2)) is True


@given(st.text(), st.text())
def test_any_two_texts_are_compared_and_in_either_order_alike(one, other):
    assert same_answer(one, other) == same_answer(other, one)
    assert same_answer(one, one) is True
    there, back = facts("", one, other), facts("", other, one)
    assert {(gap.kind, gap.cached) for gap in there.disagreements} == {
        (gap.kind, gap.fresh) for gap in back.disagreements
    }


@given(st.text())
def test_a_text_agrees_with_itself(text):
    assert facts("", text, text).disagreements == ()
    assert objection(text, text) is None


def test_json_nested_deeper_than_the_stack_is_compared():
    deep = "[" * 900 + "1" + "]" * 900
    assert same_answer(deep, deep) is True
    assert same_answer(deep, deep.replace("1", "2")) is False


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("It takes 3 days.", "It takes five days.", Reason.GUARD_NUMBERS),
        ("It is 5 km long.", "It is 5 miles long.", Reason.GUARD_UNITS),
        ("It ends on 3 May 2024.", "It ends on 4 May 2024.", Reason.GUARD_DATES),
        ("Your order is AB-20417.", "Your order is AB-20471.", Reason.GUARD_IDS),
        ("Call `a.sort()` on it.", "Call `a.reverse()` on it.", Reason.GUARD_CODE),
        ("It was Alexander Fleming.", "It was Ernest Duchesne.", Reason.GUARD_ENTITIES),
        ("Yes, you can.", "No, you cannot.", Reason.GUARD_NEGATION),
    ],
    ids=str,
)
def test_answers_that_state_other_facts_contradict_each_other(one, other, kind):
    assert kind in [gap.kind for gap in facts("", one, other).contradictions]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It takes 3 days.", "You wait three days."),
        ("We open at 9:00.", "We open at 9 am."),
        ("The refund of 1,000 euros came on 2024-05-03.", "On May 3, 2024 you got back 1000 EUR."),
        ("Water boils at 100 \u00b0C.", "Water boils at 100 degrees Celsius."),
        ("1. Open **Settings > Security**.", "Open Settings, then Security."),
    ],
)
def test_the_same_facts_in_other_words_are_no_disagreement(one, other):
    assert facts("", plain(one), plain(other)).disagreements == ()


def test_what_only_one_answer_states_is_a_gap_but_no_contradiction():
    found = facts("", "It takes 3 days.", "It takes a while.")
    assert found.disagreements[0].kind is Reason.GUARD_NUMBERS
    assert str(found.disagreements[0]) == "numbers: 3 against nothing"
    assert found.lone >= 1
    assert found.contradictions == ()


def test_what_the_question_said_may_be_repeated_or_not():
    asked = "Can I send 500 euros?"
    assert facts(asked, "Yes, you can send 500 euros.", "Yes, you can.").disagreements == ()
    assert facts(asked, "Yes, you can send 500 euros.", "Yes, you can send 300 euros.").contradictions


def test_shared_facts_are_counted():
    assert facts("", "It is Anna who pays 5 euros.", "So 5 euros are due from Anna.").shared == 3


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("You can undo it.", "You cannot undo it.", Reason.GUARD_NEGATION),
        ("It is now enabled.", "It is now disabled.", Reason.GUARD_ANTONYMS),
        ("The lions beat the bears.", "The bears beat the lions.", Reason.GUARD_ROLES),
        ("No more than 5 are allowed.", "At most 5 are allowed.", None),
        ("Not less than 5 are needed.", "At least 5 are needed.", None),
    ],
)
def test_a_guard_objects_between_near_copies(one, other, kind):
    assert objection(one, other) == kind


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One is here. Two is there! Is it three?", ["One is here.", "Two is there!", "Is it three?"]),
        ("Fees:\nIt costs 4.90 euros.\nIt is quick.", ["Fees: It costs 4.90 euros.", "It is quick."]),
        ("It is so. Bye.", ["It is so. Bye."]),
        ("", []),
        ("\u3053\u308c\u3002\u305d\u308c\u3002", ["\u3053\u308c\u3002 \u305d\u308c\u3002"]),
        ("e.g. this one", ["e.g. this one"]),
    ],
)
def test_a_text_is_cut_into_sentences(text, parts):
    assert list(sentences(text)) == parts


def test_markdown_is_taken_off_and_prose_out_of_json():
    assert plain("## Steps\n1. Open **it**\n- [here](https://a.example)") == "Steps\nOpen it\nhere https://a.example"
    assert plain('{"id": "x1", "text": "It takes three whole days."}') == "It takes three whole days."


def test_courtesies_weigh_less_than_statements():
    assert weight("I hope this helps.") < weight("The refund of your order arrives within five working days.")
