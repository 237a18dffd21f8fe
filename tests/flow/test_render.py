"""What callers are told besides the answer."""

import json

import pytest

from cacheproxy.errors import BadRequest, Overloaded
from cacheproxy.flow import render
from cacheproxy.flow.told import Hit, Miss
from cacheproxy.model import CacheStatus, Layer, Reason
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
