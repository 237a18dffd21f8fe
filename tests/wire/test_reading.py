import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import BadRequest
from cacheproxy.wire import reading
from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.dialects import DIALECTS
from cacheproxy.wire.sse import ServerSentEvent


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        pytest.param(reading.optional_text, 3, "it must be a string", id="text"),
        pytest.param(reading.optional_flag, "yes", "it must be true or false", id="flag"),
        pytest.param(reading.optional_flag, 1, "it must be true or false", id="flag-number"),
        pytest.param(reading.optional_list, {}, "it must be a list", id="list"),
    ],
)
def test_a_member_of_the_wrong_type_is_named(read, value, message):
    with pytest.raises(BadRequest, match=message):
        read({"it": value}, "it")


def test_a_member_that_is_absent_or_null_takes_its_default():
    for body in ({}, {"it": None}):
        assert reading.optional_text(body, "it") == ""
        assert reading.optional_flag(body, "it") is False
        assert reading.optional_flag(body, "it", default=True) is True
        assert reading.optional_list(body, "it") == ()


def test_texts_are_lifted_out_of_a_copy():
    content = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    texts, hollow = reading.lift_texts(content, "text", "content")
    assert texts == ("a", "b")
    assert hollow == [
        {"type": "text", "text": None, "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": None},
    ]
    assert content[0]["text"] == "a"


@pytest.mark.parametrize("content", [[], [{"type": "image"}], [{"type": "text", "text": "a"}, {"type": "image"}]])
def test_a_turn_that_is_not_all_text_is_left_alone(content):
    assert reading.lift_texts(content, "text", "content") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "it must be a string or a list of parts", id="null"),
        pytest.param(["a"], r"it\[0\] must be an object", id="bare-string"),
        pytest.param([{"type": "text", "text": 1}], r"it\[0\]\.text must be a string", id="number"),
    ],
)
def test_a_turn_of_the_wrong_shape_is_refused(content, message):
    with pytest.raises(BadRequest, match=message):
        reading.lift_texts(content, "text", "it")


def test_counts_are_read_leniently():
    assert reading.count({"n": 3}, "n") == 3
    for usage in ({"n": "3"}, {"n": True}, {"n": -1}, {"n": None}, {}, None, []):
        assert reading.count(usage, "n") == 0


def test_zeroing_reaches_every_count_and_nothing_else():
    usage = {"a": 1, "deep": {"b": 2.5, "tier": "standard", "on": True, "none": None}, "list": [{"c": 3}]}
    assert reading.zeroed(usage) == {
        "a": 0,
        "deep": {"b": 0, "tier": "standard", "on": True, "none": None},
        "list": [{"c": 0}],
    }


@given(st.text(max_size=300))
def test_pieces_join_to_the_text(text):
    cut = list(reading.pieces(text))
    assert "".join(cut) == text
    assert all(cut)


def test_an_event_says_its_name_in_its_data_too():
    event = reading.named_event({"type": "ping"})
    assert event.encode() == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert reading.event_body(event) == {"type": "ping"}


def test_an_event_without_a_type_is_known_by_its_name():
    assert reading.event_body(ServerSentEvent("{}", "ping")) == {"type": "ping"}
    assert reading.event_body(ServerSentEvent("{}")) == {"type": ""}


@pytest.mark.parametrize("data", [None, "[DONE]"])
def test_an_event_may_carry_nothing(data):
    assert reading.event_body(ServerSentEvent(data)) is None


@pytest.mark.parametrize("data", ["{", "[]", "", "<html>"])
def test_data_that_is_no_object_is_malformed(data):
    with pytest.raises(MalformedStream):
        reading.event_body(ServerSentEvent(data))


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([{"role": "user", "content": "today?"}], "today?"),
        ([{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "today?"}]}], "today?"),
        ([{"role": "user", "content": "now?"}, {"role": "assistant", "content": "later"}], "now?"),
        (
            [
                {"role": "user", "content": "now?"},
                {"role": "user", "content": [{"type": "tool_result", "content": "sunny"}]},
            ],
            "now?",
        ),
        ([{"role": "user", "content": [{"text": "a"}, 7, {"text": None}, {"text": "b"}]}], "a\nb"),
        ([{"role": "assistant", "content": "now"}, 7, None], ""),
        ("a text", ""),
        (None, ""),
    ],
)
def test_the_last_words_of_the_user_are_found_whatever_stands_beside_them(turns, words):
    assert reading.last_words(turns) == words


@pytest.mark.parametrize(
    ("dialect", "member"),
    [("/v1/chat/completions", "messages"), ("/v1/messages", "messages"), ("/v1/responses", "input")],
)
def test_every_dialect_tells_what_was_said_beside_an_image(dialect, member):
    turn = {"role": "user", "content": [{"type": "picture"}, {"type": "text", "text": "The weather today?"}]}
    view = DIALECTS[dialect].view({"model": "m", "store": False, member: [turn]})
    assert (view.texts, view.wording) == ((), "The weather today?")
