from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.backend.engine import Ask, Finish, Step, Token
from cacheproxy.backend.prompts import Prompt
from cacheproxy.backend.speech import End, EndReason, Said, StopFilter, joined, speak


def steps_of(tokenizer, text, size=1):
    ids = tokenizer.encode(text, add_special_tokens=False)
    return [Step(tuple(Token(number) for number in ids[start : start + size])) for start in range(0, len(ids), size)]


def told(speech, steps, finish=Finish.STOP):
    said = []
    for step in steps:
        said.append(speech.feed(step))
        if speech.stopped:
            break
    rest, end = speech.rest(finish)
    return joined([*said, rest]), end


@pytest.fixture
def speech(prompter):
    return lambda *stops, **prompt: prompter.speech(Prompt((1,), **prompt), stops)


@given(st.text(alphabet="ab ", max_size=40), st.lists(st.text(alphabet="ab ", min_size=1, max_size=4), max_size=3))
def test_text_is_cut_where_the_first_stop_string_begins(text, stops):
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    for size in (1, 3, 50):
        kept = StopFilter(stops)
        out = ""
        for start in range(0, len(text), size):
            out += kept.feed(text[start : start + size])
            if kept.met is not None:
                break
        out += kept.rest() if kept.met is None else ""
        if not places:
            assert (out, kept.met) == (text, None)
        elif len(stops) == 1:
            assert (out, kept.met) == (text[: places[0]], stops[0])


@pytest.mark.parametrize("size", [1, 2, 7])
def test_text_comes_out_as_it_went_in(tokenizer, speech, size):
    text = "Grüße, 世界! 🙂 It is sunny in Rome."
    said, end = told(speech(), steps_of(tokenizer, text + "<|im_end|>", size))
    assert said.text == text
    assert end == End(EndReason.STOP, len(tokenizer.encode(text + "<|im_end|>")))
    assert len(said.tokens) == end.output_tokens - 1


def test_half_a_character_is_never_told(tokenizer, speech):
    steps = steps_of(tokenizer, "🙂")
    assert len(steps) > 1
    said, _ = told(speech(), steps[:-1], Finish.LENGTH)
    assert said.text == ""


def test_a_stop_string_ends_it_and_counts_only_what_it_took(tokenizer, speech):
    steps = steps_of(tokenizer, "It is sunny in Rome.", size=100)
    said, end = told(speech("sunny", "Rome"), steps)
    assert said.text == "It is "
    assert end.reason is EndReason.STOP_STRING
    assert end.stop == "sunny"
    assert end.output_tokens < len(steps[0].tokens)


def test_the_start_of_a_stop_string_is_told_when_it_was_none(tokenizer, speech):
    said, end = told(speech("Rome!"), steps_of(tokenizer, "in Rome."))
    assert (said.text, end.reason) == ("in Rome.", EndReason.STOP)
    said, _ = told(speech("Rome!"), steps_of(tokenizer, "in Rome"))
    assert said.text == "in Rome"


def test_calls_are_found_and_are_no_text(tokenizer, speech):
    text = 'I look.<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>'
    said, end = told(speech(text="", tools=()), steps_of(tokenizer, text))
    assert said.text == "I look."
    assert [(call.name, call.arguments) for call in said.calls] == [("weather", '{"city": "Rome"}')]
    assert end.reason is EndReason.TOOL_CALLS


def test_an_answer_that_was_cut_is_no_call(tokenizer, speech):
    said, end = told(speech(text=""), steps_of(tokenizer, "Well"), Finish.LENGTH)
    assert (said.text, end.reason) == ("Well", EndReason.LENGTH)


class Scripted:
    """An engine that says what it was given, and notes when it is left."""

    def __init__(self, steps):
        self.steps = steps
        self.left = False

    async def generate(self, ask):
        try:
            for step in self.steps:
                yield step
        finally:
            self.left = True


async def test_speaking_leaves_the_engine_at_a_stop_string(tokenizer, speech):
    engine = Scripted(steps_of(tokenizer, "It is sunny in Rome. And so on."))
    parts = [part async for part in speak(engine, Ask((1,), 9), speech("sunny"))]
    assert engine.left
    assert joined(part for part in parts if isinstance(part, Said)).text == "It is "
    assert parts[-1].reason is EndReason.STOP_STRING
