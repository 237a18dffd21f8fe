"""The callers' door: what it hands to the flow, and how it writes replies."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from cacheproxy.errors import ProxyError, TooLarge, UpstreamUnreachable
from cacheproxy.flow.messages import Streamed, Whole


def whole(body=b"ok", status=200, headers=()):
    async def answer(_incoming):
        return Whole(status, list(headers), body)

    return answer


def reading(limit):
    async def answer(incoming):
        try:
            return Whole(200, [], await incoming.read(limit))
        except TooLarge as error:
            return Whole(413, [], error.message.encode())

    return answer


class Told:
    """A streamed reply, which remembers that it was closed."""

    def __init__(self, *parts, status=200, headers=()):
        self.closed = asyncio.Event()
        self._parts = parts
        self._head = (status, list(headers))

    async def __call__(self, _incoming):
        return Streamed(*self._head, self._body(), self._close)

    async def _body(self):
        for part in self._parts:
            match part:
                case bytes():
                    yield part
                case asyncio.Event():
                    await part.wait()
                case Exception():
                    raise part

    async def _close(self):
        self.closed.set()


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("GET /v1/models?a=%2F&b=+&c HTTP/1.1", "/v1/models?a=%2F&b=+&c"),
        ("GET http://proxy/v1/models?x=1 HTTP/1.1", "/v1/models?x=1"),
        ("GET http://proxy HTTP/1.1", "/"),
        ("OPTIONS * HTTP/1.1", "/"),
        ("GET /a%2Fb/../c//d HTTP/1.1", "/a%2Fb/../c//d"),
    ],
)
async def test_the_target_is_what_was_sent_after_the_host(serve, talk, line, target):
    base, flow = await serve(whole())
    await talk(base, f"{line}\r\nHost: proxy\r\nConnection: close\r\n\r\n".encode())
    assert flow.incoming[0].target == target


async def test_headers_are_looked_up_in_any_case_and_listed_as_they_came(serve, talk):
    base, flow = await serve(whole())
    await talk(base, b"GET / HTTP/1.1\r\nHost: p\r\nX-One: 1\r\nX-ONE: 2\r\nConnection: close\r\n\r\n")
    headers = flow.incoming[0].headers

    assert headers["x-one"] == "1"
    assert [pair for pair in headers.items() if pair[0].lower() == "x-one"] == [("X-One", "1"), ("X-ONE", "2")]


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", None), ("POST", b"x"), ("DELETE", b"x")])
async def test_whether_a_body_follows_is_known_at_the_head(serve, session, method, body):
    base, flow = await serve(reading(10))
    async with session.request(method, f"{base}/", data=body) as response:
        assert await response.read() == (body or b"")
    assert flow.incoming[0].method == method
    assert flow.incoming[0].has_body or body is None


async def parts(*pieces):
    for piece in pieces:
        yield piece


@pytest.mark.parametrize("size", [0, 1, 9_999, 10_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
async def test_a_body_up_to_the_limit_is_read_whole(serve, session, size, chunked):
    base, _ = await serve(reading(10_000))
    body = bytes(size)
    async with session.post(f"{base}/", data=parts(body[:500], body[500:]) if chunked else body) as response:
        assert (response.status, await response.read()) == (200, body)


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
async def test_a_body_over_the_limit_is_refused_with_the_limit_named(serve, session, chunked):
    base, _ = await serve(reading(10_000))
    body = bytes(300_000)
    async with session.post(f"{base}/", data=parts(*[body[:100_000]] * 3) if chunked else body) as response:
        assert response.status == 413
        assert b"10000" in await response.read()


async def test_a_body_that_comes_in_pieces_is_put_together(serve, session):
    base, _ = await serve(reading(1_000_000))
    pieces = [str(number).encode() * 1000 for number in range(20)]
    async with session.post(f"{base}/", data=parts(*pieces)) as response:
        assert await response.read() == b"".join(pieces)


async def test_a_body_can_be_taken_as_it_comes(serve, session):
    came = []

    async def answer(incoming):
        came.extend([chunk async for chunk in incoming.chunks()])
        return Whole(200, [], b"")

    base, _ = await serve(answer)
    async with session.post(f"{base}/", data=parts(b"a" * 70_000, b"b" * 70_000)) as response:
        assert response.status == 200
    assert b"".join(came) == b"a" * 70_000 + b"b" * 70_000


async def test_a_body_in_a_content_coding_is_not_touched(serve, session):
    base, _ = await serve(reading(100))
    async with session.post(f"{base}/", data=b"not gzip", headers={"Content-Encoding": "gzip"}) as response:
        assert await response.read() == b"not gzip"


async def test_an_expectation_is_answered_only_when_the_body_is_wanted(serve):
    """The server lingers after a refusal, for the caller to read it, so the answer's head is all that is waited for."""
    base, _ = await serve(reading(10))
    host, _, port = base.removeprefix("http://").rpartition(":")
    for length, statuses in ((3, [b"100", b"200"]), (99, [b"413"])):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST / HTTP/1.1\r\nHost: p\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        writer.write(head.encode() + b"abc"[:length] * (length == 3))
        for status in statuses:
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == status
        writer.close()


async def test_a_whole_reply_is_written_with_its_headers(serve, session):
    base, _ = await serve(whole(b'{"a":1}', 429, [("Content-Type", "application/json"), ("Retry-After", "7")]))
    async with session.get(f"{base}/") as response:
        assert response.status == 429
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Retry-After"] == "7"
        assert response.headers["Server"] == "cacheproxy"
        assert await response.read() == b'{"a":1}'


async def test_a_header_that_comes_twice_is_written_twice(serve, session):
    base, _ = await serve(whole(headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Server", "theirs")]))
    async with session.get(f"{base}/") as response:
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert response.headers.getall("Server") == ["theirs"]


async def test_a_stream_goes_out_piece_by_piece_and_is_closed(serve, session):
    gate = asyncio.Event()
    told = Told(b"first", gate, b"second", headers=[("Content-Type", "text/event-stream")])
    base, _ = await serve(told)
    async with session.get(f"{base}/") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await response.content.read(5) == b"first"
        assert not told.closed.is_set()
        gate.set()
        assert await response.content.read() == b"second"
    await asyncio.wait_for(told.closed.wait(), 30)


async def test_a_stream_that_fails_is_cut_and_never_looks_complete(serve, session):
    told = Told(b"half", UpstreamUnreachable("reset"))
    base, _ = await serve(told)
    async with session.get(f"{base}/") as response:
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    await asyncio.wait_for(told.closed.wait(), 30)


async def test_a_stream_is_closed_when_its_caller_leaves(serve, session):
    told = Told(b"first", asyncio.Event())
    base, _ = await serve(told)
    async with session.get(f"{base}/") as response:
        await response.content.read(5)
        response.close()
    await asyncio.wait_for(told.closed.wait(), 30)


async def test_a_caller_that_leaves_while_it_waits_ends_the_request(serve, session):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def answer(_incoming):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    base, _ = await serve(answer)
    asking = asyncio.ensure_future(session.get(f"{base}/"))
    await begun.wait()
    asking.cancel()
    await asyncio.wait_for(ended.wait(), 30)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_an_unforeseen_error_is_told_in_the_callers_dialect_and_logged(serve, session, caplog, path):
    async def answer(_incoming):
        raise RuntimeError("a bug, with a secret in it")

    base, _ = await serve(answer)
    headers = {"anthropic-version": "2023-06-01"} if path == "/v1/messages" else {}
    async with session.post(f"{base}{path}", data=b"{}", headers=headers) as response:
        told = await response.json()

    assert response.status == 500
    assert ("type" in told) == (path == "/v1/messages")
    assert told["error"]["code"] == ProxyError.code
    assert "secret" not in json.dumps(told)
    assert "a bug, with a secret in it" in caplog.text


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_life_is_told_without_the_flow(serve, session, method):
    base, flow = await serve(whole())
    async with session.request(method, f"{base}/livez") as response:
        assert response.status == 200
        assert await response.read() == (b'{"status": "alive"}' if method == "GET" else b"")
    assert flow.incoming == []


@pytest.mark.parametrize(("is_ready", "status", "word"), [(True, 200, "ready"), (False, 503, "not ready")])
async def test_readiness_is_told_with_its_state(serve, session, is_ready, status, word):
    base, flow = await serve(whole(), ready=lambda: (is_ready, {"semantic": "off", "why": "no model"}))
    async with session.get(f"{base}/readyz") as response:
        assert response.status == status
        assert await response.json() == {"status": word, "semantic": "off", "why": "no model"}
    assert flow.incoming == []


@pytest.mark.parametrize(("method", "path"), [("POST", "/livez"), ("GET", "/livez/x"), ("GET", "/v1/livez")])
async def test_anything_else_goes_to_the_flow(serve, session, method, path):
    base, flow = await serve(whole())
    async with session.request(method, base + path) as response:
        assert await response.read() == b"ok"
    assert [(incoming.method, incoming.target) for incoming in flow.incoming] == [(method, path)]
