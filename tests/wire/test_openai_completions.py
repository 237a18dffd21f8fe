import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import BadRequest
from cacheproxy.model import Reason, Usage
from cacheproxy.wire.dialect import Fresh, MalformedStream
from cacheproxy.wire.openai_completions import OpenAICompletions
from cacheproxy.wire.sse import ServerSentEvent, SseParser

CASSETTES = sorted((Path(__file__).parents[1] / "cassettes").glob("openai_completions_*.json"))
cassettes = pytest.mark.parametrize("path", CASSETTES, ids=lambda path: path.stem)
COMPLETIONS = OpenAICompletions()


def view(**members):
    return COMPLETIONS.view({"model": "m", **members})


def answer(text="Hi", finish="stop", **members):
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], **members}


def assembled(events):
    assembler = COMPLETIONS.assembler()
    for event in events:
        assembler.feed(event)
    return assembler


def test_a_prompt_of_one_text_is_the_last_user_turn():
    body = {"model": "m", "prompt": "Once", "stream": True}
    seen = COMPLETIONS.view(body)
    assert (seen.texts, seen.skeleton) == (("Once",), {"model": "m", "prompt": None, "stream": True})
    assert (seen.exact_only, seen.bypass, seen.stream, seen.asks_usage) == (None, None, True, False)
    assert body["prompt"] == "Once"


@pytest.mark.parametrize("prompt", [["a"], ["a", "b"], [1, 2], [[1], [2]], None], ids=str)
def test_any_other_prompt_is_exact_only_and_wholly_in_the_skeleton(prompt):
    seen = view(prompt=prompt)
    assert (seen.texts, seen.exact_only) == ((), Reason.NOT_PLAIN_TEXT)
    assert seen.skeleton == {"model": "m", "prompt": prompt}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"n": 2}, Reason.SEVERAL_CHOICES),
        ({"best_of": 3}, Reason.SEVERAL_CHOICES),
        ({"n": 1, "best_of": 1, "logprobs": None, "echo": False}, None),
        ({"logprobs": 0}, Reason.LOGPROBS),
        ({"logprobs": 5}, Reason.LOGPROBS),
        ({"logprobs": False}, None),
        ({"echo": True}, Reason.NOT_PLAIN_TEXT),
    ],
    ids=str,
)
def test_which_requests_are_exact_only(members, reason):
    assert view(prompt="Once", **members).exact_only is reason


def test_a_wrong_type_is_a_bad_request():
    with pytest.raises(BadRequest, match="stream"):
        view(prompt="Once", stream="yes")


def test_usage_of_a_stream_can_be_asked_for():
    assert COMPLETIONS.asking_usage(b"{}") == b'{"stream_options":{"include_usage":true}}'


@pytest.mark.parametrize(
    ("whole", "storable", "exact_only"),
    [
        (answer(), True, False),
        (answer(finish="length"), True, True),
        (answer(finish="content_filter"), False, False),
        (answer(finish=None), False, False),
        (answer(error={"message": "x"}), False, False),
        (answer(choices=[]), False, False),
    ],
)
def test_what_may_be_stored_and_for_whom(whole, storable, exact_only):
    seen = COMPLETIONS.read(whole)
    assert (seen.storable, seen.exact_only) == (storable, exact_only)


def test_text_model_and_usage_are_read():
    seen = COMPLETIONS.read(answer(usage={"prompt_tokens": 5, "completion_tokens": 7}))
    assert (seen.text, seen.model, seen.usage) == ("Hi", "m", Usage(5, 7))


@pytest.mark.parametrize("whole", [{}, {"choices": [{}]}, answer(text=None)])
def test_what_is_no_answer_is_a_value_error(whole):
    with pytest.raises(ValueError, match="without"):
        COMPLETIONS.read(whole)


@cassettes
def test_a_recorded_stream_is_assembled_into_the_json_answer(path):
    events = SseParser().feed(path.with_suffix(".sse").read_bytes())
    assert assembled(events).answer() == json.loads(path.read_text())
    assert assembled(events[:-2]).answer() is None


@cassettes
def test_a_recorded_answer_survives_replay_and_assembly(path):
    whole = json.loads(path.read_text())
    events = list(COMPLETIONS.replay(whole, with_usage=True))
    assert assembled(events).answer() == whole


@given(
    st.lists(
        st.tuples(
            st.text(max_size=200),
            st.sampled_from(["stop", "length"]),
            st.none() | st.fixed_dictionaries({"tokens": st.lists(st.text()), "top_logprobs": st.none()}),
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_assembling_a_replay_gives_the_answer(chosen, with_usage):
    whole = answer(usage={"prompt_tokens": 1}, system_fingerprint=None)
    whole["choices"] = [
        {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish, "stop_reason": None}
        for index, (text, finish, logprobs) in enumerate(chosen)
    ]
    events = list(COMPLETIONS.replay(whole, with_usage=with_usage))
    if not with_usage:
        assert not any('"usage"' in event.data for event in events)
        del whole["usage"]
    assert assembled(events).answer() == whole


def test_a_text_that_is_none_is_refused():
    with pytest.raises(MalformedStream):
        assembled([ServerSentEvent('{"choices":[{"index":0,"text":["a"]}]}')])


def test_a_refreshed_answer_is_a_new_one():
    assert COMPLETIONS.refresh(answer(), Fresh("tok3n", 9)) == {**answer(), "id": "cmpl-tok3n", "created": 9}


def test_errors_have_openais_shape_whole_and_in_mid_stream():
    event = COMPLETIONS.error_event(502, "cacheproxy_upstream_unreachable", "no")
    assert json.loads(event.data) == COMPLETIONS.error(502, "cacheproxy_upstream_unreachable", "no")
    assert assembled([event]).failed
