import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.wire.sse import EventTooLarge, ServerSentEvent, SseParser, parse_event

pieces = st.sampled_from(
    [
        "data: x",
        "data:{}",
        "data",
        "event: error",
        "id: 7",
        ": ping",
        "\n",
        "\r\n",
        "\r",
        "\n\n",
        "\ufeff",
        "é",
        "data: \U0001f600",
    ]
)
streams = st.lists(pieces, max_size=20).map(lambda parts: "".join(parts).encode())


def cut(stream, places):
    ends = sorted({min(place, len(stream)) for place in places} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(streams, st.lists(st.integers(0, 80)))
def test_events_do_not_depend_on_how_the_bytes_were_cut(stream, places):
    whole, parts = SseParser(), SseParser()
    expected = whole.feed(stream)
    assert [event for chunk in cut(stream, places) for event in parts.feed(chunk)] == expected
    assert parts.rest == whole.rest


@given(streams)
def test_no_byte_is_lost(stream):
    parser = SseParser()
    assert b"".join(event.raw for event in parser.feed(stream)) + parser.rest == stream


@given(st.lists(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))))
def test_what_is_written_is_read_again(texts):
    stream = b"".join(ServerSentEvent(text, "message").encode() for text in texts)
    assert [event.data for event in SseParser().feed(stream)] == texts


@pytest.mark.parametrize(
    ("raw", "data", "event"),
    [
        pytest.param(b"data: a\n\n", "a", None, id="data"),
        pytest.param(b"data:a\r\n\r\n", "a", None, id="no space, CR LF"),
        pytest.param(b"data:  a\r\r", " a", None, id="only one space goes, CR"),
        pytest.param(b"data: a\ndata: b\n\n", "a\nb", None, id="two data lines"),
        pytest.param(b"data\n\n", "", None, id="a field without a colon"),
        pytest.param(b"event: ping\ndata: {}\n\n", "{}", "ping", id="a named event"),
        pytest.param(b": keep-alive\n\n", None, None, id="a comment"),
        pytest.param(b"id: 1\nretry: 5\n\n", None, None, id="fields that do not matter"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", "a", None, id="a byte-order mark"),
        pytest.param(b"data: \xff\n\n", "\ufffd", None, id="a byte that is not UTF-8"),
    ],
)
def test_one_event(raw, data, event):
    assert parse_event(raw) == ServerSentEvent(data, event, raw)


def test_an_event_that_came_in_is_passed_on_byte_for_byte():
    raw = b"data:  {} \r\nid: 4\r\n\r\n"
    assert parse_event(raw).encode() == raw


def test_an_event_without_an_end_is_refused_once_it_is_too_large():
    parser = SseParser(max_event_bytes=10)
    with pytest.raises(EventTooLarge):
        parser.feed(b"data: 0123456789")
    assert parser.rest == b"data: 0123456789"


def test_complete_events_are_given_before_a_too_large_one_is_refused():
    parser = SseParser(max_event_bytes=10)
    assert [event.data for event in parser.feed(b"data: 1\n\ndata: 0123456789")] == ["1"]
    with pytest.raises(EventTooLarge):
        parser.feed(b"0")
