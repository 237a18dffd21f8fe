"""A request understood, and one that comes again recognised by everything that it is."""

import gzip
import json
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from cacheproxy.core.eligibility import CacheRules
from cacheproxy.core.scope import KeyRules
from cacheproxy.errors import BadRequest, TooLarge
from cacheproxy.flow.arrival import Arrival
from cacheproxy.flow.asked import Reader, Rules, TenantRules, plain_body
from cacheproxy.flow.routing import Route, Target
from cacheproxy.model import Caller
from cacheproxy.wire.dialects import DIALECTS

PATH = "/v1/chat/completions"
ROUTE = Route(Target("default", "https://llm.example/v1"), PATH, "https://llm.example/v1/chat/completions", "")
OWN = TenantRules()
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def rules(tenants=OWN, **changes):
    return Rules(
        **{"cache": CacheRules(), "keys": KeyRules(b"s" * 32), "tenants": tenants, "max_body_bytes": 5000, **changes}
    )


@pytest.fixture
def read(api):
    async def read(body=BODY, headers=(), *, reader=None, target=PATH, caller=None):
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        incoming = api.Asking("POST", target, CIMultiDict(headers), raw, caller=caller)
        return await (reader or Reader(rules())).read(incoming, ROUTE, DIALECTS[PATH], arrival=Arrival("req_1", 1.0))

    return read


async def test_a_request_is_understood(read):
    asked = await read(headers={"X-CacheProxy-Namespace": "n"})
    assert (asked.view.model, asked.prompt, asked.place.namespace) == ("m", "Hi", "n")
    assert asked.raw == asked.sent == json.dumps(BODY).encode()
    assert not asked.recoded
    assert asked.bypass is None


async def test_several_texts_of_one_turn_are_one_prompt(read):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert (await read({"messages": [{"role": "user", "content": parts}]})).prompt == "one\ntwo"


# --- tenants


async def test_each_credential_is_a_tenant(read):
    tenants = [
        (await read(headers=headers)).tenant
        for headers in ({}, {"Authorization": "a"}, {"Authorization": "b"}, {"x-api-key": "c"}, {"Authorization": "a"})
    ]
    assert tenants[0] == "anonymous"
    assert len(set(tenants)) == 4
    assert tenants[1] == tenants[4]


async def test_a_header_names_the_tenant_where_the_operator_says_so(read):
    reader = Reader(rules(TenantRules(header="x-tenant")))
    one = await read(headers={"X-Tenant": "a", "Authorization": "1"}, reader=reader)
    same = await read(headers={"X-Tenant": "a", "Authorization": "2"}, reader=reader)
    other = await read(headers={"X-Tenant": "b", "Authorization": "1"}, reader=reader)
    assert one.keys == same.keys != other.keys
    assert one.credential != same.credential
    with pytest.raises(BadRequest, match="x-tenant"):
        await read(reader=reader)


async def test_everybody_is_one_tenant_where_the_operator_says_so(read):
    reader = Reader(rules(TenantRules(shared=True)))
    keys = {(await read(headers={"Authorization": key}, reader=reader)).keys for key in "ab"}
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("tenants", "caller", "headers", "tenant"),
    [
        (TenantRules(hashed=False), None, {"Authorization": "a"}, "unknown"),
        (TenantRules(hashed=False, header="x-tenant"), None, {"X-Tenant": "a"}, "unknown"),
        (TenantRules(hashed=False), None, {}, "anonymous"),
        (TenantRules(hashed=False), Caller("team"), {"Authorization": "a"}, "team"),
        (TenantRules(hashed=False, shared=True), None, {"Authorization": "a"}, "shared"),
    ],
    ids=["credential", "header", "nothing", "key of ours", "shared"],
)
async def test_who_would_be_named_by_a_hash_that_nobody_makes_again_is_unknown(read, tenants, caller, headers, tenant):
    """While Redis was away at the start sums were booked for tenants that never came again."""
    assert (await read(headers=headers, reader=Reader(rules(tenants)), caller=caller)).tenant == tenant


# --- bodies


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "deflate"])
async def test_a_body_in_a_content_coding_means_the_same(read, coding):
    pack = zlib.compress if coding == "deflate" else gzip.compress
    coded = pack(json.dumps(BODY).encode())
    asked = await read(coded, {"Content-Encoding": coding})
    assert asked.keys == (await read()).keys
    assert asked.raw == coded
    assert plain_body(asked) == json.dumps(BODY).encode()


@pytest.mark.parametrize(
    ("body", "coding", "error"),
    [
        pytest.param(b"{}", "br", BadRequest, id="unknown coding"),
        pytest.param(b"{}", "gzip", BadRequest, id="not in the coding"),
        pytest.param(gzip.compress(b"{}" + b" " * 6000), "gzip", TooLarge, id="a bomb"),
        pytest.param(gzip.compress(b'{"a": 1}')[:-9], "gzip", BadRequest, id="cut off"),
        pytest.param(gzip.compress(b'{"messages": []}') + gzip.compress(b"  "), "gzip", BadRequest, id="two members"),
        pytest.param(b" " * 5001, "", TooLarge, id="too large"),
        pytest.param(b"", "", BadRequest, id="nothing"),
    ],
)
async def test_a_body_that_cannot_be_read_whole_is_refused(read, body, coding, error):
    with pytest.raises(error):
        await read(body, {"Content-Encoding": coding} if coding else {})


async def test_a_cache_member_that_is_no_object_is_not_ours(read):
    asked = await read({**BODY, "cache": True})
    assert b"cache" in asked.raw
    assert asked.keys != (await read()).keys


# --- requests that come again


async def test_a_known_request_is_not_read_twice(read):
    reader = Reader(rules())
    first = await read(reader=reader)
    reader.remember(first)
    again = await read(reader=reader, headers={"X-Own": "1"})
    assert again.body is first.body
    assert again.keys == first.keys
    assert dict(again.headers) == {"X-Own": "1"}


headers_of_callers = st.lists(
    st.tuples(
        st.sampled_from(
            ["Authorization", "authorization", "Cache-Control", "X-CacheProxy-Namespace", "anthropic-beta"]
        ),
        st.sampled_from(["no-cache", "no-store", "a"]),
    ),
    max_size=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=headers_of_callers, second=headers_of_callers)
async def test_a_known_request_is_never_taken_for_one_with_other_headers(read, first, second):
    reader = Reader(rules())
    reader.remember(await read(headers=first, reader=reader))
    again, anew = await read(headers=second, reader=reader), await read(headers=second)
    assert (again.keys, again.tenant, again.credential) == (anew.keys, anew.tenant, anew.credential)
    assert (again.controls, again.bypass, again.eligibility) == (anew.controls, anew.bypass, anew.eligibility)


async def test_a_known_request_is_not_taken_for_one_to_another_target(read):
    reader = Reader(rules())
    first = await read(reader=reader)
    reader.remember(first)
    assert (await read(reader=reader, target=f"{PATH}?x=1")).body is not first.body


async def test_known_requests_take_bounded_memory(read):
    reader = Reader(rules(max_body_bytes=100_000))
    for number in range(1000):
        reader.remember(await read({**BODY, "seed": number}, reader=reader))
    reader.remember(await read({**BODY, "user": "x" * 50_000}, reader=reader))
    assert len(reader._known) < 600
    assert reader._known_bytes <= 2 * 1024 * 1024
