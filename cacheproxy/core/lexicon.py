"""Rows of alternatives, read once: which side of which row a word stands on, and whether two texts stand apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Places: TypeAlias = "tuple[tuple[int, int], ...]"
"""(row, column) of a word, several when it stands in several rows."""

_UNINFLECTED_LENGTH: Final = 2
_VOWELS: Final = frozenset("aeiou")
_PREFIXES: Final = ("un", "in", "im", "il", "ir", "dis", "non", "mis", "de", "anti")
_SHORTEST_STEM: Final = 4


def inflected(word: str) -> frozenset[str]:
    """A word with its regular endings. Forms that do not exist do no harm: nobody writes them."""
    if len(word) <= _UNINFLECTED_LENGTH or "+" in word:
        return frozenset({word})
    stems = {word}
    if word.endswith("e"):
        stems = {word[:-1]}
    elif word.endswith("y") and word[-2] not in _VOWELS:
        stems = {word[:-1] + "i", word}
    elif word[-1] not in _VOWELS | {"w", "x", "y"} and word[-2] in _VOWELS and word[-3] not in _VOWELS:
        stems = {word, word + word[-1]}
    forms = {stem + ending for stem in stems for ending in ("ed", "ing", "er", "est", "es")}
    return frozenset({word, word + "s"} | forms)


class Lexicon:
    """Looks words up in rows of alternatives (see ``guard_words``). Immutable once built."""

    def __init__(self, rows: Iterable[str], *, inflect: bool = False) -> None:
        places: dict[str, list[tuple[int, int]]] = {}
        for number, row in enumerate(rows):
            for column, words in enumerate(row.split("|")):
                for word in words.split():
                    for form in inflected(word) if inflect else (word,):
                        places.setdefault(form, []).append((number, column))
        self._places: Mapping[str, Places] = {word: tuple(found) for word, found in places.items()}

    def __contains__(self, word: str) -> bool:
        return word in self._places

    def column(self, word: str) -> int:
        """The column of a word in its first row. Raises ``KeyError`` for an unknown word."""
        return self._places[word][0][1]

    def columns(self, words: Iterable[str]) -> Mapping[int, frozenset[int]]:
        """The columns that the words touch, by row."""
        found: dict[int, frozenset[int]] = {}
        for word in words:
            for row, column in self._places.get(word, ()):
                found[row] = found.get(row, frozenset()) | {column}
        return found


def conflicts(a: Mapping[int, frozenset[int]], b: Mapping[int, frozenset[int]]) -> frozenset[int]:
    """The rows in which each text has a column that the other lacks."""
    return frozenset(row for row, mine in a.items() if row in b and mine - b[row] and b[row] - mine)


def prefixed_opposites(a: Iterable[str], b: Iterable[str]) -> bool:
    """Whether a word of one side stands on the other with a negating prefix. The sides share no word."""
    mine, theirs = frozenset(a), frozenset(b)
    return any(
        len(bare := word[len(prefix) :]) >= _SHORTEST_STEM and bare in other
        for one, other in ((mine, theirs), (theirs, mine))
        for word in one
        if word.startswith(_PREFIXES)  # hardly any does
        for prefix in _PREFIXES
        if word.startswith(prefix)
    )
