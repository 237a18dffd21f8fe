"""Entries as JSON objects."""

import pytest
from support.stores import make_entry

from cacheproxy import jsontext, records


def test_an_entry_comes_back_as_it_was():
    entry = make_entry("a", prompt="half \ud83d a pair", cost_usd=None, tags=("x",), expires_at=float("inf"))
    assert records.read(jsontext.parse(jsontext.dump(records.write(entry)))) == entry


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"key": "xyz"}, "hex"),
        ({"answer": 5}, "encode"),
        ({"created_at": "never"}, "created_at"),
        ({"colour": "red"}, "colour"),
    ],
    ids=["no digits", "no text", "no number", "unknown"],
)
def test_what_is_no_entry_is_told_with_its_field(change, told):
    with pytest.raises(ValueError, match=told):
        records.read(records.write(make_entry("a")) | change)
