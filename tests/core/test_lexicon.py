"""Rows of alternatives: sides, inflection, conflicts."""

from __future__ import annotations

import pytest

from cacheproxy.core.lexicon import Lexicon, conflicts, inflected, prefixed_opposites

LEXICON = Lexicon(("hot warm | cold", "tea | coffee | milk"))


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("enable", {"enables", "enabled", "enabling"}),
        ("stop", {"stops", "stopped", "stopping"}),
        ("deny", {"denies", "denied", "denying"}),
        ("pass", {"passes", "passed", "passing"}),
        ("show", {"shows", "showed", "showing"}),
        ("big", {"bigger", "biggest"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_word_is_known_in_its_regular_forms(word, forms):
    assert forms | {word} <= inflected(word)


@pytest.mark.parametrize("word", ["on", "up", "turn+on"])
def test_particles_and_phrasal_verbs_are_not_inflected(word):
    assert inflected(word) == {word}


@pytest.mark.parametrize(
    ("a", "b", "rows"),
    [
        ("warm", "cold", {0}),
        ("hot", "warm", set()),
        ("hot tea", "cold coffee", {0, 1}),
        ("tea", "tea milk", set()),
        ("tea milk", "coffee milk", {1}),
        ("hot cold", "cold", set()),
        ("hot", "tea", set()),
    ],
)
def test_texts_conflict_where_each_has_a_side_that_the_other_lacks(a, b, rows):
    one, other = LEXICON.columns(a.split()), LEXICON.columns(b.split())
    assert conflicts(one, other) == conflicts(other, one) == rows


def test_a_word_has_a_column_and_an_unknown_word_has_none():
    assert LEXICON.column("milk") == 2
    assert "milk" in LEXICON
    assert "rice" not in LEXICON
    with pytest.raises(KeyError):
        LEXICON.column("rice")


@pytest.mark.parametrize(
    ("a", "b", "opposed"),
    [("legal", "illegal", True), ("unfair", "fair", True), ("fair", "legal", False), ("fit", "unfit", False)],
)
def test_a_negating_prefix_makes_an_opposite_of_a_word_of_some_length(a, b, opposed):
    assert prefixed_opposites([a], [b]) is prefixed_opposites([b], [a]) is opposed
