from __future__ import annotations

import pytest

from cacheproxy.cli.common import Misuse, ago, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("36h", 129_600),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1.5h", 5400),
        (" 1D ", 86_400),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1 day", "1y"])
def test_other_durations_are_misuse(text):
    with pytest.raises(Misuse, match="write for instance"):
        seconds(text)


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [(0, "0s"), (-1, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (86_400, "1d"), (604_800, "1w")],
)
def test_an_age_is_told_in_its_largest_unit(age_s, expected):
    assert ago(age_s) == expected
