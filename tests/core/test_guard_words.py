"""The rows of alternatives are well formed."""

from __future__ import annotations

import re

import pytest

from cacheproxy.core import guard_words

ROWS = [
    *guard_words.OPPOSITES,
    *guard_words.ALTERNATIVES,
    guard_words.LANGUAGES,
    guard_words.COUNTRIES,
    guard_words.PLACES,
    guard_words.GIVEN_NAMES,
    guard_words.ORGANISATIONS,
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[:30])
def test_a_row_has_columns_of_lower_case_words_that_exclude_each_other(row):
    assert re.fullmatch(r"[a-z0-9+| -]+", row)
    columns = [set(column.split()) for column in row.split("|")]
    assert len(columns) > 1
    assert all(columns)
    assert sum(map(len, columns)) == len(set.union(*columns)), "a word stands in two columns"


def test_no_row_stands_twice():
    assert len(ROWS) == len(set(ROWS))
