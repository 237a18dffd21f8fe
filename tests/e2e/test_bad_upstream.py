"""Upstreams that are down, slow, cut off or talk nonsense: a clear error, and nothing false is kept."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from aiohttp import web
from support.bad_requests import (
    CHAT,
    MESSAGES,
    answer,
    asking,
    both_dialects,
    error_of,
)


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


@both_dialects
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_an_upstream_that_is_down_is_a_502(serve_proxy, http, path, headers, stream):
    base = serve_proxy(f"http://127.0.0.1:{free_port()}/v1").url
    told = await http.send(path, asking(stream=stream), headers=headers, base=base)

    assert told.status == 502
    assert error_of(told, path)["code"] == "cacheproxy_upstream_unreachable"
    assert "sk-" not in told.json["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/files", CHAT])
async def test_a_502_comes_in_the_dialect_of_the_headers_elsewhere_too(serve_proxy, http, path):
    base = serve_proxy(f"http://127.0.0.1:{free_port()}/v1").url
    told = await http.send(path, asking(), base=base)

    assert told.status == 502
    assert error_of(told, path)["type"] == "api_error"


@both_dialects
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_an_upstream_that_is_too_slow_is_a_504(record, serve_proxy, http, path, headers, stream):
    async def never(_request, _recorded):
        await asyncio.sleep(60)

    upstream = record(never)
    base = serve_proxy(upstream.v1, deadlines={"first_byte_s": 0.2}).url
    told = await http.send(path, asking(stream=stream), headers=headers, base=base)

    assert told.status == 504
    assert error_of(told, path)["code"] == "cacheproxy_upstream_timeout"


def events(path, text="Hi."):
    """A complete stream, as raw events."""
    if path == CHAT:
        deltas = [{"role": "assistant", "content": ""}, {"content": text}]
        chunks = [
            {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            for choice in [
                *({"index": 0, "delta": delta, "finish_reason": None} for delta in deltas),
                {"index": 0, "delta": {}, "finish_reason": "stop"},
            ]
        ]
        return [*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks), b"data: [DONE]\n\n"]
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    told = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in told]


def telling(cut=None, *, garble=None, abort=False, hang=False, content_type="text/event-stream"):
    """An upstream that tells a stream: cut short, garbled in one event, aborted or never ended."""

    async def tell(request, recorded):
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        path = recorded.target
        whole = events(path)
        for number, event in enumerate(whole[:cut]):
            await response.write(garble if number == 1 and garble is not None else event)
        if abort:
            await asyncio.sleep(0.05)  # what was written must leave before the connection is cut
            request.transport.abort()
        if hang:
            await asyncio.sleep(60)
        return response

    return tell


BROKEN = {
    "reset in the middle": telling(2, abort=True),
    "ended too early": telling(2),
    "ended before its terminator": telling(-1),
    "an event that is no JSON": telling(garble=b"data: {nonsense\n\n"),
    "an event of another kind": telling(garble=b'data: {"object": "surprise", "choices": "none"}\n\n'),
    "a list for an event": telling(garble=b"data: [1, 2]\n\n"),
    "bytes that are no text": telling(garble=b"data: \xff\xfe\xfd\n\n"),
    "no events at all": telling(0),
}


@both_dialects
@pytest.mark.parametrize("tell", BROKEN.values(), ids=BROKEN)
async def test_a_broken_stream_is_passed_on_and_never_kept(record, serve_proxy, http, path, headers, tell):
    upstream = record(tell)
    http.base = serve_proxy(upstream.v1).url
    for _ in range(2):
        told = await http.send(path, asking(stream=True), headers=headers)
        assert told.status == 200
        assert told.cache[0] == "Miss"
    assert len(upstream.requests) == 2


@both_dialects
async def test_a_reset_in_mid_stream_ends_in_an_error_event_of_the_dialect(record, serve_proxy, http, path, headers):
    upstream = record(telling(2, abort=True))
    told = await http.send(path, asking(stream=True), headers=headers, base=serve_proxy(upstream.v1).url)

    assert told.body.startswith(b"".join(events(path)[:2]))
    last = told.body.removeprefix(b"".join(events(path)[:2])).decode()
    error = json.loads(last.partition("data: ")[2])["error"]
    assert error["code"] == "cacheproxy_upstream_unreachable"
    assert ("event: error\n" in last) == (path == MESSAGES)


@both_dialects
async def test_a_stream_that_stalls_ends_in_an_error_event(record, serve_proxy, http, path, headers):
    upstream = record(telling(2, hang=True))
    base = serve_proxy(upstream.v1, deadlines={"between_bytes_s": 0.2}).url
    told = await http.send(path, asking(stream=True), headers=headers, base=base)

    assert b"cacheproxy_upstream_timeout" in told.body


@both_dialects
async def test_a_json_answer_that_is_cut_off_is_a_502(record, serve_proxy, http, path, headers):
    async def cut(request, _recorded):
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "500"})
        await response.prepare(request)
        await response.write(b'{"id": "x", ')
        await asyncio.sleep(0.05)  # what was written must leave before the connection is cut
        request.transport.abort()
        return response

    upstream = record(cut)
    told = await http.send(path, asking(), headers=headers, base=serve_proxy(upstream.v1).url)

    assert told.status == 502
    assert error_of(told, path)["code"] == "cacheproxy_upstream_unreachable"


NO_ANSWERS = {
    "a page": ("text/html", b"<html>Sign in to the Wi-Fi</html>"),
    "JSON that is no answer": ("application/json", b'{"hello": "world"}'),
    "no object": ("application/json", b"[]"),
    "broken JSON": ("application/json", b'{"id": '),
    "nothing": ("application/json", b""),
    "an error with a 200": ("application/json", b'{"error": {"message": "no"}}'),
}


@both_dialects
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(("kind", "body"), NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_what_is_no_answer_passes_and_is_never_kept(record, serve_proxy, http, path, headers, stream, kind, body):
    async def say(_request, _recorded):
        return web.Response(body=body, content_type=kind)

    upstream = record(say)
    http.base = serve_proxy(upstream.v1).url
    for _ in range(2):
        told = await http.send(path, asking(stream=stream), headers=headers)
        assert (told.status, told.body) == (200, body)
        assert told.headers["Content-Type"].startswith(kind)
        assert told.cache[0] == "Miss"
    assert len(upstream.requests) == 2


@both_dialects
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529])
async def test_an_upstreams_error_passes_byte_for_byte(record, serve_proxy, http, path, headers, stream, status):
    body = b'{"error" :  {"message": "as it is\\u0021"}, "extra":1e2}\n'

    async def refuse(_request, _recorded):
        return web.Response(
            status=status,
            body=body,
            headers={
                "Content-Type": "application/json; charset=utf-8",
                "Retry-After": "17",
                "x-ratelimit-reset-requests": "1s",
                "x-request-id": "r-1",
                "request-id": "r-2",
            },
        )

    upstream = record(refuse)
    http.base = serve_proxy(upstream.v1).url
    for _ in range(2):
        told = await http.send(path, asking(stream=stream), headers=headers)
        assert (told.status, told.body) == (status, body)
        assert told.headers["Content-Type"] == "application/json; charset=utf-8"
        assert told.headers["Retry-After"] == "17"
        assert told.headers["x-ratelimit-reset-requests"] == "1s"
        assert (told.headers["x-request-id"], told.headers["request-id"]) == ("r-1", "r-2")
    assert len(upstream.requests) == 2


async def test_an_upstream_that_refuses_to_tell_usage_is_asked_without(record, serve_proxy, http):
    async def picky(request, recorded):
        if "stream_options" in recorded.json:
            return web.json_response({"error": {"message": "unknown parameter: stream_options"}}, status=400)
        return await telling()(request, recorded)

    upstream = record(picky)
    http.base = serve_proxy(upstream.v1).url
    for question in ("one", "two"):
        told = await http.send(CHAT, asking(question, stream=True))
        assert told.text == "Hi."
    assert ["stream_options" in recorded.json for recorded in upstream.requests] == [True, False, False]


async def test_an_upstream_that_answers_nonsense_is_a_502(host, serve_proxy, http):
    async def nonsense(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await writer.drain()
        writer.close()

    server = host.run(asyncio.start_server(nonsense, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    told = await http.send(CHAT, asking(), base=serve_proxy(f"http://127.0.0.1:{port}/v1").url)
    host.loop.call_soon_threadsafe(server.close)

    assert told.status == 502
    assert error_of(told, CHAT)["code"] == "cacheproxy_upstream_unreachable"


async def test_an_answer_over_the_limit_passes_and_is_never_kept(record, serve_proxy, http):
    async def long(_request, recorded):
        told = json.loads((await answer(_request, recorded)).body)
        told["choices"][0]["message"]["content"] = "x" * 20_000
        return web.json_response(told)

    upstream = record(long)
    http.base = serve_proxy(upstream.v1, cache={"max_answer_bytes": 10_000}).url
    for _ in range(2):
        assert len((await http.send(CHAT, asking())).text) == 20_000
    assert len(upstream.requests) == 2
