from __future__ import annotations

import gzip
from collections import Counter

import pytest

from cacheproxy.errors import BadRequest
from cacheproxy.lab.questions import SAMPLE, Question, classes_of, draw, read_questions


def test_every_spelling_of_a_field_is_read(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text(
        '{"text": "a", "intent": "x", "at": 1}\n\n'
        '{"question": "b", "class": 3}\n'
        '{"prompt": "c", "class": null, "more": []}\n'
    )
    assert read_questions(path) == [Question("a", "x", 1.0), Question("b", "3"), Question("c")]


def test_a_line_may_hold_a_whole_class(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"class": 7, "questions": ["a", "b"]}\n{"text": "c"}\n')
    assert read_questions(path) == [Question("a", "7"), Question("b", "7"), Question("c")]


def test_gzip_is_read(tmp_path):
    path = tmp_path / "questions.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}'))
    assert read_questions(path) == [Question("a")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"text": "a"}\n{', "line 2: this is not JSON"),
        ("[]", "line 1: a line must be a JSON object"),
        ('{"txt": "a"}', "line 1: there is no question"),
        ('{"text": 3}', "line 1: there is no question"),
        ('{"text": "a", "at": "noon"}', "line 1: 'at' must be a number"),
        ('{"questions": ["a"]}', "line 1: 'questions' must be questions of one 'class'"),
        ('{"class": 1, "questions": ["a", 2]}', "line 1: 'questions' must be questions of one 'class'"),
        ("\n", "There are no questions"),
    ],
)
def test_a_file_that_is_none_is_refused_by_its_line(tmp_path, content, says):
    path = tmp_path / "questions.jsonl"
    path.write_text(content)
    with pytest.raises(BadRequest, match=says):
        read_questions(path)


@pytest.mark.parametrize("name", ["missing.jsonl", "broken.jsonl.gz"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / "broken.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(BadRequest, match=name):
        read_questions(tmp_path / name)


def test_the_bundled_sample_is_small_and_even():
    questions = read_questions(SAMPLE)
    assert SAMPLE.stat().st_size <= 300_000
    assert set(Counter(question.label for question in questions).values()) == {40}
    assert len({" ".join(question.text.split()).casefold() for question in questions}) == len(questions)
    assert SAMPLE.with_name("README.md").read_text().count("creativecommons.org/licenses/by/4.0") == 1


def test_only_questions_with_a_class_are_knowledge():
    assert classes_of([Question("a", "x"), Question("b")]) == [("a", "x")]


def test_draws_repeat_with_their_seed_and_favour_a_few():
    questions = [Question(str(number), "x", 1.0) for number in range(100)]
    drawn = draw(questions, 2000, zipf=1.0, seed=1)
    assert drawn == draw(questions, 2000, zipf=1.0, seed=1)
    assert drawn != draw(questions, 2000, zipf=1.0, seed=2)
    counts = [count for _, count in Counter(question.text for question in drawn).most_common()]
    assert counts[0] > 10 * counts[-1]
    assert {question.at_s for question in drawn} == {None}


def test_without_zipf_all_are_drawn_alike():
    counts = Counter(question.text for question in draw([Question("a"), Question("b")], 1000, zipf=0, seed=1))
    assert 400 < counts["a"] < 600
