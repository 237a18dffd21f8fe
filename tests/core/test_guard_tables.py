"""The tables hold what the readers expect of them."""

from __future__ import annotations

import pytest

from cacheproxy.core import guard_tables as tables

SETS = {name: value for name, value in vars(tables).items() if name.isupper() and isinstance(value, frozenset)}


@pytest.mark.parametrize("name", sorted(SETS))
def test_sets_hold_lower_case_words(name):
    words = {word for entry in SETS[name] for word in ([entry] if isinstance(entry, str) else entry)}
    assert words
    assert not {word for word in words if word != word.lower() or not word or " " in word}


@pytest.mark.parametrize(("row", "columns"), [(tables.MONTHS, 12), (tables.WEEKDAYS, 7)], ids=["months", "weekdays"])
def test_months_and_weekdays_are_complete(row, columns):
    assert len(row.split("|")) == columns


def test_no_unit_stands_in_two_columns():
    words = tables.UNITS.replace("|", " ").split()
    assert len(words) == len(set(words))


def test_scripts_are_ordered_and_apart():
    bounds = [bound for _, *ends in tables.SCRIPTS for bound in ends]
    assert bounds == sorted(set(bounds))


def test_words_that_are_units_only_beside_numbers_are_units():
    assert set(tables.UNITS_AFTER_NUMBERS) <= set(tables.UNITS.split())
