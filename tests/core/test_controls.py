"""What callers may ask of the cache, read from headers and from LiteLLM's body object."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from cacheproxy.core.controls import MAX_TAGS, NO_CONTROLS, Controls, from_body, from_headers, tighter
from cacheproxy.errors import BadRequest
from cacheproxy.model import Mode

seconds = st.none() | st.floats(min_value=0, max_value=1e9)


@pytest.mark.parametrize(
    ("headers", "wished"),
    [
        pytest.param({}, Controls(), id="nothing"),
        pytest.param({"Cache-Control": "no-cache"}, Controls(no_cache=True), id="no-cache"),
        pytest.param({"Cache-Control": "No-Store"}, Controls(no_store=True), id="no-store in any case"),
        pytest.param({"Cache-Control": "only-if-cached"}, Controls(only_if_cached=True), id="only-if-cached"),
        pytest.param({"Cache-Control": "max-age=60"}, Controls(max_age_s=60), id="max-age"),
        pytest.param({"Cache-Control": "max-age=0"}, Controls(max_age_s=0), id="max-age of zero is a limit"),
        pytest.param({"Cache-Control": 'max-age="60"'}, Controls(max_age_s=60), id="max-age quoted"),
        pytest.param({"Cache-Control": " no-cache , max-age=5"}, Controls(no_cache=True, max_age_s=5), id="several"),
        pytest.param({"Cache-Control": "no-transform, stale-if-error=9, ,"}, Controls(), id="unknown directives"),
        pytest.param({"X-CacheProxy-Mode": "EXACT"}, Controls(mode=Mode.EXACT), id="mode"),
        pytest.param({"X-CacheProxy-TTL": "0"}, Controls(ttl_s=0), id="a ttl of zero is a limit"),
        pytest.param({"X-CacheProxy-TTL": "1.5"}, Controls(ttl_s=1.5), id="ttl"),
        pytest.param({"X-CacheProxy-Namespace": " team a "}, Controls(namespace="team a"), id="namespace"),
        pytest.param({"X-CacheProxy-Max-Wrong": "0.005"}, Controls(max_wrong=0.005), id="max-wrong"),
        pytest.param({"X-CacheProxy-Tags": "docs-v7, faq,,docs-v7"}, Controls(tags=("docs-v7", "faq")), id="tags"),
    ],
)
def test_headers_say_what_is_wished(headers, wished):
    assert from_headers(CIMultiDict(headers)) == wished
    assert from_headers(CIMultiDict({name.lower(): value for name, value in headers.items()})) == wished


def test_every_line_of_cache_control_counts():
    lines = CIMultiDict([("Cache-Control", "max-age=60"), ("cache-control", "no-store")])
    assert from_headers(lines) == Controls(no_store=True, max_age_s=60)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"X-CacheProxy-Mode": "on"}, id="mode"),
        pytest.param({"X-CacheProxy-TTL": "soon"}, id="ttl in words"),
        pytest.param({"X-CacheProxy-TTL": "-1"}, id="ttl below zero"),
        pytest.param({"X-CacheProxy-TTL": "nan"}, id="ttl that is no number"),
        pytest.param({"X-CacheProxy-TTL": "inf"}, id="ttl without end"),
        pytest.param({"Cache-Control": "max-age"}, id="max-age without seconds"),
        pytest.param({"Cache-Control": "max-age=x"}, id="max-age in words"),
        pytest.param({"X-CacheProxy-Namespace": "a\tb"}, id="namespace with a tab"),
        pytest.param({"X-CacheProxy-Namespace": "a" * 129}, id="namespace too long"),
        pytest.param({"X-CacheProxy-Max-Wrong": "1.1"}, id="more wrong than everything"),
        pytest.param({"X-CacheProxy-Tags": ",".join(map(str, range(MAX_TAGS + 1)))}, id="too many tags"),
        pytest.param({"X-CacheProxy-Tags": "x" * 129}, id="a tag too long"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(headers):
    (name,) = headers
    with pytest.raises(BadRequest, match=name):
        from_headers(CIMultiDict(headers))


@pytest.mark.parametrize(
    ("cache", "wished"),
    [
        pytest.param({}, Controls(), id="nothing"),
        pytest.param({"ttl": 10}, Controls(ttl_s=10), id="ttl"),
        pytest.param({"ttl": 0}, Controls(ttl_s=0), id="ttl of zero"),
        pytest.param({"s-maxage": 10.5}, Controls(max_age_s=10.5), id="s-maxage"),
        pytest.param({"no-cache": True}, Controls(no_cache=True), id="no-cache"),
        pytest.param({"no-store": True, "no-cache": False}, Controls(no_store=True), id="no-store"),
        pytest.param({"namespace": "n"}, Controls(namespace="n"), id="namespace"),
        pytest.param({"ttl": None, "namespace": None}, Controls(), id="nulls"),
        pytest.param({"use-cache": True}, Controls(), id="members that we do not know"),
    ],
)
def test_litellms_cache_object_says_what_is_wished(cache, wished):
    assert from_body(NO_CONTROLS, cache) == wished


@pytest.mark.parametrize(
    ("cache", "named"),
    [
        ({"ttl": "10"}, "cache.ttl"),
        ({"ttl": True}, "cache.ttl"),
        ({"s-maxage": -1}, "cache.s-maxage"),
        ({"no-cache": "yes"}, "cache.no-cache"),
        ({"no-store": 1}, "cache.no-store"),
        ({"namespace": 7}, "cache.namespace"),
        ({"namespace": "x" * 200}, "cache.namespace"),
    ],
)
def test_a_cache_object_that_cannot_be_meant_is_refused_by_name(cache, named):
    with pytest.raises(BadRequest, match=named):
        from_body(NO_CONTROLS, cache)


@given(asked=st.builds(Controls, no_cache=st.booleans(), no_store=st.booleans(), max_age_s=seconds, ttl_s=seconds))
def test_a_body_only_tightens_what_the_headers_asked(asked):
    both = from_body(asked, {"ttl": 30, "s-maxage": 60, "no-cache": False, "no-store": False})
    assert both.no_cache == asked.no_cache
    assert both.no_store == asked.no_store
    assert both.ttl_s == min(30, 30 if asked.ttl_s is None else asked.ttl_s)
    assert both.max_age_s == min(60, 60 if asked.max_age_s is None else asked.max_age_s)


def test_a_namespace_in_a_header_wins_over_one_in_the_body():
    assert from_body(Controls(namespace="header"), {"namespace": "body"}).namespace == "header"


@given(seconds, seconds)
def test_the_tighter_of_two_limits_is_never_above_either(one, other):
    limit = tighter(one, other)
    assert limit == tighter(other, one)
    assert all(limit <= given for given in (one, other) if given is not None)
    assert (limit is None) == (one is None and other is None)
