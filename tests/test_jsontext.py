import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.jsontext import canonical, dump, parse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def reversed_members(value):
    if isinstance(value, dict):
        return {name: reversed_members(member) for name, member in reversed(value.items())}
    if isinstance(value, list):
        return [reversed_members(item) for item in value]
    return value


@given(json_values)
def test_what_is_dumped_parses_back_to_itself(value):
    assert parse(dump(value)) == value
    assert parse(canonical(value)) == value


@given(json_values)
def test_parsing_agrees_with_the_standard_library(value):
    text = json.dumps(value, indent=1).encode()
    assert parse(text) == json.loads(text)


@given(json_values)
def test_the_canonical_form_does_not_depend_on_the_order_of_members(value):
    assert canonical(reversed_members(value)) == canonical(value)


@given(json_values, json_values)
def test_different_values_have_different_canonical_forms(one, other):
    if one != other:
        assert canonical(one) != canonical(other)


def test_members_keep_their_order_when_dumped():
    assert dump({"b": 1, "a": [True, None]}) == b'{"b":1,"a":[true,null]}'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(b"12345678901234567890123", 12345678901234567890123, id="past 64 bits"),
        pytest.param(b"-9223372036854775809", -9223372036854775809, id="past 64 bits, negative"),
        pytest.param(b'"\\ud800"', "\ud800", id="lone surrogate"),
        pytest.param(b'{"\\udfff":1}', {"\udfff": 1}, id="lone surrogate in a name"),
        pytest.param(b'"id 1234567890123456789012"', "id 1234567890123456789012", id="digits in a text"),
        pytest.param(b"0.12345678901234567890123", 0.12345678901234568, id="long fraction"),
        pytest.param(b'{"a":1,"a":2}', {"a": 2}, id="the last of two equal names"),
    ],
)
def test_what_orjson_would_lose_is_kept(text, value):
    parsed = parse(text)
    assert parsed == value
    assert type(parsed) is type(value)
    assert parse(canonical(parsed)) == value


def test_long_integers_that_differ_in_the_last_digit_stay_apart():
    assert canonical(parse(b"[10000000000000000000001]")) != canonical(parse(b"[10000000000000000000002]"))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"{} {}", id="two values"),
        pytest.param(b"NaN", id="not a number"),
        pytest.param(b"[-Infinity]", id="infinity"),
        pytest.param(b"1e400", id="past a double's range"),
        pytest.param(b"[-1e400, 1234567890123456789012]", id="past a double's range, beside a long integer"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param("{}".encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte-order mark"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="nested too deeply"),
        pytest.param(b"9" * 10_000, id="an integer of ten thousand digits"),
    ],
)
def test_what_is_not_json_in_utf8_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


@pytest.mark.parametrize("write", [dump, canonical])
def test_what_is_nested_too_deeply_to_be_written_is_a_value_error(write):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        write(deep)
    while deep:  # taken apart by hand: freeing it in one go would recurse
        deep = deep[0]
