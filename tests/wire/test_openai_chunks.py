import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.openai_chunks import ChunkAssembler, chunk_events, pieces
from cacheproxy.wire.sse import ServerSentEvent

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


class Letters:
    """The least choice: a text and an end."""

    def __init__(self):
        self.text = ""
        self.finished = False

    def take(self, fragment):
        self.text += fragment.get("text", "")
        self.finished = self.finished or fragment.get("finish_reason") is not None

    def whole(self):
        return {"text": self.text}


def event(data, name=None):
    return ServerSentEvent(data if isinstance(data, str) else json.dumps(data), name)


def chunk(*choices, **members):
    return {"id": "c-1", "object": "piece", "created": 5, "model": "m", "choices": list(choices), **members}


def end(index=0):
    return {"index": index, "finish_reason": "stop"}


def assembled(*events):
    assembler = ChunkAssembler("whole", Letters)
    for item in events:
        assembler.feed(item if isinstance(item, ServerSentEvent) else event(item))
    return assembler


def test_the_pieces_come_together():
    answer = assembled(
        chunk({"index": 0, "text": "a"}, usage=None, obfuscation="zz"),
        chunk({"index": 1, "text": "B"}),
        chunk({"index": 0, "text": "b", "finish_reason": "stop"}, end(1)),
        chunk(usage=USAGE, extra=[1]),
        "[DONE]",
    ).answer()
    assert answer == {
        "id": "c-1",
        "object": "whole",
        "created": 5,
        "model": "m",
        "choices": [{"text": "ab"}, {"text": "B"}],
        "usage": USAGE,
        "extra": [1],
    }


@pytest.mark.parametrize(
    ("events", "complete"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param(["[DONE]"], False, id="only the terminator"),
        pytest.param([chunk({"index": 0, "text": "a"}), "[DONE]"], False, id="no finish reason"),
        pytest.param([chunk(end())], False, id="no terminator"),
        pytest.param([chunk(end()), chunk(usage=USAGE)], True, id="usage in the terminator's place"),
        pytest.param([chunk(end(), usage=USAGE)], True, id="usage with the finish reason"),
        pytest.param([chunk(usage=USAGE), chunk(end())], False, id="usage before the finish reason"),
        pytest.param([chunk(end(0), {"index": 1}), "[DONE]"], False, id="one of two choices without an end"),
        pytest.param([chunk(end(0), end(1)), "[DONE]"], True, id="two choices"),
        pytest.param([chunk(end()), "[DONE]\n"], True, id="white space around the terminator"),
        pytest.param([{"choices": None}, chunk(end()), "[DONE]"], True, id="null choices"),
    ],
)
def test_when_a_stream_is_complete(events, complete):
    assert (assembled(*events).answer() is not None) is complete


@pytest.mark.parametrize(
    "error",
    [
        event({"error": {"message": "overloaded", "code": 529}}),
        event({"message": "overloaded"}, "error"),
        event(chunk(end(), error={"message": "overloaded"})),
    ],
)
def test_an_error_in_mid_stream_leaves_no_answer(error):
    assembler = assembled(chunk(end()), error, "[DONE]")
    assert assembler.failed
    assert assembler.answer() is None


def test_a_null_error_is_none():
    assembler = assembled(chunk(end(), error=None), "[DONE]")
    assert not assembler.failed
    assert assembler.answer() is not None


@pytest.mark.parametrize("quiet", [ServerSentEvent(None), ServerSentEvent(None, "ping"), ServerSentEvent("")])
def test_comments_and_pings_are_ignored(quiet):
    assert assembled(quiet, chunk(end()), quiet, "[DONE]").answer() is not None


@pytest.mark.parametrize(
    "data", ["<html>", "[]", "{", '{"choices":{}}', '{"id":"x"}', '{"choices":["x"]}', '{"choices":[{"index":"0"}]}']
)
def test_what_is_no_chunk_is_refused(data):
    with pytest.raises(MalformedStream):
        assembled(data)


def test_empty_members_of_the_first_chunk_give_way():
    answer = assembled(
        {"id": "", "created": 0, "model": "", "choices": [], "filters": ["x"]}, chunk(end()), chunk(), "[DONE]"
    ).answer()
    assert (answer["id"], answer["created"], answer["model"], answer["filters"]) == ("c-1", 5, "m", ["x"])


@pytest.mark.parametrize(
    ("data", "only"),
    [
        (chunk(usage=USAGE), True),
        (chunk(usage=None), False),
        (chunk(), False),
        (chunk(end(), usage=USAGE), False),
        (chunk({"index": 0, "text": '"usage" "choices":[]'}, usage=USAGE), False),
        ("[DONE]", False),
    ],
)
def test_which_events_hold_only_usage(data, only):
    item = event(data)
    compact = event(data if isinstance(data, str) else json.dumps(data, separators=(",", ":")))
    assembler = assembled()
    assert assembler.usage_only(item) is only
    assert assembler.usage_only(compact) is only
    assert not assembler.usage_only(ServerSentEvent(None))


@pytest.mark.parametrize("with_usage", [True, False])
def test_an_answer_is_told_in_chunks(with_usage):
    answer = {"id": "c-1", "object": "whole", "created": 5, "model": "m", "service_tier": "x", "odd": 1, "usage": USAGE}
    head = {"object": "piece", "id": "c-1", "created": 5, "model": "m", "service_tier": "x"}
    usage = {"usage": None} if with_usage else {}
    *chunks, terminator = chunk_events(answer, "piece", [{"index": 0}, {"index": 1}], with_usage=with_usage)
    assert terminator.data == "[DONE]"
    assert [json.loads(item.data) for item in chunks] == [
        {**head, "odd": 1, "choices": [{"index": 0}], **usage},
        {**head, "choices": [{"index": 1}], **usage},
        *([{**head, "choices": [], "usage": USAGE}] if with_usage else []),
    ]


@given(st.text(max_size=3000) | st.text(alphabet="ab ", max_size=3000))
def test_pieces_join_to_the_text(text):
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(cut) or text == ""


def test_pieces_are_cut_behind_words_and_stay_few():
    cut = list(pieces("word " * 100))
    assert all(piece.endswith(" ") and 40 <= len(piece) <= 80 for piece in cut)
    assert len(list(pieces("word " * 100_000))) <= 64
