import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.wire.splice import member, remove_member, set_member, with_stream_usage

spaces = st.text(alphabet=" \t\r\n", max_size=2)
texts = st.text(alphabet='ab"\\{}[],:é\n\u2028\U0001f600', max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["cache", "c", "stream", "é", 'a"b', "", "\\", "model"])


@st.composite
def escaped(draw, text):
    """A JSON string for ``text`` in which any character may be written as an escape."""
    parts = []
    for character in text:
        plain = json.dumps(character, ensure_ascii=draw(st.booleans()))[1:-1]
        if ord(character) < 0x10000 and draw(st.booleans()):
            plain = f"\\u{ord(character):04x}"
        parts.append(plain)
    return '"' + "".join(parts) + '"'


@st.composite
def written(draw, value):
    """JSON text for ``value`` with white space and escapes wherever JSON allows them."""
    if isinstance(value, dict):
        members = [
            f"{draw(spaces)}{draw(escaped(name))}{draw(spaces)}:{draw(spaces)}{draw(written(inner))}{draw(spaces)}"
            for name, inner in value.items()
        ]
        return "{" + (",".join(members) or draw(spaces)) + "}"
    if isinstance(value, list):
        return "[" + (",".join(f"{draw(spaces)}{draw(written(inner))}{draw(spaces)}" for inner in value)) + "]"
    return draw(escaped(value)) if isinstance(value, str) else json.dumps(value)


@st.composite
def objects(draw):
    """A list of members (names may repeat) and one object text that holds them in this order."""
    members = draw(st.lists(st.tuples(names, values), max_size=5))
    inner = [
        f"{draw(spaces)}{draw(escaped(name))}{draw(spaces)}:{draw(spaces)}{draw(written(value))}{draw(spaces)}"
        for name, value in members
    ]
    text = draw(spaces) + "{" + (",".join(inner) or draw(spaces)) + "}" + draw(spaces)
    return members, text.encode()


def pairs(raw):
    return json.loads(raw, object_pairs_hook=list)


def as_pairs(value):
    if isinstance(value, dict):
        return [(name, as_pairs(inner)) for name, inner in value.items()]
    return [as_pairs(item) for item in value] if isinstance(value, list) else value


@given(objects(), names)
def test_removing_a_member_leaves_exactly_the_others(made, name):
    members, raw = made
    assert pairs(remove_member(raw, name)) == [(n, as_pairs(value)) for n, value in members if n != name]


@given(objects(), names)
def test_removing_a_member_deletes_bytes_and_changes_none(made, name):
    members, raw = made
    left = remove_member(raw, name)
    rest = iter(raw)
    assert all(byte in rest for byte in left)  # a subsequence
    if name not in dict(members):
        assert left == raw


@given(objects(), names, values)
def test_setting_a_member_replaces_it_everywhere_or_appends_it(made, name, value):
    members, raw = made
    replaced = [(n, as_pairs(value) if n == name else as_pairs(old)) for n, old in members]
    if name not in dict(members):
        replaced.append((name, as_pairs(value)))
    assert pairs(set_member(raw, name, json.dumps(value).encode())) == replaced


@given(objects(), names)
def test_setting_a_member_to_its_own_text_changes_nothing(made, name):
    members, raw = made
    value = member(raw, name)
    if value is None:
        assert name not in dict(members)
    elif [n for n, _ in members].count(name) == 1:
        assert json.loads(value) == dict(members)[name]
        assert set_member(raw, name, value) == raw


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        pytest.param(b'{"cache":1}', b"{}", id="the only one"),
        pytest.param(b'{ "cache" : {"a": "}"} }', b"{  }", id="a brace inside a string"),
        pytest.param(b'{"a":1, "cache":2, "b":3}', b'{"a":1, "b":3}', id="in the middle"),
        pytest.param(b'{"cache":2 , "b":3}', b'{"b":3}', id="first"),
        pytest.param(b'{"a":1 , "cache":2 }', b'{"a":1 }', id="last"),
        pytest.param(b'{"cache":1,"a":[{"cache":1}],"cache":2}', b'{"a":[{"cache":1}]}', id="twice, not the nested"),
        pytest.param(b'{"\\u0063ache":1,"a":0}', b'{"a":0}', id="an escaped name"),
        pytest.param(b'{"a":"cache","b":1}', b'{"a":"cache","b":1}', id="a value of that text"),
        pytest.param(b'{"caches":1}', b'{"caches":1}', id="a longer name"),
        pytest.param(
            "{'é'}".replace("'", '"').replace("}", ':"é","cache":0}').encode(), '{"é":"é"}'.encode(), id="UTF-8"
        ),
        pytest.param(b'{"a":"tab\there","cache":0}', b'{"a":"tab\there"}', id="a raw control character"),
    ],
)
def test_the_bytes_that_removing_leaves(raw, left):
    assert remove_member(raw, "cache") == left


@pytest.mark.parametrize(
    ("raw", "asked"),
    [
        (b'{"stream":true}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":null }', b'{"stream_options":{"include_usage":true} }'),
        (b'{"stream_options":{},"a":1}', b'{"stream_options":{"include_usage":true},"a":1}'),
        (
            b'{"stream_options": {"include_obfuscation": false}}',
            b'{"stream_options": {"include_obfuscation": false,"include_usage":true}}',
        ),
        (
            b'{"stream_options":{"include_usage":false, "x":1}}',
            b'{"stream_options":{"include_usage":true, "x":1}}',
        ),
    ],
)
def test_asking_for_usage_keeps_the_other_stream_options(raw, asked):
    assert with_stream_usage(raw) == asked


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'"cache"',
        b"{",
        b'{"a"}',
        b'{"a":1,}',
        b'{"a":1} {}',
        b'{"a":1 "b":2}',
        b"{a:1}",
        b'{"a":}',
        b'{"a":"',
    ],
)
def test_what_is_not_one_object_is_refused(raw):
    for edit in (
        lambda: member(raw, "a"),
        lambda: remove_member(raw, "a"),
        lambda: set_member(raw, "a", b"1"),
    ):
        with pytest.raises(ValueError, match=r".+"):
            edit()


def test_nesting_without_end_is_refused():
    with pytest.raises(ValueError, match="nested too deeply"):
        remove_member(b'{"a":' + b"[" * 100_000, "a")


def test_a_string_of_many_escapes_is_skipped_whole():
    text = json.dumps('\\"{' * 200_000)
    raw = f'{{"a":{text},"cache":true}}'.encode()
    assert remove_member(raw, "cache") == f'{{"a":{text}}}'.encode()
