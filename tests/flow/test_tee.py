"""Reading along: every byte is passed on, however the stream was cut, and only what is whole gives an answer."""

import gzip
import json
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.errors import BadRequest, TooLarge, UpstreamUnreachable
from cacheproxy.flow.tee import Decoder, Recorder, can_decode, decoded, plain_answer
from cacheproxy.wire.dialects import DIALECTS

CHAT = DIALECTS["/v1/chat/completions"]
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Grüße 🎈 " * 20}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
STREAM = b"".join(event.encode() for event in CHAT.replay(ANSWER, with_usage=True))


def cut(data, places):
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def read(chunks, *, coding="", hide_usage=False):
    recorder = Recorder(CHAT.assembler(), coding=coding, hide_usage=hide_usage)
    pieces = [piece for chunk in chunks for piece in recorder.feed(chunk)]
    return [*pieces, *recorder.rest()], recorder.answer()


@given(places=st.lists(st.integers(0, 10_000), max_size=30), coding=st.sampled_from(["", "gzip", "deflate"]))
def test_every_byte_is_passed_on_and_the_answer_found_wherever_the_stream_is_cut(places, coding):
    pack = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[coding]
    pieces, answer = read(cut(pack(STREAM), places), coding=coding)
    assert b"".join(piece.data for piece in pieces) == STREAM
    assert answer == ANSWER


@given(noise=st.binary(max_size=60), at=st.integers(0, 10_000))
def test_every_byte_is_passed_on_whatever_it_is(noise, at):
    at %= len(STREAM) + 1
    spoilt = STREAM[:at] + noise + STREAM[at:]
    pieces, _ = read([spoilt[:at], spoilt[at:]])
    assert b"".join(piece.data for piece in pieces) == spoilt


@given(kept=st.integers(0, len(STREAM) - 20))
def test_a_stream_cut_short_is_no_answer(kept):
    _, answer = read([STREAM[:kept]])
    assert answer is None


def test_only_the_event_of_the_usage_is_marked():
    pieces, _ = read([STREAM], hide_usage=True)
    (marked,) = [piece.data for piece in pieces if piece.usage]
    assert json.loads(marked.removeprefix(b"data: "))["choices"] == []
    assert not any(piece.usage for piece in read([STREAM])[0])


def test_an_event_without_end_is_passed_on_in_bounded_memory():
    recorder = Recorder(CHAT.assembler(), coding="", hide_usage=False)
    chunks = [b"data: ", *[b"x" * 1024 * 1024] * 10, b"\n\n"]
    pieces = [piece.data for chunk in chunks for piece in recorder.feed(chunk)]
    assert len(recorder._parser.rest) <= 9 * 1024 * 1024
    assert b"".join([*pieces, *(piece.data for piece in recorder.rest())]) == b"".join(chunks)
    assert recorder.answer() is None


def test_a_stream_that_is_not_in_its_coding_is_an_error_of_the_upstream():
    with pytest.raises(UpstreamUnreachable):
        read([b"not gzip"], coding="gzip")


@pytest.mark.parametrize(("coding", "known"), [("", True), ("identity", True), ("gzip", True), ("br", False)])
def test_codings_that_can_be_undone(coding, known):
    assert can_decode(coding) is known


def test_a_decoder_undoes_no_more_than_it_may():
    bomb = gzip.compress(b"x" * 1_000_000)
    assert len(Decoder("gzip").feed(bomb, 100)) == 100
    with pytest.raises(TooLarge):
        decoded(bomb, "gzip", limit=999_999)
    assert len(decoded(bomb, "gzip", limit=1_000_000)) == 1_000_000


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b"{}")[:-1], gzip.compress(b"{}") + b"x", b"x", b""],
    ids=["cut off", "something behind it", "not in the coding", "nothing"],
)
def test_a_coded_request_that_is_not_one_whole_is_refused(body):
    with pytest.raises(BadRequest):
        decoded(body, "gzip", limit=100)


@pytest.mark.parametrize("headers", [[("content-encoding", " GZIP")], [("X", "y"), ("Content-Encoding", "gzip")]])
def test_an_upstreams_body_is_unfolded_by_its_headers(headers):
    assert plain_answer(gzip.compress(b"{}"), headers) == b"{}"
    assert plain_answer(b"{}", []) == b"{}"
