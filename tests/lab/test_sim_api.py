from __future__ import annotations

import pytest

from cacheproxy.errors import BadRequest
from cacheproxy.lab.sim_api import error_body, items, limit, member, named, nested, text_of, unnamed


def test_events_are_written_with_and_without_a_name():
    assert named("ping", {"a": 1}).data == b'event: ping\ndata: {"type":"ping","a":1}\n\n'
    assert unnamed({"a": "ü\n"}).data == 'data: {"a":"ü\\n"}\n\n'.encode()


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
        lambda: member({}, "model", str),
        lambda: member({"n": True}, "n", int),
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


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_errors_have_the_providers_shapes(status):
    assert set(error_body(status, "no", anthropic=False)["error"]) == {"message", "type", "param", "code"}
    anthropic = error_body(status, "no", anthropic=True)
    assert (anthropic["type"], set(anthropic["error"])) == ("error", {"type", "message"})
