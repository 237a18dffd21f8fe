"""Numbers, units and dates in a prompt, each told in one way: "three" is 3, "1k" is 1,000, "3rd of May" is May 3."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from cacheproxy.core import guard_tables as tables
from cacheproxy.core.lexicon import Lexicon

_UNITS: Final = Lexicon((tables.UNITS,))
_MONTHS: Final = Lexicon((tables.MONTHS,))
_WEEKDAYS: Final = Lexicon((tables.WEEKDAYS,))
_SYMBOLS: Final = {symbol: -number for number, symbol in enumerate(sorted(tables.UNIT_SYMBOLS), 1)}
_ORDINAL_ENDINGS: Final = frozenset({"st", "nd", "rd", "th"})
_HALVES: Final = frozenset({"am", "pm"})
_FIRST_YEAR, _LAST_YEAR = "1800", "2099"
_MOST_DAYS: Final = 31
_EXACT_DIGITS: Final = 15
_NOON: Final = 12
_TEN, _HUNDRED = 10, 100


class Token(NamedTuple):
    """One word, number or sign of a prompt. ``kind``: word, number, sign, iso, slashed or clock."""

    kind: str
    text: str
    """Case folded."""
    capital: bool
    upper: bool
    initial: bool
    """Whether a sentence starts with it."""


@dataclass(frozen=True, slots=True)
class Quantities:
    """What a prompt counts, in which units, and when. Equal quantities compare equal however they were worded."""

    numbers: tuple[str, ...]
    """Sorted, with repeats."""
    units: frozenset[int]
    dates: frozenset[tuple[str, str]]
    """Parts of dates: (year, 2024), (month, 5), (weekday, 0), (time, 17:30), (day, 3) ..."""


def canonical(number: str, factor: int = 1) -> str:
    """``1,000`` and ``1000.0`` alike. A leading zero is kept, and so are more digits than a float holds."""
    plain = number.replace(",", "")
    if len(plain) > _EXACT_DIGITS or (plain.startswith("0") and plain[1:2].isdigit()):
        return plain
    return f"{float(plain) * factor:.15g}"


def read_quantities(tokens: tuple[Token, ...]) -> Quantities:
    """One pass over the tokens. What is part of a date is not counted as a number too."""
    reading = _Reading(tokens)
    at = 0
    while at < len(tokens):
        at += reading.take(at)
    return Quantities(tuple(sorted(reading.numbers)), frozenset(reading.units), frozenset(reading.dates))


class _Reading:
    """The pass: each ``take`` reads what starts at a token and says how many tokens that was."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._texts = ["", *(token.text for token in tokens), "", "", ""]  # position 0 stands before the first token
        self.numbers: list[str] = []
        self.units: set[int] = set()
        self.dates: set[tuple[str, str]] = set()

    def take(self, at: int) -> int:
        token = self._tokens[at]
        before, _, after = self._texts[at : at + 3]
        match token.kind:
            case "iso":
                parts = (str(int(part)) for part in token.text.split("-"))
                self.dates.update(zip(("year", "month", "day"), parts, strict=True))
                return 1
            case "slashed":
                self.dates.add(("date", ".".join(str(int(part)) for part in re.split(r"[/.]", token.text))))
                return 1
            case "clock":
                return 1 + self._time(token.text, after)
            case "number":
                return self._number(at)
            case "sign":
                self.units.add(_UNITS.column(token.text))
                return 1
            case _ if token.text in tables.NUMBER_WORDS:
                return self._number_words(at)
            case _:
                self._word(token, before, after)
                return 1

    def _time(self, clock: str, half: str) -> int:
        """``5:30 pm`` and ``17:30`` alike. Returns how many tokens beside the clock were read."""
        hour, _, minute = clock.partition(":")
        hours = int(hour)
        if half in _HALVES:
            hours = hours % _NOON + (_NOON if half == "pm" else 0)
        self.dates.add(("time", f"{hours}:{int(minute or 0):02d}"))
        return int(half in _HALVES)

    def _number(self, at: int) -> int:
        text = self._tokens[at].text
        before, _, after, later = self._texts[at : at + 4]
        whole = text.isdecimal()
        if whole and after in _HALVES and int(text[:3]) <= _NOON:
            return 1 + self._time(text, after)
        taken = 1
        if after in _ORDINAL_ENDINGS:
            taken, after, later = 2, later, self._texts[at + 4]
        month_near = before in _MONTHS or after in _MONTHS or (after == "of" and later in _MONTHS)
        if month_near and whole and len(text) <= len(str(_MOST_DAYS)):
            self.dates.add(("day", str(int(text))))
            return taken
        if (
            whole
            and len(text) == len(_LAST_YEAR)
            and _FIRST_YEAR <= text <= _LAST_YEAR
            and not self._measured(before, after)
        ):
            self.dates.add(("year", text))
            return taken
        return taken + self._scaled(text, after, later)

    def _measured(self, before: str, after: str) -> bool:
        return after in _UNITS or before in _UNITS or after in tables.MULTIPLIERS

    def _scaled(self, number: str, after: str, later: str) -> int:
        """A number with its multiplier and unit. Returns how many tokens after the number were read."""
        factor, taken = tables.MULTIPLIERS.get(after, 1), 0
        if after in tables.MULTIPLIERS:
            taken, after = 1, later
        self.numbers.append(canonical(number, factor))
        if after in _UNITS:
            self.units.add(_UNITS.column(after))
            return taken + 1
        if after in _SYMBOLS:
            self.units.add(_SYMBOLS[after])
            return taken + (after != "in")
        return taken

    def _number_words(self, at: int) -> int:
        """``two hundred and five``. A lone "one" is a pronoun more often than a number, and is left out."""
        total = current = taken = 0
        texts = self._texts[at + 1 :]
        while (word := texts[taken]) in tables.NUMBER_WORDS or (word in tables.MULTIPLIERS and taken):
            if word in tables.NUMBER_WORDS:
                tens = tables.NUMBER_WORDS[word]
                if current and not (current % _TEN == 0 and tens < _TEN) and current % _HUNDRED:
                    break  # "three four" is two numbers
                current += tens
            elif tables.MULTIPLIERS[word] == _HUNDRED:
                if current >= _HUNDRED:
                    break
                current = (current or 1) * _HUNDRED
            else:
                total, current = total + (current or 1) * tables.MULTIPLIERS[word], 0
            taken += 1
            if (
                texts[taken] == "and"
                and texts[taken + 1] in tables.NUMBER_WORDS
                and texts[taken - 1] in tables.MULTIPLIERS
            ):
                taken += 1
        if total + current != 1:
            return taken + self._scaled(str(total + current), texts[taken], texts[taken + 1])
        return taken

    def _word(self, token: Token, before: str, after: str) -> None:
        word = token.text.removesuffix("'s")
        if word in _UNITS:
            if word not in tables.UNITS_AFTER_NUMBERS or before in tables.UNIT_CUES:
                self.units.add(_UNITS.column(word))
        elif word in _MONTHS:
            beside_number = before[:1].isdecimal() or after[:1].isdecimal() or before in _ORDINAL_ENDINGS
            if word not in tables.AMBIGUOUS_MONTHS or beside_number or before in tables.MONTH_CUES:
                self.dates.add(("month", str(_MONTHS.column(word) + 1)))
        elif word in _WEEKDAYS:
            if word not in tables.AMBIGUOUS_MONTHS or before in tables.MONTH_CUES:
                self.dates.add(("weekday", str(_WEEKDAYS.column(word))))
        elif word in tables.RELATIVE_DAYS:
            self.dates.add(("day", word))
        elif word in tables.COUNTING_WORDS:
            self.numbers.append(tables.COUNTING_WORDS[word])
        if word in tables.RELATIVE_CUES and after in tables.RELATIVE_SPANS:
            self.dates.add(("span", f"{word} {after}"))
