from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.upstream.simulated import (
    Finish,
    Prompt,
    Tool,
    count_tokens,
    embedding,
    generate,
    knowledge_of,
    marker,
    pieces_of,
)

KNOWLEDGE = knowledge_of(
    [("Where is my card?", "card_arrival"), ("Has my card been sent", "card_arrival"), ("A?", "reverted?")]
)
WEATHER = Tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}})
TIME = Tool("get_time", {"type": "object", "properties": {}})


def ask(question: str = "Where is my card?", **changes) -> Prompt:
    return replace(Prompt(model="m", question=question, context=question, input_tokens=5), **changes)


@given(st.text())
def test_pieces_are_the_text(text):
    assert "".join(pieces_of(text)) == text
    assert count_tokens(text) == len(pieces_of(text))


def test_the_same_prompt_gives_the_same_words():
    assert generate(ask(), KNOWLEDGE) == generate(ask(), KNOWLEDGE)


@pytest.mark.parametrize(
    "other",
    [ask("What else?"), ask(model="n"), ask(context="You are terse. Where is my card?")],
    ids=["question", "model", "context"],
)
def test_another_prompt_gives_other_words(other):
    unknown = replace(other, question=other.question + "!"), ask("Where is my card?!")
    assert generate(unknown[0], {}).text != generate(unknown[1], {}).text


def test_alternatives_to_one_prompt_differ():
    assert len({generate(ask("q"), {}, choice=choice).text for choice in range(4)}) == 4


def test_questions_of_a_class_share_the_answer_but_not_its_words():
    one, other = (
        generate(ask(question), KNOWLEDGE).text for question in ("Where is my card?", "Has my card been sent")
    )
    assert one != other
    shared = "For anything about card arrival"
    assert shared in one
    assert shared in other


@pytest.mark.parametrize("question", ["Where is my card?", "  where IS my\ncard? "])
def test_an_answer_names_the_class_of_its_question(question):
    assert marker(generate(ask(question), KNOWLEDGE).text) == "card_arrival"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("[card_arrival] Good question.", "card_arrival"),
        ("[reverted?] x", "reverted?"),
        ("See [1] for more", None),
        ("[a link](https://example.com)", None),
        ("", None),
    ],
)
def test_only_an_answer_that_begins_with_a_class_names_one(text, label):
    assert marker(text) == label


def test_an_unknown_question_has_no_class_even_if_it_looks_like_one():
    assert marker(generate(ask("[card_arrival] what?"), KNOWLEDGE).text) is None


def test_an_answer_over_the_limit_is_cut_there():
    whole = generate(ask(), KNOWLEDGE)
    cut = generate(ask(max_tokens=5), KNOWLEDGE)
    assert (cut.finish, cut.output_tokens) == (Finish.LENGTH, 5)
    assert whole.text.startswith(cut.text)
    assert generate(ask(max_tokens=whole.output_tokens), KNOWLEDGE) == whole


def test_thoughts_come_first_and_count():
    thinking = generate(ask(thinks=True), KNOWLEDGE)
    assert "".join(thinking.thoughts) == "The question is: Where is my card?"
    assert thinking.output_tokens == len(thinking.thoughts) + len(thinking.pieces)
    cut = generate(ask(thinks=True, max_tokens=2), KNOWLEDGE)
    assert (len(cut.thoughts), cut.pieces, cut.finish) == (2, (), Finish.LENGTH)


@pytest.mark.parametrize(
    ("question", "choice", "called"),
    [
        ("hello", "auto", []),
        ("please get_weather there", "auto", ["get_weather"]),
        ("get weather and get time", "auto", ["get_weather", "get_time"]),
        ("hello", "required", ["get_weather"]),
        ("get time", "required", ["get_time"]),
        ("hello", "get_time", ["get_time"]),
        ("get time", "none", []),
        ("get time", "unheard_of", []),
    ],
)
def test_tools_are_called_when_they_must_or_are_named(question, choice, called):
    generation = generate(ask(question, tools=(WEATHER, TIME), tool_choice=choice), {})
    assert [call.name for call in generation.calls] == called
    assert (generation.finish is Finish.TOOL_CALLS) == bool(called)
    for call in generation.calls:
        assert isinstance(json.loads(call.arguments), dict)


def test_a_tools_result_is_answered_with_words():
    prompt = ask("get weather", tools=(WEATHER,), tool_result="12 degrees")
    assert generate(prompt, {}).text == "The tool answered: 12 degrees"
    assert marker(generate(replace(prompt, question="Where is my card?"), KNOWLEDGE).text) == "card_arrival"


def test_a_structured_answer_is_json_that_names_the_class():
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    answer = json.loads(generate(ask(schema=schema), KNOWLEDGE).text)
    assert marker(answer["answer"]) == "card_arrival"


def test_embeddings_are_unit_vectors_that_follow_from_the_text():
    one, same, other = embedding("a", 256), embedding("a", 256), embedding("b", 256)
    assert one.dtype == np.float32
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(one, same)
    assert abs(float(one @ other)) < 0.3
