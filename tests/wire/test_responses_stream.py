import json
from pathlib import Path

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.openai_responses import OpenAIResponses
from cacheproxy.wire.reading import named_event
from cacheproxy.wire.responses_stream import ResponsesAssembler, replay
from cacheproxy.wire.sse import ServerSentEvent, SseParser

CASSETTES = sorted(Path(__file__).parent.parent.glob("cassettes/openai_responses*.sse"))
EVENTS = TypeAdapter(ResponseStreamEvent)


def assembled(events):
    assembler = ResponsesAssembler()
    for event in events:
        assembler.feed(event)
    return assembler


def stream(*bodies):
    return assembled(named_event(body) for body in bodies)


def recorded(cassette):
    return json.loads(cassette.with_suffix(".json").read_text("utf-8"))


def replayed(answer):
    return [json.loads(event.data) for event in replay(answer)]


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
@given(data=st.data())
def test_a_recorded_stream_gives_its_response_however_the_bytes_were_cut(cassette, data):
    raw = cassette.read_bytes()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=12)))
    parser = SseParser()
    events = [
        event for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True) for event in parser.feed(raw[start:end])
    ]
    assembler = assembled(events)
    assert assembler.answer() == recorded(cassette)
    assert not assembler.failed


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
def test_half_a_stream_gives_nothing(cassette):
    events = SseParser().feed(cassette.read_bytes())
    for length in range(len(events)):
        assert assembled(events[:length]).answer() is None


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
def test_a_recorded_response_replays_into_itself(cassette):
    answer = recorded(cassette)
    assert assembled(replay(answer)).answer() == answer


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
def test_the_replayed_items_alone_give_the_output_back(cassette):
    answer = recorded(cassette)
    told = replayed(answer)
    told[-1]["response"] = {**answer, "output": []}
    assert stream(*told).answer() == answer


WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=120)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
LOGPROBS = st.lists(st.fixed_dictionaries({"token": WORDS, "logprob": st.floats(-9, 0)}), max_size=3)
PARTS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("output_text"), "text": WORDS, "annotations": st.lists(JSON, max_size=2)},
        optional={"logprobs": st.none() | LOGPROBS},
    ),
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": WORDS}),
    st.fixed_dictionaries({"type": st.just("not_known_yet"), "text": JSON}),
)
SUMMARIES = st.lists(st.fixed_dictionaries({"type": st.just("summary_text"), "text": WORDS}), max_size=2)
REASONING = st.lists(st.fixed_dictionaries({"type": st.just("reasoning_text"), "text": WORDS}), max_size=2)
STATUS = st.sampled_from(["completed", "incomplete"])
ITEMS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("message"), "id": WORDS, "status": STATUS, "content": st.lists(PARTS, max_size=3)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("reasoning"), "id": WORDS, "summary": SUMMARIES},
        optional={"content": st.none() | REASONING, "encrypted_content": st.none() | WORDS, "status": STATUS},
    ),
    st.fixed_dictionaries({"type": st.just("function_call"), "arguments": WORDS}, optional={"id": WORDS}),
    st.fixed_dictionaries({"type": st.just("custom_tool_call"), "id": WORDS, "input": WORDS}),
    st.fixed_dictionaries({"type": st.just("not_known_yet"), "content": JSON}),
)
ANSWERS = st.fixed_dictionaries(
    {
        "id": WORDS,
        "object": st.just("response"),
        "created_at": st.integers(0, 2**40),
        "status": STATUS,
        "output": st.lists(ITEMS, max_size=4),
        "usage": st.none() | st.dictionaries(WORDS, st.integers(0, 2**31), max_size=3),
    },
    optional={"completed_at": st.none() | st.integers(0, 2**40), "metadata": JSON, "not_known_yet": JSON},
)


@given(ANSWERS)
def test_assembling_a_replay_gives_the_response_back(answer):
    sent = b"".join(event.encode() for event in replay(answer))
    assert assembled(SseParser().feed(sent)).answer() == answer


@given(ANSWERS)
def test_a_replay_is_numbered_from_zero_and_begins_empty(answer):
    told = replayed(answer)
    assert [body["sequence_number"] for body in told] == list(range(len(told)))
    assert [body["type"] for body in told[:2]] == ["response.created", "response.in_progress"]
    assert told[0]["response"]["output"] == []
    assert told[0]["response"]["status"] == "in_progress"
    assert told[0]["response"]["usage"] is None
    assert told[-1]["type"] == f"response.{answer['status']}"


def everything():
    """One item of each kind that is told in pieces."""
    answer = recorded(CASSETTES[-1])
    logprob = {"token": "ok", "logprob": -0.1, "bytes": [111, 107], "top_logprobs": []}
    annotation = {"type": "url_citation", "start_index": 0, "end_index": 2, "title": "t", "url": "https://example.com"}
    answer["output"] = [
        *answer["output"],
        {"type": "message", "id": "msg_2", "role": "assistant", "status": "completed", "content": [
            {"type": "refusal", "refusal": "I would rather not."},
            {"type": "output_text", "text": "ok", "annotations": [annotation], "logprobs": [logprob]},
        ]},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "run", "input": "print(1)"},
        {"type": "reasoning", "id": "rs_2", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"},
    ]  # fmt: skip
    return answer


@pytest.mark.parametrize(
    "answer", [everything(), *map(recorded, CASSETTES)], ids=["everything", *(path.stem for path in CASSETTES)]
)
def test_replayed_events_are_the_official_clients(answer):
    # The recordings are older than one member that the client's types have since required.
    if answer["usage"]:
        answer["usage"]["input_tokens_details"].setdefault("cache_write_tokens", 0)
    for event in replay(answer):
        assert EVENTS.validate_json(event.data).type == event.event


def test_every_kind_of_item_is_told_in_its_own_events():
    kinds = [body["type"].removeprefix("response.") for body in replayed(everything()) if body.get("output_index") != 1]
    reasoning = ["reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done"]
    assert kinds == [
        "created", "in_progress",
        "output_item.added", *reasoning, "reasoning_summary_part.done", *reasoning, "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "output_item.added",
        "content_part.added", "refusal.delta", "refusal.done", "content_part.done",
        "content_part.added", "output_text.delta", "output_text.annotation.added", "output_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.done", "output_item.done",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done",
        "output_item.done",
        "output_item.added", "output_item.done",
        "completed",
    ]  # fmt: skip


@given(st.lists(WORDS, max_size=5), st.booleans())
def test_logprobs_travel_with_their_tokens_where_those_spell_the_text(tokens, spelled):
    logprobs = [{"token": token, "logprob": -1.0} for token in tokens]
    text = "".join(tokens) + ("" if spelled else "!")
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
    item = {"type": "message", "id": "msg_1", "status": "completed", "content": [part]}
    told = replayed({"id": "resp_1", "status": "completed", "output": [item]})
    deltas = [body for body in told if body["type"] == "response.output_text.delta"]
    assert "".join(delta["delta"] for delta in deltas) == text
    sent = [logprob for delta in deltas for logprob in delta["logprobs"]]
    assert sent == (logprobs if spelled else [])
    done = next(body for body in told if body["type"] == "response.output_text.done")
    assert done["logprobs"] == logprobs


def sdk(sent):
    def respond(request):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=sent)

    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    return openai.OpenAI(api_key="test", base_url="http://upstream/v1", http_client=transport, max_retries=0)


def test_the_official_client_accumulates_a_replay():
    answer = everything()
    with (
        sdk(b"".join(event.encode() for event in replay(answer))) as client,
        client.responses.stream(model="m", input="hi") as told,
    ):
        final = told.get_final_response().to_dict()
    assert final["id"] == answer["id"]
    assert [item["type"] for item in final["output"]] == [item["type"] for item in answer["output"]]
    assert final["usage"] == answer["usage"]


@pytest.mark.parametrize("cassette", CASSETTES, ids=lambda path: path.stem)
def test_the_official_client_streams_a_replay(cassette):
    answer = recorded(cassette)
    sent = b"".join(event.encode() for event in replay(answer))
    with sdk(sent) as client:
        *_, last = client.responses.create(model="m", input="hi", stream=True)
    assert last.response.to_dict() == answer


def test_the_official_client_raises_what_happens_in_mid_stream():
    error = OpenAIResponses().error_event(502, "cacheproxy_upstream_unreachable", "the upstream went away")
    sent = b"".join(event.encode() for event in [*list(replay(everything()))[:4], error])
    with sdk(sent) as client, pytest.raises(openai.APIError, match="the upstream went away") as raised:
        list(client.responses.create(model="m", input="hi", stream=True))
    assert raised.value.code == "cacheproxy_upstream_unreachable"
    assert EVENTS.validate_json(error.data).type == "error"


RESPONSE = {"id": "resp_1", "status": "completed", "output": [{"type": "message"}]}
CREATED = {"type": "response.created", "sequence_number": 0, "response": {}}
COMPLETED = {"type": "response.completed", "sequence_number": 9, "response": RESPONSE}


def done(index, item):
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def test_an_output_that_the_last_event_leaves_out_is_put_together_from_its_items():
    completed = {**COMPLETED, "response": {"id": "resp_1", "status": "completed", "output": []}}
    assembler = stream(CREATED, done(1, {"type": "function_call"}), done(0, {"type": "message"}), completed)
    assert assembler.answer() == {**RESPONSE, "output": [{"type": "message"}, {"type": "function_call"}]}


def test_the_last_event_has_the_last_word():
    assert stream(CREATED, done(0, {"type": "reasoning"}), COMPLETED).answer() == RESPONSE


@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param([COMPLETED], id="never-created"),
        pytest.param([CREATED, {**COMPLETED, "response": None}], id="no-response"),
        pytest.param([CREATED, COMPLETED, COMPLETED], id="after-the-end"),
        pytest.param([{**CREATED, "sequence_number": 10}, COMPLETED], id="numbers-fall"),
        pytest.param([CREATED, done(None, {})], id="no-index"),
        pytest.param([CREATED, {"type": "response.output_item.done", "output_index": 0}], id="no-item"),
    ],
)
def test_events_out_of_place_are_malformed(bodies):
    with pytest.raises(MalformedStream):
        stream(*bodies)


@pytest.mark.parametrize(
    "failure",
    [{"type": "error", "code": "server_error", "message": "no"}, {"type": "response.failed", "response": RESPONSE}],
    ids=["error", "failed"],
)
def test_a_failure_in_mid_stream_fails_it_for_good(failure):
    assembler = stream(CREATED, failure, COMPLETED)
    assert assembler.failed
    assert assembler.answer() is None


def test_unknown_events_and_a_foreign_terminator_are_ignored():
    assembler = stream(CREATED, {"type": "keepalive", "sequence_number": 1}, COMPLETED)
    assembler.feed(ServerSentEvent(None))
    assembler.feed(ServerSentEvent("[DONE]"))
    assert assembler.answer() == RESPONSE
    assert not assembler.usage_only(named_event(COMPLETED))
