"""What a profile reads out of a prompt."""

from __future__ import annotations

import pytest

from cacheproxy.core.profile import profile, stem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Can't you?", ["can", "not", "you"]),
        ("what\N{RIGHT SINGLE QUOTATION MARK}s new", ["what", "is", "new"]),
        ("Anna's hat", ["anna", "hat"]),
        ("we'll see", ["we", "will", "see"]),
        ("How come?", ["why"]),
        ("O'Hara sings", ["o'hara", "sings"]),
        ("the U.S. senate", ["the", "us", "senate"]),
    ],
)
def test_words_are_spelled_out(text, words):
    assert list(profile(text).words) == words


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Did Marie Curie meet Albert?", [("marie", "curie"), ("albert",)]),
        ("Explain recursion", []),
        ("Oslo is cold", [("oslo",)]),
        ("This is cold", []),
        ("Norway's fjords. Explain them", [("norway",)]),
        ("How Do I Cook My Rice", []),
        ("HOW TO COOK RICE", []),
        ("I think I'm lost", []),
        ("who runs the BBC", [("bbc",)]),
        ("where is oslo", []),
    ],
)
def test_names_are_capitals_that_a_sentence_does_not_explain(text, names):
    assert list(profile(text).names) == names


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("run main.py", {"main.py"}),
        ("run it.", set()),
        ("I lied.What now", set()),
        ("call get_user()", {"get_user()"}),
        ("call `a b`", {"a b"}),
        ("in /etc/hosts", {"/etc/hosts"}),
        ("and/or", set()),
        ("at https://a.example/?q=1", {"https://a.example/?q=1"}),
        ("version 1.2.3", {"1.2.3"}),
        ("parseJson fails", {"parsejson"}),
        ("std::vector", {"std::vector"}),
        ("C++ or .NET", {"c++", ".net"}),
        ("with --force", {"--force"}),
    ],
)
def test_code_is_what_no_sentence_is_made_of(text, code):
    assert profile(text).code == code


@pytest.mark.parametrize(
    ("text", "ids"),
    [("order #123", {"#123"}), ("AB-12-XY", {"ab12xy"}), ("covid-19", set()), ("5pm", set()), ("10k-12k", set())],
)
def test_ids_mix_letters_and_digits(text, ids):
    assert profile(text).ids == ids


@pytest.mark.parametrize(
    ("text", "expressions"),
    [
        ("2 + 2", {"2+2"}),
        ("x=y", {"x=y"}),
        ("well-known", set()),
        ("5/3/2024", set()),
        ("he - the boss - left", set()),
        ("It was 2024-05-03.", set()),
    ],
)
def test_expressions_lose_their_spaces(text, expressions):
    assert profile(text).expressions == expressions


@pytest.mark.parametrize(
    ("text", "count"),
    [("not", 1), ("I don't know why", 0), ("whether or not", 0), ("never without", 2), ("knot", 0), ("no idea", 0)],
)
def test_negations_that_negate_are_counted(text, count):
    assert profile(text).negations == count


@pytest.mark.parametrize(
    ("text", "passive"),
    [("was beaten by him", True), ("was praised by him", True), ("sat by him", False), ("who is it made by", False)],
)
def test_the_passive_names_who_acts(text, passive):
    assert profile(text).passive is passive


@pytest.mark.parametrize(
    ("text", "script", "language"),
    [
        ("what is the way to do it", "latin", "en"),
        ("was ist die Summe und wie kann ich das", "latin", "de"),
        ("привет", "cyrillic", ""),
        ("こんにちは", "kana", ""),
        ("12", "", ""),
        ("hello", "latin", ""),
    ],
)
def test_script_and_language(text, script, language):
    read = profile(text)
    assert (read.script, read.language) == (script, language)


def test_phrasal_verbs_are_joined_with_their_particle():
    assert "turn+off" in profile("turning the old lamp off").vocabulary


@pytest.mark.parametrize(
    "forms", ["raise raised raises raising", "stop stopped stops stopping", "beat beaten", "carry carries carried"]
)
def test_forms_of_a_word_share_their_stem(forms):
    assert len({stem(form) for form in forms.split()}) == 1
