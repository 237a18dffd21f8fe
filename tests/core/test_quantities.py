"""Numbers, units and dates are told in one way however they were worded."""

from __future__ import annotations

import pytest

from cacheproxy.core.profile import profile
from cacheproxy.core.quantities import canonical


def read(text):
    return profile(text).quantities


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("three", ["3"]),
        ("twenty-one", ["21"]),
        ("two hundred and five", ["205"]),
        ("two and five", ["2", "5"]),
        ("three four", ["3", "4"]),
        ("five thousand two hundred", ["5200"]),
        ("two million", ["2000000"]),
        ("a hundred", []),
        ("1,000", ["1000"]),
        ("1k", ["1000"]),
        ("2.50", ["2.5"]),
        ("1.5 million", ["1500000"]),
        ("007", ["007"]),
        ("a dozen", ["12"]),
        ("the 3rd", ["3"]),
        ("one of them", []),
        ("-4", ["-4"]),
        ("3-4", ["3", "4"]),
        ("sector7", ["7"]),
    ],
)
def test_numbers(text, numbers):
    assert list(read(text).numbers) == numbers


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("May 3rd, 2024", {("month", "5"), ("day", "3"), ("year", "2024")}),
        ("the 3rd of May", {("month", "5"), ("day", "3")}),
        ("2024-05-03", {("month", "5"), ("day", "3"), ("year", "2024")}),
        ("you may ask", set()),
        ("in may", {("month", "5")}),
        ("5/3/2024", {("date", "5.3.2024")}),
        ("5.30 pm", set()),
        ("5:30 pm", {("time", "17:30")}),
        ("12 am", {("time", "0:00")}),
        ("on Sundays", {("weekday", "6")}),
        ("next week", {("span", "next week")}),
        ("tomorrow's", {("day", "tomorrow")}),
        ("in 1999", {("year", "1999")}),
        ("1999 km", set()),
    ],
)
def test_dates(text, dates):
    assert read(text).dates == dates


@pytest.mark.parametrize(
    ("a", "b"),
    [("5 km", "5 kilometres"), ("$5", "5 dollars"), ("5%", "5 percent"), ("2 h", "2 h"), ("3 min", "3 minutes")],
)
def test_units_of_one_kind_are_one_unit(a, b):
    assert read(a).units == read(b).units != frozenset()


@pytest.mark.parametrize("text", ["a foot in the door", "the second try", "have a nice day", "log in", "vitamin c"])
def test_words_that_only_look_like_units_are_none(text):
    assert read(text).units == frozenset()


@pytest.mark.parametrize(
    ("number", "factor", "told"),
    [("3.0", 1, "3"), ("1,000", 1, "1000"), ("1.5", 1_000, "1500"), ("9" * 30, 1, "9" * 30), ("0.50", 1, "0.5")],
)
def test_a_number_is_told_in_one_way(number, factor, told):
    assert canonical(number, factor) == told


def test_scales_piled_up_stay_bounded():
    assert read("two " + "hundred " * 10_000).numbers == ("20000",)
