import pytest

from cacheproxy.errors import BadRequest
from cacheproxy.model import Usage
from cacheproxy.wire.dialect import Fresh
from cacheproxy.wire.openai_members import answer_choices, finishes_of, model_of, refreshed, stream_members, usage_of

FRESH = Fresh("tok3n", 1_800_000_000)


@pytest.mark.parametrize(
    ("body", "members"),
    [
        ({}, ("", False, True)),
        ({"model": "m", "stream": None, "stream_options": None}, ("m", False, True)),
        ({"model": "m", "stream": True}, ("m", True, False)),
        ({"stream": True, "stream_options": {}}, ("", True, False)),
        ({"stream": True, "stream_options": {"include_usage": False}}, ("", True, False)),
        ({"stream": True, "stream_options": {"include_usage": True}}, ("", True, True)),
    ],
)
def test_what_a_request_says_of_its_stream(body, members):
    assert stream_members(body) == members


@pytest.mark.parametrize("body", [{"model": 1}, {"stream": "true"}, {"stream": 1}, {"stream_options": []}])
def test_a_wrong_type_is_named(body):
    with pytest.raises(BadRequest, match=next(iter(body))):
        stream_members(body)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        pytest.param(None, None, id="none"),
        pytest.param({}, None, id="empty"),
        pytest.param({"prompt_tokens": 3, "total_tokens": 3}, Usage(3, 0), id="input only"),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 16},
            },
            Usage(100, 20, 64, 16),
            id="OpenAI",
        ),
        pytest.param(
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 8}, Usage(9, 2, 8), id="DeepSeek"
        ),
        pytest.param(
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(9, 2), id="no details"
        ),
        pytest.param({"prompt_tokens": "9", "completion_tokens": -1}, Usage(), id="no numbers"),
    ],
)
def test_usage_in_the_terms_of_the_price_tables(usage, read):
    assert usage_of({"usage": usage}) == read


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("chatcmpl-abc", "chatcmpl-tok3n"),
        ("gen-1750000000-Zz9", "gen-tok3n"),
        ("msg_1", "msg_tok3n"),
        ("4f1c2d3e-1111", "tok3n"),
        (None, "chatcmpl-tok3n"),
    ],
)
def test_a_new_id_keeps_the_upstreams_prefix(old, new):
    assert refreshed({"id": old}, FRESH, prefix="chatcmpl-", zero_usage=False)["id"] == new


def test_refreshing_changes_nothing_else_and_not_the_original():
    answer = {"id": "chatcmpl-a", "created": 1, "model": "m", "choices": [], "usage": {"prompt_tokens": 3}}
    new = refreshed(answer, FRESH, prefix="", zero_usage=False)
    assert new == {**answer, "id": "chatcmpl-tok3n", "created": FRESH.created}
    assert answer["created"] == 1


def test_usage_at_zero_keeps_its_members():
    usage = {"prompt_tokens": 3, "details": {"cached_tokens": 2, "tier": "x"}, "is_byok": False, "none": None}
    new = refreshed({"usage": usage}, FRESH, prefix="", zero_usage=True)
    assert new["usage"] == {
        "prompt_tokens": 0,
        "details": {"cached_tokens": 0, "tier": "x"},
        "is_byok": False,
        "none": None,
    }
    assert "usage" not in refreshed({}, FRESH, prefix="", zero_usage=True)


def test_choices_that_cannot_be_read_are_a_value_error():
    for choices in (None, {}, ["x"]):
        with pytest.raises(ValueError, match="choices"):
            answer_choices({"choices": choices})


def test_missing_members_read_as_empty_texts():
    assert model_of({}) == ""
    assert model_of({"model": "m"}) == "m"
    assert finishes_of([{}, {"finish_reason": None}, {"finish_reason": ["stop"]}, {"finish_reason": "stop"}]) == [
        "",
        "",
        "",
        "stop",
    ]
