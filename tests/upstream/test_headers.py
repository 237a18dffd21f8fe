from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.upstream.headers import HOP_BY_HOP, forwarded, returned

REQUEST = [
    ("Host", "127.0.0.1:8090"),
    ("authorization", "Bearer sk"),
    ("X-Stainless-Lang", "python"),
    ("Cookie", "a=1"),
    ("Cookie", "b=2"),
    ("Content-Length", "12"),
    ("Cache-Control", "no-cache"),
    ("X-CacheProxy-Mode", "exact"),
    ("x-cacheproxy-TTL", "60"),
    ("Accept-Encoding", "gzip, br"),
]


def test_a_cached_route_loses_our_controls_and_asks_for_plain_bytes():
    assert forwarded(REQUEST, cacheable=True) == [
        ("authorization", "Bearer sk"),
        ("X-Stainless-Lang", "python"),
        ("Cookie", "a=1"),
        ("Cookie", "b=2"),
        ("Content-Length", "12"),
        ("Accept-Encoding", "identity"),
    ]


def test_other_routes_keep_cache_control_and_codings():
    kept = forwarded(REQUEST, cacheable=False)
    assert ("Cache-Control", "no-cache") in kept
    assert ("Accept-Encoding", "gzip, br") in kept
    assert not [name for name, _ in kept if name.lower().startswith("x-cacheproxy")]


def test_a_cached_route_asks_for_identity_even_where_the_caller_asked_for_nothing():
    assert forwarded([], cacheable=True) == [("Accept-Encoding", "identity")]


def test_several_accept_encodings_become_one_where_the_first_stood():
    pairs = [("accept-encoding", "gzip"), ("A", "1"), ("Accept-Encoding", "br")]
    assert forwarded(pairs, cacheable=True) == [("accept-encoding", "identity"), ("A", "1")]


def test_nothing_is_added_that_names_the_caller():
    assert forwarded([("A", "1")], cacheable=False) == [("A", "1")]


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | {"host", "expect"}))
def test_fields_of_one_hop_end_at_this_hop_on_the_way_up(name):
    assert forwarded([(name.title(), "x"), ("A", "1")], cacheable=False) == [("A", "1")]


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | {"x-cache-status", "x-cacheproxy-layer"}))
def test_fields_of_one_hop_end_at_this_hop_on_the_way_back(name):
    assert returned([(name.upper(), "x"), ("A", "1")]) == [("A", "1")]


def test_connection_names_further_fields_of_its_hop():
    pairs = [
        ("Connection", "close, X-Trace"),
        ("x-trace", "1"),
        ("connection", "x-other"),
        ("X-Other", "2"),
        ("A", "1"),
    ]
    assert forwarded(pairs, cacheable=False) == [("A", "1")]
    assert returned(pairs) == [("A", "1")]


@pytest.mark.parametrize("function", [lambda p, **k: forwarded(p, cacheable=False, **k), returned])
def test_content_length_goes_when_the_body_was_changed(function):
    pairs = [("content-length", "3"), ("A", "1")]
    assert function(pairs) == pairs
    assert function(pairs, body_changed=True) == [("A", "1")]


@pytest.mark.parametrize("function", [lambda p, **k: forwarded(p, cacheable=False, **k), returned])
def test_more_can_be_dropped(function):
    assert function([("Authorization", "Bearer"), ("A", "1")], drop=frozenset({"authorization"})) == [("A", "1")]


def test_an_answer_keeps_what_the_caller_needs():
    pairs = [
        ("content-type", "text/event-stream"),
        ("Content-Encoding", "br"),
        ("retry-after", "3"),
        ("x-request-id", "r"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Cache-Status", "origin; fwd=miss"),
    ]
    assert returned(pairs) == pairs


names = st.sampled_from(
    ["A", "b", "TE", "Host", "Connection", "Cookie", "X-CacheProxy-TTL", "Content-Type", "Cache-Control"]
)


@given(st.lists(st.tuples(names, st.sampled_from(["", "b", "1, A"]))), st.booleans())
def test_what_passes_keeps_its_order_and_spelling_and_passes_again(pairs, cacheable):
    once = forwarded(pairs, cacheable=cacheable)
    rest = iter(pairs)
    assert all(pair in rest for pair in once if pair[0] != "Accept-Encoding")
    assert forwarded(once, cacheable=cacheable) == once
