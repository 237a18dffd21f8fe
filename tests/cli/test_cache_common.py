"""How entries are told, for people and for programs."""

from __future__ import annotations

import math

import pytest
from support.stores import NOW, make_entry

from cacheproxy.cli.cache_common import described, life_left, selection_of, shortened
from cacheproxy.model import Selection


@pytest.mark.parametrize(
    ("expires_at", "left"), [(math.inf, "pinned"), (NOW, "expired"), (NOW - 5, "expired"), (NOW + 7200, "2h")]
)
def test_the_life_that_is_left_is_told_in_a_word(expires_at, left):
    assert life_left(make_entry(expires_at=expires_at), NOW) == left


def test_an_entry_is_described_without_its_answer():
    told = described(make_entry())
    assert "answer" not in told
    assert told["size"] > 0


def test_a_prompt_is_told_in_one_line():
    assert shortened("a\nb") == "a b"
    assert len(shortened("x" * 500)) == 60


def test_options_mean_a_selection():
    told = selection_of("AB", "", None, "1h", NOW, text="t", model="m", tenant="n")
    assert told == Selection(scope_prefix="ab", older_than=NOW - 3600, text="t", model="m", tenant="n")
