"""Bad requests: a clear error in the caller's own dialect, and nothing goes upstream."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from support.bad_requests import (
    answer,
    asking,
    both_dialects,
    error_of,
)

LIMIT = 64 * 1024


@pytest.fixture
def upstream(record):
    return record(answer)


@pytest.fixture
def through(serve_proxy, upstream, http):
    http.base = serve_proxy(upstream.v1, limits={"body_bytes": LIMIT}).url
    return http


BODIES = {
    "nothing": b"",
    "no JSON": b"hello",
    "cut off": b'{"model": "m", "messages": [',
    "single quotes": b"{'model': 'm'}",
    "two documents": b"{} {}",
    "a list": b"[]",
    "a string": b'"hello"',
    "null": b"null",
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "UTF-16": '{"model": "m"}'.encode("utf-16"),
    "a NUL": b"\x00",
    "NaN": b'{"model": "m", "messages": [], "temperature": NaN}',
    "a number past all bounds": b'{"model": "m", "messages": [], "temperature": 1e999}',
    "messages that are no list": b'{"model": "m", "messages": "hello"}',
    "a message that is no object": b'{"model": "m", "messages": ["hello"]}',
    "nested without end": b'{"model": "m", "messages": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
}


@both_dialects
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_body_that_cannot_be_understood_is_a_400(through, upstream, path, headers, body):
    told = await through.send(path, body, headers=headers)

    assert told.status == 400
    error = error_of(told, path)
    assert error["code"] == "cacheproxy_bad_request"
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) > 10
    assert upstream.requests == []


@both_dialects
@pytest.mark.parametrize(
    "changes", [{"model": 5}, {"stream": "yes"}, {"messages": []}, {"cache": {"ttl": "soon"}}], ids=str
)
async def test_a_wrong_type_is_the_upstreams_to_judge_or_a_400(through, upstream, path, headers, changes):
    told = await through.send(path, asking(**changes), headers=headers)

    assert told.status in {200, 400}
    if told.status == 400:
        assert error_of(told, path)["code"] == "cacheproxy_bad_request"
    assert len(upstream.requests) == (told.status == 200)


@both_dialects
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
async def test_a_body_over_the_limit_is_a_413(through, upstream, path, headers, chunked):
    body = json.dumps(asking("x" * LIMIT)).encode()

    async def parts():
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    told = await through.send(path, parts() if chunked else body, headers=headers)

    assert told.status == 413
    assert error_of(told, path)["code"] == "cacheproxy_body_too_large"
    assert str(LIMIT) in told.json["error"]["message"]
    assert upstream.requests == []


@both_dialects
async def test_the_connection_survives_a_bad_request(through, path, headers):
    assert (await through.send(path, b"nonsense", headers=headers)).status == 400
    assert (await through.send(path, asking(), headers=headers)).status == 200


@both_dialects
@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_read_and_forwarded_as_it_came(through, upstream, path, headers, coding, pack):
    packed = pack(json.dumps(asking()).encode())
    first = await through.send(path, packed, headers={**headers, "Content-Encoding": coding})
    plain = await through.send(path, asking(), headers=headers)

    assert first.status == 200
    assert upstream.requests[0].body == packed
    assert plain.cache == ("Hit", "exact")


@both_dialects
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "rot13"])
async def test_a_coding_that_the_body_is_not_in_is_a_400(through, upstream, path, headers, coding):
    told = await through.send(path, asking(), headers={**headers, "Content-Encoding": coding})

    assert told.status == 400
    assert error_of(told, path)["code"] == "cacheproxy_bad_request"
    assert upstream.requests == []


@both_dialects
async def test_a_bomb_is_refused_before_it_is_unfolded(through, upstream, path, headers):
    bomb = gzip.compress(b'{"x": "' + b"0" * 20_000_000 + b'"}')
    assert len(bomb) < LIMIT
    told = await through.send(path, bomb, headers={**headers, "Content-Encoding": "gzip"})

    assert told.status == 413
    assert error_of(told, path)["code"] == "cacheproxy_body_too_large"
    assert upstream.requests == []


@both_dialects
async def test_an_unknown_provider_is_a_404_that_names_the_known_ones(through, upstream, path, headers):
    told = await through.send(f"/nobody{path}", asking(), headers=headers)

    assert told.status == 404
    error = error_of(told, path)
    assert error["code"] == "cacheproxy_unknown_upstream"
    assert "anthropic" in error["message"]
    assert upstream.requests == []


CONTROLS = {
    "a mode that is none": {"X-CacheProxy-Mode": "turbo"},
    "a time that is none": {"X-CacheProxy-TTL": "-5"},
    "a share over one": {"X-CacheProxy-Max-Wrong": "2"},
    "an age that is none": {"Cache-Control": "max-age=old"},
    "too long a name": {"X-CacheProxy-Namespace": "n" * 500},
}


@both_dialects
@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
async def test_a_control_that_cannot_be_meant_is_a_400_that_names_it(through, upstream, path, headers, control):
    told = await through.send(path, asking(), headers=headers | control)

    assert told.status == 400
    assert next(iter(control)).lower() in error_of(told, path)["message"].lower()
    assert upstream.requests == []
