"""What callers are told besides the answer."""

import json
import math

import pytest

from cacheproxy.errors import BadRequest, Overloaded
from cacheproxy.flow import render
from cacheproxy.flow.told import Hit, Miss
from cacheproxy.model import CacheStatus, Layer, Reason
from cacheproxy.wire.dialect import Fresh
from cacheproxy.wire.dialects import DIALECTS

CHAT = DIALECTS["/v1/chat/completions"]
NOW = 1_800_000_000.0


def test_a_hit_says_so(make_entry):
    headers = dict(render.hit_headers(Hit(make_entry(), Layer.SEMANTIC, 0.98765), now=NOW + 60.4))
    assert headers == {
        "X-Cache-Status": "Hit",
        "Age": "60",
        "Cache-Status": "cacheproxy; hit; ttl=3540; detail=semantic",
        "X-CacheProxy-Layer": "semantic",
        "X-CacheProxy-Entry": "id-a",
        "X-CacheProxy-Cost": "0",
        "X-CacheProxy-Saved": "0.25",
        "X-CacheProxy-Similarity": "0.9877",
    }


def test_ages_are_never_below_zero(make_entry):
    headers = dict(render.hit_headers(Hit(make_entry(), Layer.EXACT), now=NOW - 100))
    assert headers["Age"] == "0"
    assert "X-CacheProxy-Similarity" not in headers
    late = dict(render.hit_headers(Hit(make_entry(), Layer.EXACT), now=NOW + 10_000))
    assert "ttl=0" in late["Cache-Status"]


def test_a_pinned_entry_has_no_time_to_live(make_entry):
    headers = dict(render.hit_headers(Hit(make_entry(expires_at=math.inf), Layer.EXACT), now=NOW))
    assert headers["Cache-Status"] == "cacheproxy; hit; detail=exact"


@pytest.mark.parametrize(
    ("status", "forwarded"),
    [(CacheStatus.MISS, "miss"), (CacheStatus.BYPASS, "bypass"), (CacheStatus.REFRESH, "request")],
)
def test_a_miss_says_why(status, forwarded):
    headers = dict(render.miss_headers(Miss(status, Reason.BELOW_THRESHOLD, 0.5), cost_usd=0.00001))
    assert headers == {
        "X-Cache-Status": status.value,
        "Cache-Status": f"cacheproxy; fwd={forwarded}; detail=below-threshold",
        "X-CacheProxy-Reason": "below-threshold",
        "X-CacheProxy-Similarity": "0.5000",
        "X-CacheProxy-Cost": "0.00001",
    }


def test_what_is_not_known_is_not_said():
    names = dict(render.miss_headers(Miss(CacheStatus.MISS, Reason.NO_ENTRY)))
    assert not {"X-CacheProxy-Cost", "X-CacheProxy-Similarity"} & names.keys()


def test_a_shared_answer_says_so():
    headers = dict(render.coalesced_headers())
    assert headers["X-Cache-Status"] == "Hit"
    assert headers["X-CacheProxy-Layer"] == "coalesced"


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (1e-9, "0.000000001"), (1e-12, "0"), (12.5, "12.5"), (100, "100"), (1e-5, "0.00001")]
)
def test_money_is_written_without_exponents(amount, text):
    assert render.usd(amount) == text


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (BadRequest("no"), 400, None),
        (Overloaded("full", retry_after_s=0.2), 503, "1"),
        (Overloaded("full", retry_after_s=7.6), 503, "8"),
    ],
)
def test_an_error_of_ours_is_told_in_the_callers_dialect(error, status, retry):
    reply = render.failure(CHAT, error)
    assert reply.status == status
    assert json.loads(reply.body)["error"]["code"] == error.code
    assert dict(reply.headers).get("Retry-After") == retry
    assert json.loads(render.failure(DIALECTS["/v1/messages"], error).body)["type"] == "error"


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
TOLD = {
    "/v1/chat/completions": {
        "id": "chatcmpl-1",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Yes, " * 30, "tool_calls": [CALL], "refusal": None},
                "logprobs": {"content": [{"token": "Yes", "logprob": -1, "top_logprobs": []}]},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}},
    },
    "/v1/completions": {
        "id": "cmpl-1",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": "Yes, " * 30, "logprobs": {"tokens": ["Yes"]}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5},
    },
    "/v1/responses": {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "completed_at": 3,
        "status": "completed",
        "model": "m",
        "metadata": {},
        "output": [
            {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Yes", "annotations": [{"type": "file_path"}]}],
            },
            {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        ],
        "usage": {"input_tokens": 3, "output_tokens": 5},
    },
    "/v1/messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "s"},
            {"type": "text", "text": "Yes", "citations": [{"type": "char_location", "cited_text": "y"}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1, {"b": 2}]}},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5, "cache_creation": {"ephemeral_5m_input_tokens": 0}},
    },
}


@pytest.mark.parametrize("path", TOLD)
def test_telling_an_answer_does_not_change_it(path):
    """It may be told again from the very same object."""
    dialect, answer = DIALECTS[path], TOLD[path]
    before = json.dumps(answer)
    fresh = dialect.refresh(answer, Fresh("t0k3n", 2), zero_usage=True)
    for told in (answer, fresh):
        for with_usage in (True, False):
            assert b"".join(event.encode() for event in dialect.replay(told, with_usage=with_usage))
    assert json.dumps(answer) == before
    assert fresh["id"] != answer["id"]
