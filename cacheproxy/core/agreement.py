"""What the words alone tell about two answers to one question: are they equal, and do they state the same facts?

``same_answer`` compares what has one right spelling: values, short answers, JSON. ``facts`` lists the facts of
longer answers that only one of them states, and ``objection`` says what keeps two sentences of nearly the same words
from saying the same. All of it stands on the guards' reading of a text (``profile``). Pure, symmetric, and any text is
accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cacheproxy.core import guard_tables as tables
from cacheproxy.core.guards import missing_names, objections
from cacheproxy.core.profile import Profile, profile
from cacheproxy.core.quantities import canonical
from cacheproxy.jsontext import parse
from cacheproxy.model import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cacheproxy.jsontext import Json

_SHORT: Final = 3
"""Words up to which an answer is a value ("Paris", "42 euros"), so that another wording is another answer."""
_PROSE: Final = 4
"""Words from which a string inside JSON is read as prose."""

_FENCED: Final = re.compile(r"```[^\n`]*\n(?P<block>.*?)```|`(?P<span>[^`\n]+)`", re.DOTALL)
_WRAPPED: Final = re.compile(r"\s*```(?:json)?\s*\n(?P<inside>.*)\n\s*```\s*", re.DOTALL)
_LINK: Final = re.compile(r"\[([^\[\]\n]{1,200})\]\(([^()\s]{1,500})\)")
_LINE_MARK: Final = re.compile(r"^[ \t]*(?:#{1,6}|>|[-*+\u2022]|\d{1,2}[.)])[ \t]+(?=\S)", re.MULTILINE)
_MENU: Final = re.compile(r"(?<=[^\W\d_])[*_]*\s*(?:>|\u2192|\u00bb)\s*[*_]*(?=[^\W\d_])")
"""The arrow in "Settings > Security", which compares nothing."""
_EMPHASIS: Final = re.compile(r"\*\*|__|~~")
_RANGE_DASH: Final = re.compile(r"(?<=\d)\s?[\u2013\u2014]\s?(?=\d)")
_LONG_DASH: Final = re.compile(r"[\u2013\u2014]")
_LEFT_EDGES: Final = ",;:!?\"'([{*_\u2026|"
_RIGHT_EDGES: Final = ".,;:!?\"')]}*_\u2026|"
_NUMBER: Final = re.compile(
    r"(?P<before>[-+]?[$\u20ac\u00a3\u00a5]?)(?P<digits>\d[\d,]*(?:\.\d+)?|\.\d+)(?P<after>\D*)"
)
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
_LEAD_INS: Final = tuple(
    tuple(words.split())
    for words in ("answer is", "final answer is", "final answer", "answer", "it is", "it's", "that is", "that's")
)
_SENTENCE: Final = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^\sa-z])|(?<=[\u3002\uff01\uff1f])|\s*\n\s*")
_FRAGMENT: Final = 3
"""Words under which a line is no sentence: a heading, a label. It is read with what follows it."""
_YES: Final = frozenset({"yes", "yeah", "yep"})
_NO: Final = frozenset({"no", "nope"})
_AT_MOST: Final = re.compile(r"\b(?:no|not) (?:more|longer|later) than\b", re.IGNORECASE)
_AT_LEAST: Final = re.compile(r"\b(?:no|not) (?:less|fewer|earlier) than\b", re.IGNORECASE)
_HARMLESS: Final = frozenset({Reason.GUARD_LANGUAGE})
"""Naming a language in one answer only is a detail; two languages are told apart by their similarity."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Facts of one kind that only one of two answers states, or each its own. ``kind`` is the guard that knows them."""

    kind: Reason
    cached: frozenset[str]
    fresh: frozenset[str]

    @property
    def contradicts(self) -> bool:
        """Whether each answer says something that the other does not; else one of them merely says less."""
        return bool(self.cached and self.fresh)

    def __str__(self) -> str:
        name = self.kind.value.removeprefix("guard-")
        return f"{name}: {_told(self.cached)} against {_told(self.fresh)}"


@dataclass(frozen=True, slots=True)
class Facts:
    """How two answers stand to each other in what can be counted."""

    disagreements: tuple[Disagreement, ...]
    shared: int
    """Facts that both state."""

    @property
    def contradictions(self) -> tuple[Disagreement, ...]:
        """Those kinds in which each says something of its own."""
        return tuple(found for found in self.disagreements if found.contradicts)

    @property
    def lone(self) -> int:
        """How many facts only one answer states."""
        return sum(len(found.cached) + len(found.fresh) for found in self.disagreements)


def same_answer(cached: str, fresh: str) -> bool | None:
    """Whether two answers are equal but for their spelling; None where the spelling cannot tell.

    Spelling is case, spaces, punctuation, Markdown, the order of JSON's members, 1,000 for 1000.0, and "The answer is"
    in front. Unequal ones are different (False) when both are JSON, or both are values of up to three words of which
    neither holds the other.
    """
    one, other = _json(cached), _json(fresh)
    if one is not None and other is not None:
        return _same_value(one, other)
    return _same_text(cached, fresh)


def plain(text: str) -> str:
    """An answer's text without Markdown; of JSON, the strings in it that are prose."""
    value = _json(text)
    if value is not None and (prose := [leaf for leaf in _strings(value) if len(leaf.split()) >= _PROSE]):
        text = "\n".join(prose)
    text = _LINK.sub(r"\1 \2", _LINE_MARK.sub("", profile(text).text))
    text = _EMPHASIS.sub("", _MENU.sub(", ", text))
    return text.replace("\u00b0C", " degrees Celsius").replace("\u00b0F", " degrees Fahrenheit")


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a plain text, list items and lines among them; a fragment stays with what follows it."""
    found: list[str] = []
    waiting = ""
    for part in _SENTENCE.split(text):
        if not part.strip():
            continue
        waiting = f"{waiting} {part.strip()}".strip()
        if len(waiting.split()) >= _FRAGMENT:
            found.append(waiting)
            waiting = ""
    if waiting:
        found[-1:] = [f"{found[-1]} {waiting}"] if found else [waiting]
    return tuple(found)


def facts(question: str, cached: str, fresh: str) -> Facts:
    """Numbers, units, dates, ids, code, names, yes or no: what both plain texts state, and what only one does.

    What the question holds already is no disagreement where only one answer repeats it.
    """
    one, other, asked = profile(cached), profile(fresh), _stated(profile(question))
    mine, theirs = _stated(one), _stated(other)
    named, named_too = _names(cached), _names(fresh)
    names = frozenset(map(" ".join, missing_names(named, other)))
    others = frozenset(map(" ".join, missing_names(named_too, one)))
    found = [Disagreement(kind, mine[kind] - theirs[kind], theirs[kind] - mine[kind]) for kind in mine]
    found = [_explained(gap, one, other) for gap in found] + [Disagreement(Reason.GUARD_ENTITIES, names, others)]
    disagreements = tuple(
        gap for gap in found if gap.contradicts or (gap.cached | gap.fresh) - asked.get(gap.kind, frozenset())
    )
    shared = sum(len(mine[kind] & theirs[kind]) for kind in mine)
    shared += min(len(named) - len(names), len(named_too) - len(others))
    return Facts(disagreements, shared)


def objection(cached: str, fresh: str) -> Reason | None:
    """What keeps a sentence from saying what its near copy says: another number, a "not", an opposite, other roles."""
    found = objections(_bounded(cached), _bounded(fresh), disabled=_HARMLESS)
    return found[0] if found else None


def weight(sentence: str) -> int:
    """How many words with a meaning a sentence has."""
    return len(profile(sentence).content)


def _json(text: str) -> Json | None:
    """The object or array that a text is, a fence around it or not; None for anything else."""
    inside = found["inside"] if (found := _WRAPPED.fullmatch(text)) else text
    inside = inside.strip()
    if not inside.startswith(("{", "[")):
        return None
    try:
        return parse(inside.encode())
    except (ValueError, UnicodeEncodeError):
        return None


def _same_value(one: Json, other: Json) -> bool | None:
    verdict: bool | None = True
    waiting: list[tuple[Json, Json]] = [(one, other)]  # no recursion: JSON may be nested deeper than Python's stack
    while waiting:
        match waiting.pop():
            case dict() as mine, dict() as theirs:
                if mine.keys() != theirs.keys():
                    return False
                waiting.extend((mine[name], theirs[name]) for name in mine)
            case list() as mine, list() as theirs:
                if len(mine) != len(theirs):
                    return False
                waiting.extend(zip(mine, theirs, strict=True))
            case str() as mine, str() as theirs:
                same = _same_text(mine, theirs)
                if same is False:
                    return False
                verdict = verdict and same
            case mine, theirs:
                if mine != theirs or isinstance(mine, bool) != isinstance(theirs, bool):
                    return False
    return verdict


def _same_text(cached: str, fresh: str) -> bool | None:
    mine, theirs = _canonical(cached), _canonical(fresh)
    if mine == theirs:
        return True if mine else cached.strip() == fresh.strip()
    if not mine or not theirs:
        return False
    if max(len(mine), len(theirs)) > _SHORT or any(" " in word or "\n" in word for word in (*mine, *theirs)):
        return None  # prose, or code
    one, other = profile(cached), profile(fresh)
    if one.negations != other.negations:
        return False
    if set(mine) <= set(theirs) or set(theirs) <= set(mine):
        return None  # "Paris" and "Paris, France"
    counted, spelled = one.quantities, any(map(str.isalpha, {*mine} ^ {*theirs}))
    if spelled and counted == other.quantities and (counted.numbers or counted.dates):
        return None  # "3 days" and "three days"
    return False


def _canonical(text: str) -> tuple[str, ...]:
    """The words of an answer in one spelling; a piece of code is one word, as it stands."""
    words: list[str] = []
    text, end = profile(text).text, 0
    for found in _FENCED.finditer(text):
        words.extend(_words(text[end : found.start()]))
        code = found["span"] if found["block"] is None else found["block"]
        if len(code.split()) == 1:
            words.extend(_words(code))
        else:
            words.append("\n".join(line.rstrip() for line in code.strip().splitlines()))
        end = found.end()
    words.extend(_words(text[end:]))
    for lead_in in _LEAD_INS:
        if tuple(words[: len(lead_in)]) == lead_in and len(words) > len(lead_in):
            return tuple(words[len(lead_in) :])
    return tuple(words)


def _words(text: str) -> Iterator[str]:
    text = _LINK.sub(r"\1 \2", _LINE_MARK.sub("", text))
    text = _LONG_DASH.sub(" ", _RANGE_DASH.sub("-", _EMPHASIS.sub("", text)))
    before = ""
    for piece in text.casefold().split():
        word = _number(piece.lstrip(_LEFT_EDGES).rstrip(_RIGHT_EDGES))
        dash = word == "-" and not before[-1:].isdigit()  # between numbers it is a minus
        if word and not dash and word not in _ARTICLES:
            yield word
        before = word


_ARTICLES: Final = tables.ARTICLES | {"the"}


def _number(word: str) -> str:
    found = _NUMBER.fullmatch(word)
    if found is None or not _THOUSANDS.fullmatch(found["digits"]):
        return word
    return f"{found['before']}{canonical(found['digits'])}{found['after']}"


def _strings(value: Json) -> Iterator[str]:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as members:
                waiting.extend(reversed(members.values()))
            case list() as items:
                waiting.extend(reversed(items))
            case str() as text:
                yield text
            case _:
                pass


def _stated(read: Profile) -> dict[Reason, frozenset[str]]:
    """The facts of a text by their kinds, names apart."""
    quantities = read.quantities
    return {
        Reason.GUARD_NUMBERS: frozenset(quantities.numbers),
        Reason.GUARD_UNITS: frozenset(f"unit {unit}" for unit in quantities.units),
        Reason.GUARD_DATES: frozenset(map(" ".join, quantities.dates)),
        Reason.GUARD_IDS: read.ids,
        Reason.GUARD_CODE: frozenset(item.rstrip("()") for item in read.code | read.expressions),
        Reason.GUARD_NEGATION: _polarity(read),
    }


def _names(text: str) -> frozenset[tuple[str, ...]]:
    """The names in a text, read sentence by sentence: only there a capital at the start is told from a name."""
    return frozenset(name for sentence in sentences(text) for name in profile(sentence).names)


def _bounded(sentence: str) -> str:
    """A sentence in which "no more than" is said as "at most", which it does not deny."""
    return _AT_LEAST.sub("at least", _AT_MOST.sub("at most", sentence))


def _polarity(read: Profile) -> frozenset[str]:
    """The yes or no that an answer begins with."""
    first = read.words[0] if read.words else ""
    return frozenset({"yes"} if first in _YES else {"no"} if first in _NO else ())


def _explained(gap: Disagreement, one: Profile, other: Profile) -> Disagreement:
    """Without a lone 1 that the other text tells in a word, and without code that it tells as plain text."""
    if gap.kind is Reason.GUARD_NUMBERS and not gap.contradicts and gap.cached | gap.fresh == {"1"}:
        silent = other if gap.cached else one
        if not tables.ONE_WORDS.isdisjoint(silent.words):
            return Disagreement(gap.kind, frozenset(), frozenset())
    if gap.kind is Reason.GUARD_CODE:
        return Disagreement(
            gap.kind,
            frozenset(item for item in gap.cached if item not in other.folded),
            frozenset(item for item in gap.fresh if item not in one.folded),
        )
    return gap


def _told(items: frozenset[str]) -> str:
    return ", ".join(sorted(items)) or "nothing"
