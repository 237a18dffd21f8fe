import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from cacheproxy.errors import BadRequest
from cacheproxy.model import Reason, Usage
from cacheproxy.wire.dialect import Fresh, MalformedStream
from cacheproxy.wire.openai_embeddings import Inputs, OpenAIEmbeddings, inputs, merge, missing_body, split
from cacheproxy.wire.sse import ServerSentEvent

EMBEDDINGS = OpenAIEmbeddings()


def row(index, embedding=(0.5, 0.25)):
    return {"object": "embedding", "index": index, "embedding": list(embedding)}


def answer(*rows, tokens=10):
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": list(rows), "model": "text-embedding-3-small", "usage": usage}


@pytest.mark.parametrize(
    ("given_input", "values"),
    [
        pytest.param("a", ("a",), id="a text"),
        pytest.param("", ("",), id="an empty text"),
        pytest.param(["a", "b"], ("a", "b"), id="texts"),
        pytest.param([1, 2], ([1, 2],), id="token numbers are one input"),
        pytest.param([[1, 2], [3]], ([1, 2], [3]), id="lists of token numbers"),
        pytest.param(["a", [1]], ("a", [1]), id="a text and token numbers"),
    ],
)
def test_a_request_is_cut_into_its_inputs(given_input, values):
    body = {"model": "m", "input": given_input, "dimensions": 2}
    assert inputs(body) == Inputs(values, {"model": "m", "input": None, "dimensions": 2})
    assert body["input"] == given_input


@pytest.mark.parametrize("given_input", [None, [], [[]], {}, 1, [1.5], [True], [None], ["a", []], [1, "a"]], ids=str)
def test_what_is_no_input_is_a_bad_request(given_input):
    for read in (inputs, EMBEDDINGS.view):
        with pytest.raises(BadRequest, match="input must be"):
            read({"model": "m", "input": given_input})


def test_a_missing_input_is_a_bad_request():
    with pytest.raises(BadRequest, match="input must be"):
        inputs({"model": "m"})


@pytest.mark.parametrize(
    ("missing", "raw"),
    [
        ([0, 1, 2], b'{"model": "m", "input": ["a", "\\u0062", "c"] }'),
        ([1], b'{"model": "m", "input": ["b"] }'),
        ([0, 2], b'{"model": "m", "input": ["a","c"] }'),
    ],
)
def test_only_the_missing_inputs_are_asked_for(missing, raw):
    original = b'{"model": "m", "input": ["a", "\\u0062", "c"] }'
    assert missing_body(original, inputs(json.loads(original)), missing) == raw


def test_a_single_text_is_forwarded_as_it_came():
    raw = b'{"input": "a"}'
    assert missing_body(raw, inputs(json.loads(raw)), [0]) == raw


def test_an_answer_is_split_in_the_order_of_the_inputs():
    whole = answer(row(1, [1.0]), row(0, [0.0]), tokens=4)
    first, second = split(whole, ["a", "bcd"])
    assert first == answer({**row(0, [0.0])}, tokens=1)
    assert second == answer({**row(0, [1.0])}, tokens=3)
    CreateEmbeddingResponse.model_validate(first)


@given(
    st.lists(st.text(max_size=9) | st.lists(st.integers(), min_size=1, max_size=9), min_size=1), st.integers(0, 9999)
)
def test_what_was_split_merges_into_the_same_answer(values, tokens):
    whole = answer(*(row(index, [float(index)]) for index in range(len(values))), tokens=tokens)
    singles = split(whole, values)
    assert len(singles) == len(values)
    assert all(single["usage"]["prompt_tokens"] >= 0 for single in singles)
    assert merge(singles) == whole


def test_answers_from_different_times_merge_in_the_order_they_are_given():
    merged = merge([answer(row(0, [3.0]), tokens=3), answer(row(0, [1.0]), tokens=1)])
    assert merged == answer(row(0, [3.0]), row(1, [1.0]), tokens=4)


def test_usage_beyond_plain_numbers_is_shared_out_too():
    whole = {"data": [row(0), row(1)], "usage": {"details": {"text": 5}, "tier": "x"}}
    assert [single["usage"] for single in split(whole, ["ab", "abc"])] == [
        {"details": {"text": 2}, "tier": "x"},
        {"details": {"text": 3}, "tier": "x"},
    ]
    assert merge(split(whole, ["ab", "abc"])) == whole


def test_an_answer_without_usage_stays_without():
    assert merge(split({"data": [row(0)]}, ["a"])) == {"data": [row(0)]}
    assert merge([answer(row(0), tokens=3), {"data": [row(0)]}])["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    "whole",
    [
        pytest.param({}, id="no data"),
        pytest.param(answer(row(0)), id="too few"),
        pytest.param(answer(row(0), row(1), row(2)), id="too many"),
        pytest.param(answer(row(0), row(0)), id="an index twice"),
        pytest.param(answer(row(0), row(0), row(1)), id="an index twice beside the others"),
        pytest.param(answer(row(1), row(2)), id="indexes that begin at one"),
        pytest.param(answer(row(0), row("1")), id="an index that is no number"),
        pytest.param(answer(row(0), row(1, [])), id="an empty embedding"),
        pytest.param(answer(row(0), "x"), id="a row that is no object"),
    ],
)
def test_an_upstream_that_answers_something_else_is_a_value_error(whole):
    with pytest.raises(ValueError, match=r".+"):
        split(whole, ["a", "b"])


def test_a_request_is_exact_only():
    body = {"model": "m", "input": "a", "stream": True}
    seen = EMBEDDINGS.view(body)
    assert (seen.model, seen.stream, seen.texts, seen.skeleton) == ("m", False, (), body)
    assert (seen.bypass, seen.exact_only) == (None, Reason.EMBEDDINGS)
    assert EMBEDDINGS.asking_usage(b"{}") == b"{}"


def test_an_answer_is_read():
    seen = EMBEDDINGS.read(answer(row(0, [0.5]), tokens=8))
    assert (seen.model, seen.usage, seen.text) == ("text-embedding-3-small", Usage(8, 0), "")
    assert (seen.storable, seen.exact_only) == (True, True)
    assert EMBEDDINGS.read(answer({**row(0), "embedding": "AACAPw=="})).storable
    assert not EMBEDDINGS.read(answer()).storable
    assert not EMBEDDINGS.read({**answer(row(0)), "error": {"message": "x"}}).storable


def test_a_refreshed_answer_gets_no_members_that_its_provider_does_not_tell():
    fresh = Fresh("tok3n", 9)
    assert EMBEDDINGS.refresh(answer(row(0)), fresh) == answer(row(0))
    assert EMBEDDINGS.refresh({"id": "embd-1", **answer(row(0))}, fresh)["id"] == "embd-tok3n"
    assert EMBEDDINGS.refresh(answer(row(0)), fresh, zero_usage=True) == answer(row(0), tokens=0)


def test_there_are_no_streams():
    assembler = EMBEDDINGS.assembler()
    event = ServerSentEvent("{}")
    with pytest.raises(MalformedStream):
        assembler.feed(event)
    with pytest.raises(MalformedStream):
        EMBEDDINGS.replay(answer(row(0)), with_usage=True)
    assert (assembler.answer(), assembler.failed, assembler.usage_only(event)) == (None, False, False)


def test_errors_have_openais_shape():
    body = EMBEDDINGS.error(400, "cacheproxy_bad_request", "no")
    assert body["error"]["type"] == "invalid_request_error"
    assert json.loads(EMBEDDINGS.error_event(400, "cacheproxy_bad_request", "no").data) == body
