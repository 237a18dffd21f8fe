from __future__ import annotations

import pytest

from cacheproxy.errors import BadRequest
from cacheproxy.wire.asking import items, limit, nested, number, only, required, strings, text_of, whole


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        (
            [{"type": "text", "text": "a"}, {"type": "image", "source": {}}, "odd", {"type": "text", "text": "b"}],
            "a\n\nb",
        ),
        ([{"type": "tool_result", "content": [{"type": "text", "text": "deep"}]}], "deep"),
    ],
    ids=["string", "nothing", "parts", "results of tools"],
)
def test_the_text_of_a_content_is_found(content, text):
    assert text_of(content) == text


@pytest.mark.parametrize(
    "read",
    [
        lambda: required({}, "model", str),
        lambda: required({"n": True}, "n", int),
        lambda: items({"messages": []}, "messages"),
        lambda: items({"messages": ["x"]}, "messages"),
        lambda: limit({"max_tokens": 0}, "max_tokens"),
        lambda: limit({"max_tokens": "9"}, "max_tokens"),
        lambda: nested({"thinking": 1}, "thinking"),
    ],
    ids=["missing", "a boolean", "empty", "no objects", "zero", "a string", "no object"],
)
def test_wrong_members_are_refused(read):
    with pytest.raises(BadRequest):
        read()


def test_the_first_limit_that_is_set_counts():
    assert limit({"a": None, "b": 3, "c": 4}, "a", "b", "c") == 3
    assert limit({}, "a") is None


@pytest.mark.parametrize("value", [-0.1, 2.1, "1", True, float("nan")])
def test_numbers_keep_their_bounds(value):
    with pytest.raises(BadRequest, match="from 0 to 2"):
        number({"temperature": value}, "temperature", 1, low=0, high=2)


@pytest.mark.parametrize("value", [0, 9, 1.0, True])
def test_whole_numbers_keep_theirs(value):
    with pytest.raises(BadRequest, match="from 1 to 8"):
        whole({"n": value}, "n", 1, low=1, high=8)


def test_what_is_missing_or_null_has_its_default():
    assert number({"temperature": None}, "temperature", 0.5, low=0, high=2) == 0.5
    assert whole({}, "n", 1, low=1, high=8) == 1
    assert strings({"stop": None}, "stop", most=4) == ()


def test_one_string_is_a_list_of_one():
    assert strings({"stop": "a"}, "stop", most=4) == ("a",)
    assert strings({"stop": ["a", "b"]}, "stop", most=4) == ("a", "b")


@pytest.mark.parametrize("value", ["", ["a", ""], [1], {"a": 1}, ["a"] * 5])
def test_other_strings_are_refused(value):
    with pytest.raises(BadRequest):
        strings({"stop": value}, "stop", most=4)


def test_what_would_be_ignored_is_refused_by_name():
    known = {"model"}
    only({"model": "m", "n": 1, "suffix": None}, known, but={"n": 1})
    with pytest.raises(BadRequest, match="'n' is supported as 1 only"):
        only({"n": 2}, known, but={"n": 1})
    with pytest.raises(BadRequest, match="'min_p' is not supported"):
        only({"min_p": 0.1}, known, but={"n": 1})
