"""Chat completions as streams: assembled, replayed, and what comes back is what went in."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from support.chats import CHAT, answer, assembled

from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.sse import ServerSentEvent, SseParser

CASSETTES = sorted((Path(__file__).parents[1] / "cassettes").glob("openai_chat_*.json"))
cassettes = pytest.mark.parametrize("path", CASSETTES, ids=lambda path: path.stem)


def replayed(whole, *, with_usage=True):
    return list(CHAT.replay(whole, with_usage=with_usage))


def chunks(events):
    return [json.loads(event.data) for event in events if event.data != "[DONE]"]


# Streams


@cassettes
def test_a_recorded_stream_is_assembled_into_the_json_answer(path):
    assembler = assembled(SseParser().feed(path.with_suffix(".sse").read_bytes()))
    assert assembler.answer() == json.loads(path.read_text())
    assert not assembler.failed


@cassettes
def test_a_recorded_answer_survives_replay_and_assembly(path):
    whole = json.loads(path.read_text())
    assert assembled(replayed(whole)).answer() == whole
    without = {name: value for name, value in whole.items() if name != "usage"}
    assert assembled(replayed(whole, with_usage=False)).answer() == without


@cassettes
def test_no_stream_cut_short_is_complete(path):
    events = SseParser().feed(path.with_suffix(".sse").read_bytes())
    finished = [place for place, event in enumerate(events) if '"finish_reason":"' in (event.data or "")]
    assembler = CHAT.assembler()
    for event in events[: finished[-1]]:
        assembler.feed(event)
        assert assembler.answer() is None


# The official client's types of a chunk leave out custom tools.
@pytest.mark.parametrize("path", [path for path in CASSETTES if "custom" not in path.stem], ids=lambda path: path.stem)
def test_the_official_client_knows_every_chunk_of_a_replay(path):
    # vllm-project/semantic-router 913: a hit broke the stream.
    for chunk in chunks(replayed(json.loads(path.read_text()))):
        assert ChatCompletionChunk.model_validate(chunk).to_dict(mode="json") == chunk


@pytest.mark.parametrize("name", ["text", "parallel_tools", "refusal", "two_choices_logprobs"])
def test_the_official_client_reads_a_replay_as_it_reads_the_json(name):
    path = next(path for path in CASSETTES if path.stem == f"openai_chat_{name}")
    whole = json.loads(path.read_text())
    state = ChatCompletionStreamState()
    for chunk in chunks(replayed(whole)):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    told = state.current_completion_snapshot.to_dict(mode="json", exclude_none=True)
    for choice in told["choices"]:
        for call in choice["message"].get("tool_calls") or ():
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
    expected = ChatCompletion.model_validate(whole).to_dict(mode="json", exclude_none=True)
    assert told == expected


texts = st.text(max_size=12) | st.text(alphabet="ab \n", min_size=80, max_size=300)
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
unknown = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "id", "text"]), inner),
    max_leaves=5,
)
calls = st.one_of(
    st.builds(
        lambda identity, name, arguments: {
            "id": identity,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        st.text(min_size=1, max_size=5),
        texts,
        texts,
    ),
    st.builds(lambda given: {"id": "c", "type": "custom", "custom": {"name": "f", "input": given}}, texts),
)
tokens = st.builds(lambda token: {"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}, texts)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | texts},
    optional={
        "refusal": st.none() | texts,
        "reasoning_content": st.none() | texts,
        "reasoning": texts,
        "tool_calls": st.none() | st.lists(calls, max_size=3),
        "function_call": st.none() | st.builds(lambda arguments: {"name": "f", "arguments": arguments}, texts),
        "annotations": st.lists(unknown, max_size=2),
        "audio": st.builds(lambda data: {"id": "a", "data": data, "transcript": data, "expires_at": 5}, texts),
        "id": texts,
        "something_new": unknown,
    },
)
choices = st.fixed_dictionaries(
    {"message": messages, "finish_reason": st.sampled_from(["stop", "length", "tool_calls", "content_filter"])},
    optional={
        "logprobs": st.none()
        | st.fixed_dictionaries({"content": st.none() | st.lists(tokens), "refusal": st.none() | st.lists(tokens)}),
        "stop_reason": st.none() | st.integers() | texts,
        "content_filter_results": unknown,
    },
)
answers = st.builds(
    lambda chosen, members: {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": index, **choice} for index, choice in enumerate(chosen)],
        **members,
    },
    st.lists(choices, min_size=1, max_size=2),
    st.fixed_dictionaries(
        {},
        optional={
            "usage": st.just({"prompt_tokens": 1, "completion_tokens": 2, "details": {"reasoning_tokens": 1}}),
            "service_tier": st.none() | st.just("default"),
            "system_fingerprint": st.none() | texts,
            "citations": unknown,
        },
    ),
)


@given(answers)
def test_assembling_a_replay_gives_the_answer(whole):
    before = copy.deepcopy(whole)
    assert assembled(replayed(whole)).answer() == whole
    assert whole == before


@given(answers)
def test_without_usage_no_chunk_mentions_it(whole):
    events = replayed(whole, with_usage=False)
    assert all("usage" not in chunk for chunk in chunks(events))
    whole.pop("usage", None)
    assert assembled(events).answer() == whole


def test_log_probabilities_go_with_their_own_text():
    alternatives = [{"token": word, "logprob": -0.1, "bytes": None, "top_logprobs": []} for word in ("Hi", " ", "you")]
    whole = answer({"content": "Hi you"})
    whole["choices"][0]["logprobs"] = {"content": alternatives, "refusal": None}
    told = [chunk["choices"][0] for chunk in chunks(replayed(whole)) if chunk["choices"][0]["logprobs"]]
    assert [(part["delta"]["content"], part["logprobs"]["content"]) for part in told] == [
        (token["token"], [token]) for token in alternatives
    ]


def test_reasoning_is_told_before_the_text():
    # BerriAI/litellm 32068: reasoning_content was lost on streamed hits.
    whole = answer({"content": "4", "reasoning_content": "2 + 2"})
    members = [name for chunk in chunks(replayed(whole)) for name in chunk["choices"][0]["delta"]]
    assert members == ["role", "content", "reasoning_content", "content"]


def test_a_replay_begins_with_the_role_and_ends_with_the_terminator():
    events = replayed(answer(usage={"prompt_tokens": 1}))
    first, *_, last, usage = chunks(events)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (usage["choices"], usage["usage"]) == ([], {"prompt_tokens": 1})
    assert {chunk["object"] for chunk in chunks(events)} == {"chat.completion.chunk"}
    assert events[-1].encode() == b"data: [DONE]\n\n"


def test_calls_that_share_an_index_are_never_put_together():
    fragments = [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    deltas = [{"choices": [{"index": 0, "delta": {"tool_calls": [fragment]}}]} for fragment in fragments]
    with pytest.raises(MalformedStream):
        assembled([ServerSentEvent(json.dumps(delta)) for delta in deltas])


def test_calls_come_in_the_order_of_their_indexes():
    fragments = [{"index": index, "id": f"call_{index}", "function": {"arguments": "{}"}} for index in (1, 0)]
    told = {"choices": [{"index": 0, "delta": {"tool_calls": fragments}, "finish_reason": "tool_calls"}]}
    whole = assembled([ServerSentEvent(json.dumps(told)), ServerSentEvent("[DONE]")]).answer()
    assert [call["id"] for call in whole["choices"][0]["message"]["tool_calls"]] == ["call_0", "call_1"]


def test_a_delta_of_the_wrong_type_is_refused():
    with pytest.raises(MalformedStream):
        assembled([ServerSentEvent('{"choices":[{"index":0,"delta":"Hi"}]}')])
