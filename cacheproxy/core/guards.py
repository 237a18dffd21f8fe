"""Lexical guards: do two prompts differ in a way that embedding similarity does not see?

Cosine similarity hardly notices a digit, a "not", a swapped pair of names. Each guard compares two profiles and
objects when the prompts cannot have the same answer for its reason. Guards are symmetric, never object to a prompt
against itself, and accept any text. They only ever refuse: silence is no proof that two prompts mean the same.
To add a guard write a function of two profiles and add a row to ``GUARDS``; to teach one a word see ``guard_tables``
and ``guard_words``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Final, TypeAlias

from cacheproxy.core import guard_tables as tables
from cacheproxy.core.guard_words import ALTERNATIVES
from cacheproxy.core.lexicon import conflicts, prefixed_opposites
from cacheproxy.core.profile import OPPOSITES_LEXICON, Profile, profile, stem
from cacheproxy.model import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

__all__ = ["GUARDS", "Guard", "Profile", "first_objection", "objections", "profile"]

Check: TypeAlias = "Callable[[Profile, Profile], bool]"
Objecting: TypeAlias = "Callable[[Profile, Profile, Container[Reason]], Reason | None]"
"""``first_objection``, or what stands for it."""

_DEGREE_ROW: Final = next(number for number, row in enumerate(ALTERNATIVES) if row.startswith("more |"))
_DEGREES: Final = frozenset(ALTERNATIVES[_DEGREE_ROW].replace("|", " ").split())
_SHARED_ROOT: Final = 4
_ACRONYM: Final = 3
_LONGEST_BLOCK: Final = 3
"""Words of a phrase that may change places with another: "the prime minister" and "the king"."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One kind of difference. ``objects`` says whether two prompts differ in it."""

    reason: Reason
    objects: Check


def objections(a: str, b: str, *, disabled: Container[Reason] = ()) -> tuple[Reason, ...]:
    """Every reason for which ``a`` and ``b`` must not share an answer, in the order of ``GUARDS``."""
    one, other = profile(a), profile(b)
    if one.text == other.text:
        return ()
    return tuple(guard.reason for guard in GUARDS if guard.reason not in disabled and guard.objects(one, other))


def first_objection(query: Profile, candidate: Profile, disabled: Container[Reason] = ()) -> Reason | None:
    """The first such reason, cheapest guards first; None when no guard objects."""
    if query.text == candidate.text:
        return None
    for guard in GUARDS:
        if guard.reason not in disabled and guard.objects(query, candidate):
            return guard.reason
    return None


def _language(a: Profile, b: Profile) -> bool:
    if a.script != b.script and a.script and b.script:
        return True
    if a.language != b.language and a.language and b.language:
        return True
    return a.languages != b.languages


def _numbers(a: Profile, b: Profile) -> bool:
    mine, theirs = Counter(a.quantities.numbers), Counter(b.quantities.numbers)
    return mine != theirs and bool(_unexplained(mine - theirs, b) or _unexplained(theirs - mine, a))


def _unexplained(numbers: Counter[str], other: Profile) -> bool:
    """Whether there is more than a lone 1 that the other text tells in a word."""
    return bool(numbers) and (set(numbers) != {"1"} or tables.ONE_WORDS.isdisjoint(other.words))


def _units(a: Profile, b: Profile) -> bool:
    return a.quantities.units != b.quantities.units


def _dates(a: Profile, b: Profile) -> bool:
    return a.quantities.dates != b.quantities.dates


def _ids(a: Profile, b: Profile) -> bool:
    return a.ids != b.ids or a.unread != b.unread


def _code(a: Profile, b: Profile) -> bool:
    if a.expressions != b.expressions:
        return True
    return any(item.rstrip("()") not in b.folded for item in a.code) or any(
        item.rstrip("()") not in a.folded for item in b.code
    )


def _negation(a: Profile, b: Profile) -> bool:
    return a.negations != b.negations


def _antonyms(a: Profile, b: Profile) -> bool:
    mine, theirs = a.vocabulary - b.vocabulary, b.vocabulary - a.vocabulary
    if not mine and not theirs:
        return False
    if not tables.ALTERING.isdisjoint(mine | theirs) or prefixed_opposites(mine, theirs):
        return True
    if _inserted_modifier(a.words, b.words) or _inserted_modifier(b.words, a.words):
        return True
    opposed = conflicts(a.opposites, b.opposites)
    exclusive = conflicts(a.alternatives, b.alternatives)
    if exclusive == {_DEGREE_ROW} and opposed:
        return not _cancels(a.words, b.words)
    return bool(opposed or exclusive)


def _cancels(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether "more rude" stands against "less polite": two opposites in one place say the same."""
    graded = [[after for word, after in pairwise(words) if word in _DEGREES] for words in (a, b)]
    return bool(conflicts(*(OPPOSITES_LEXICON.columns(words) for words in graded)))


def _inserted_modifier(short: Sequence[str], long: Sequence[str]) -> bool:
    """Whether ``long`` is ``short`` with one telling word between an article and a noun: "a (bad) actor"."""
    if len(long) != len(short) + 1:
        return False
    plain = ["a" if word in tables.ARTICLES else word for word in short]
    other = ["a" if word in tables.ARTICLES else word for word in long]
    at = next((at for at, word in enumerate(plain) if word != other[at]), len(plain))
    if at == 0 or other[at + 1 :] != plain[at:] or other[at - 1] != "a":
        return False
    word = other[at]
    return not word.endswith("ly") and word not in tables.HARMLESS_MODIFIERS and word not in tables.STOP_WORDS


def _entities(a: Profile, b: Profile) -> bool:
    if any(quote not in b.folded for quote in a.quotes) or any(quote not in a.folded for quote in b.quotes):
        return True
    if conflicts(a.known_names, b.known_names):
        return True
    mine, theirs = missing_names(a.names, b), missing_names(b.names, a)
    return bool((mine and theirs) or _essential(mine, b) or _essential(theirs, a))


def missing_names(names: Iterable[tuple[str, ...]], other: Profile) -> list[tuple[str, ...]]:
    """The names of which a part is missing, unless their initials are there."""
    return [
        name
        for name in names
        if not all(_named(word, other) for word in name)
        and not (len(name) > 1 and "".join(word[0] for word in name) in other.vocabulary)
    ]


def _essential(missing: Iterable[tuple[str, ...]], other: Profile) -> bool:
    """Whether a name is missing whole; a surname alone ("Curie" for "Marie Curie") still names somebody."""
    return any(len(name) == 1 or not _named(name[-1], other) for name in missing)


def _named(word: str, other: Profile) -> bool:
    """Whether the other text has the word, an alias of it, or a form of it: India, Indian, Indians."""
    if word in other.vocabulary or stem(word) in other.stems or (len(word) >= _ACRONYM and word in other.initials):
        return True
    if any(alias in other.vocabulary for alias in tables.ALIASES.get(word, ())):
        return True
    if any(word == "".join(part[0] for part in name) for name in other.names):
        return True
    shortest = max(_SHARED_ROOT, len(word) - 1)
    if len(word) >= _SHARED_ROOT and word[:shortest] in other.prefixes:
        return True
    return any(word[:length] in other.trimmed for length in range(_SHARED_ROOT, len(word)))


def _roles(a: Profile, b: Profile) -> bool:
    if a.genders != b.genders and a.genders and b.genders:
        return True
    if _joined_otherwise(a.words, b.words) or _joined_otherwise(b.words, a.words):
        return True
    mine, theirs = _directed(a.words), _directed(b.words)
    if any((right, left) in theirs - mine for left, right in mine - theirs):
        return True
    if sorted(a.content) != sorted(b.content):
        return False
    if a.content == b.content:
        return a.passive != b.passive
    return _swapped(a, b)


def _joined_otherwise(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether one text says "or" where the other says "and"."""
    return "or" in a and "or" not in b and b.count("and") > a.count("and") and "between" not in b


def _directed(words: Sequence[str]) -> frozenset[tuple[str, str]]:
    """What stands left and right of "to", "than" ...; "X from Y" is read as "Y to X"."""
    pairs: set[tuple[str, str]] = set()
    for left, connector, right in zip(words, words[1:], words[2:], strict=False):
        if connector in tables.DIRECTED_CONNECTORS and left not in tables.STOP_WORDS and right not in tables.STOP_WORDS:
            pair = (stem(left), stem(right))
            pairs.add(pair[::-1] if connector == "from" else pair)
    return frozenset(pair for pair in pairs if pair[0] != pair[1])


def _swapped(a: Profile, b: Profile) -> bool:
    """Whether two phrases of the same content words have changed places, and that changes who does what to whom."""
    mine, theirs = a.content, b.content
    start = _common(mine, theirs)
    end = len(mine) - _common(mine[::-1], theirs[::-1])
    longest = min(_LONGEST_BLOCK, end - start - 1)
    for left, right in product(range(1, longest + 1), repeat=2):
        if left + right > end - start:
            continue
        middle = mine[start + left : end - right]
        if theirs[start:end] != mine[end - right : end] + middle + mine[start : start + left]:
            continue
        if middle:  # a verb, a measure, the rest of a list
            if a.passive == b.passive and not (_interchangeable(a, start, end) and _interchangeable(b, start, end)):
                return True
        elif tables.DIRECTED_CONNECTORS & _between(a, start + left) & _between(b, start + right):
            return True
    return False


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words two different sequences share at their start."""
    return next(at for at, (mine, theirs) in enumerate(zip(a, b, strict=True)) if mine != theirs)


def _interchangeable(text: Profile, start: int, end: int) -> bool:
    """Whether some content words are a mere list, or held together by a relation that reads the same both ways."""
    first, *_, last = positions = text.content_at[start:end]
    if any(text.words[at] in tables.SYMMETRIC_RELATIONS for at in positions[1:-1]):
        return True
    between = set(text.words[first:last]) - {text.words[at] for at in positions}
    return bool(between) and between <= tables.SYMMETRIC_CONNECTORS


def _between(text: Profile, at: int) -> frozenset[str]:
    """The words between a content word and the one before it."""
    return frozenset(text.words[text.content_at[at - 1] + 1 : text.content_at[at]])


GUARDS: Final[tuple[Guard, ...]] = (
    Guard(Reason.GUARD_NUMBERS, _numbers),
    Guard(Reason.GUARD_UNITS, _units),
    Guard(Reason.GUARD_DATES, _dates),
    Guard(Reason.GUARD_IDS, _ids),
    Guard(Reason.GUARD_CODE, _code),
    Guard(Reason.GUARD_NEGATION, _negation),
    Guard(Reason.GUARD_LANGUAGE, _language),
    Guard(Reason.GUARD_ANTONYMS, _antonyms),
    Guard(Reason.GUARD_ENTITIES, _entities),
    Guard(Reason.GUARD_ROLES, _roles),
)
"""Every guard, the cheaper ones first."""
