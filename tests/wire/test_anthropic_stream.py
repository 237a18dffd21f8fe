import json
from pathlib import Path

import anthropic
import httpx2
import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cacheproxy import jsontext
from cacheproxy.wire.anthropic_stream import AnthropicAssembler, replay
from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.reading import named_event
from cacheproxy.wire.sse import ServerSentEvent, SseParser

CASSETTES = sorted(Path(__file__).parent.parent.glob("cassettes/anthropic_*.sse"))
EVENTS = TypeAdapter(RawMessageStreamEvent)


def assembled(events):
    assembler = AnthropicAssembler()
    for event in events:
        assembler.feed(event)
    return assembler


def stream(*bodies):
    return assembled(named_event(body) for body in bodies)


def recorded(cassette):
    return json.loads(cassette.with_suffix(".json").read_text("utf-8"))


START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 1, "service_tier": "standard"},
    },
}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STOP = {"type": "message_stop"}


def block(start, *deltas, index=0):
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
@given(data=st.data())
def test_a_recorded_stream_gives_its_message_however_the_bytes_were_cut(cassette, data):
    raw = cassette.read_bytes()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=12)))
    parser = SseParser()
    events = [
        event for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True) for event in parser.feed(raw[start:end])
    ]
    assembler = assembled(events)
    assert assembler.answer() == recorded(cassette)
    assert not assembler.failed
    assert b"".join(event.encode() for event in events) == raw


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
def test_half_a_stream_gives_nothing(cassette):
    events = SseParser().feed(cassette.read_bytes())
    for length in range(len(events)):
        assert assembled(events[:length]).answer() is None


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
def test_a_recorded_message_replays_into_itself(cassette):
    answer = recorded(cassette)
    assert assembled(replay(answer)).answer() == answer


# Any JSON text may stand anywhere; a surrogate alone cannot be sent as UTF-8.
WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=120)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=4)
BLOCKS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}, optional={"citations": st.none() | st.lists(JSON)}),
    st.fixed_dictionaries(
        {"type": st.just("thinking"), "thinking": WORDS}, optional={"signature": WORDS, "estimated": JSON}
    ),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": WORDS}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["tool_use", "server_tool_use"]), "id": WORDS, "name": WORDS, "input": OBJECTS}
    ),
    st.fixed_dictionaries({"type": st.just("not_known_yet"), "text": JSON, "input": JSON}),
)
COUNTS = st.integers(0, 2**31)
USAGES = st.fixed_dictionaries(
    {"input_tokens": COUNTS, "output_tokens": COUNTS},
    optional={
        "cache_creation_input_tokens": COUNTS,
        "cache_read_input_tokens": COUNTS,
        "cache_creation": st.dictionaries(WORDS, COUNTS, max_size=2),
        "server_tool_use": st.none() | st.dictionaries(WORDS, COUNTS, max_size=2),
        "output_tokens_details": st.dictionaries(WORDS, COUNTS, max_size=2),
        "service_tier": st.none() | WORDS,
        "not_known_yet": JSON,
    },
)
ANSWERS = st.fixed_dictionaries(
    {
        "id": WORDS,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": WORDS,
        "content": st.lists(BLOCKS, max_size=4),
        "stop_reason": st.sampled_from(["end_turn", "max_tokens", "tool_use"]),
        "stop_sequence": st.none() | WORDS,
        "usage": USAGES,
    },
    optional={
        "container": st.none() | OBJECTS,
        "context_management": st.none() | OBJECTS,
        "stop_details": JSON,
        "diagnostics": JSON,
        "not_known_yet": JSON,
    },
)


@given(ANSWERS)
def test_assembling_a_replay_gives_the_message_back(answer):
    sent = b"".join(event.encode() for event in replay(answer))
    assert assembled(SseParser().feed(sent)).answer() == answer


def test_a_tools_input_keeps_its_order_and_its_numbers():
    tool_input = {"z": 1, "a": 2**70, "m": [0.1, 1e300, -0.0]}
    answer = {**recorded(CASSETTES[0]), "content": [{"type": "tool_use", "input": tool_input}]}
    again = assembled(replay(answer)).answer()["content"][0]["input"]
    assert jsontext.dump(again) == jsontext.dump(tool_input)


def test_a_long_text_is_told_in_pieces():
    text = "word " * 100
    answer = {**START["message"], "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    deltas = [json.loads(event.data) for event in replay(answer) if event.event == "content_block_delta"]
    assert len(deltas) > 5
    assert "".join(delta["delta"]["text"] for delta in deltas) == text


def test_the_start_of_a_replay_knows_no_more_than_the_api_does():
    answer = {**recorded(CASSETTES[0]), "container": {"id": "c"}}
    first = json.loads(next(iter(replay(answer))).data)["message"]
    assert first["content"] == []
    assert first["stop_reason"] is first["stop_sequence"] is first["container"] is None
    assert first["usage"]["output_tokens"] == 1
    assert first["usage"]["input_tokens"] == answer["usage"]["input_tokens"]


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
def test_replayed_events_are_the_official_clients(cassette):
    for event in replay(recorded(cassette)):
        assert EVENTS.validate_json(event.data).type == event.event


def sdk(sent):
    def respond(request):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=sent)

    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    return anthropic.Anthropic(api_key="test", base_url="http://upstream", http_client=transport, max_retries=0)


ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
def test_the_official_client_accumulates_a_replay_as_it_does_the_recording(cassette):
    finals = []
    replayed = b"".join(event.encode() for event in replay(recorded(cassette)))
    for sent in (cassette.read_bytes(), replayed):
        with sdk(sent) as client, client.messages.stream(**ASK) as told:
            finals.append(told.get_final_message().to_dict())
    assert finals[0] == finals[1]
    assert finals[1]["content"] == recorded(cassette)["content"]
    assert finals[1]["usage"] == recorded(cassette)["usage"]


def test_the_official_client_accepts_a_message_that_had_no_usage():
    answer = {name: value for name, value in recorded(CASSETTES[0]).items() if name != "usage"}
    with sdk(b"".join(event.encode() for event in replay(answer))) as client, client.messages.stream(**ASK) as told:
        assert told.get_final_message().usage.output_tokens == 0


def test_deltas_find_their_block():
    assembler = stream(
        START,
        {"type": "ping"},
        *block({"type": "text", "text": "so "}, {"type": "text_delta", "text": "far"}),
        {"type": "ping"},
        *block({"type": "text"}, {"type": "citations_delta", "citation": {"n": 1}}, index=1),
        *block({"type": "compaction"}, {"type": "compaction_delta", "content": "summary"}, index=2),
        END,
        STOP,
    )
    assert assembler.answer()["content"] == [
        {"type": "text", "text": "so far"},
        {"type": "text", "citations": [{"n": 1}]},
        {"type": "compaction", "content": "summary"},
    ]


def test_blocks_may_be_open_at_the_same_time():
    first = block({"type": "text", "text": ""}, {"type": "text_delta", "text": "a"})
    second = block({"type": "text", "text": ""}, {"type": "text_delta", "text": "b"}, index=1)
    assembler = stream(START, first[0], second[0], second[1], first[1], first[2], second[2], END, STOP)
    assert [part["text"] for part in assembler.answer()["content"]] == ["a", "b"]


@pytest.mark.parametrize("sent", [["", ""], [], [" "]], ids=["empty", "none", "blank"])
def test_a_tool_without_input_has_an_empty_one(sent):
    start = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in sent)
    assert stream(START, *block(start, *deltas), END, STOP).answer()["content"][0]["input"] == {}


def test_the_end_overrides_counts_and_a_null_takes_nothing_away():
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "container": {"id": "c"}, "new": 1},
        "usage": {"output_tokens": 9, "input_tokens": None, "server_tool_use": {"web_search_requests": 1}},
        "context_management": {"applied_edits": []},
    }
    message = stream(START, end, STOP).answer()
    assert message == {
        **START["message"],
        "stop_reason": "end_turn",
        "container": {"id": "c"},
        "new": 1,
        "context_management": {"applied_edits": []},
        "usage": {
            "input_tokens": 3,
            "output_tokens": 9,
            "service_tier": "standard",
            "server_tool_use": {"web_search_requests": 1},
        },
    }


@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param([START, *block({"type": "text"}, {"type": "new_delta", "x": 1}), END, STOP], id="unknown-delta"),
        pytest.param([START, {"type": "new_event", "x": 1}, END, STOP], id="unknown-event"),
        pytest.param(
            [START, *block({"type": "tool_use"}, {"type": "input_json_delta", "partial_json": '{"a'}), END, STOP],
            id="tool-input-cut-by-max-tokens",
        ),
        pytest.param(
            [START, *block({"type": "tool_use"}, {"type": "input_json_delta", "partial_json": "[1]"}), END, STOP],
            id="tool-input-no-object",
        ),
    ],
)
def test_a_stream_that_cannot_be_told_whole_gives_no_answer(bodies):
    assembler = stream(*bodies)
    assert assembler.answer() is None
    assert not assembler.failed


@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param([END], id="no-start"),
        pytest.param([START, START], id="two-starts"),
        pytest.param([{"type": "message_start"}], id="start-without-message"),
        pytest.param([START, *block({"type": "text"}, index=1)], id="block-skipped"),
        pytest.param([START, *block("text")], id="block-no-object"),
        pytest.param([START, *block({"type": "text"})[1:]], id="stop-without-start"),
        pytest.param([START, *block({"type": "text"}), *block({"type": "text"})[1:]], id="stopped-twice"),
        pytest.param([START, {"type": "content_block_delta", "index": 0, "delta": {}}], id="delta-without-block"),
        pytest.param([START, {"type": "content_block_stop", "index": []}], id="index-no-number"),
        pytest.param([START, *block({"type": "text"}, {"type": "text_delta", "text": 1})], id="text-no-string"),
        pytest.param([START, *block({"type": "text"})[:1], STOP], id="stop-with-open-block"),
        pytest.param([START, END, STOP, END], id="after-the-end"),
    ],
)
def test_events_out_of_place_are_malformed(bodies):
    with pytest.raises(MalformedStream):
        stream(*bodies)


def test_an_error_in_mid_stream_fails_it_for_good():
    assembler = stream(START, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, END, STOP)
    assert assembler.failed
    assert assembler.answer() is None


def test_comments_and_a_foreign_terminator_are_ignored():
    assembler = stream(START, END, STOP)
    assembler.feed(ServerSentEvent(None))
    assembler.feed(ServerSentEvent("[DONE]"))
    assert assembler.answer()["stop_reason"] == "end_turn"
    assert not assembler.usage_only(named_event(END))
