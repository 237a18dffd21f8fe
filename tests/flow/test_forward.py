"""What goes upstream and what comes back: byte for byte, and learnt from only when it is whole."""

import gzip
import json
import zlib

import pytest

from cacheproxy.errors import UpstreamTimeout, UpstreamUnreachable
from cacheproxy.upstream.scripted import EVENT_STREAM, Answer, Fails

CHAT = "/v1/chat/completions"
GZIP = ("Content-Encoding", "gzip")
SERVER_ERROR = b'{"error": {"message": "oh",  "type":"server_error"}}'


def asks_usage(received):
    return (json.loads(received.body).get("stream_options") or {}).get("include_usage")


# --- the usage of streams


async def test_a_streams_usage_is_asked_for_booked_and_withheld(open_world):
    world = await open_world()
    reply = await world.ask("Hi", stream=True)
    assert asks_usage(world.upstream.received[0]) is True
    assert b"total_tokens" not in reply.body
    assert reply.events[-1] == "[DONE]"
    assert world.told[0].usage.output_tokens == 20
    assert not world.told[0].usage.estimated
    hit = await world.ask("Hi", stream=True)
    assert b"total_tokens" not in hit.body


async def test_a_caller_who_asks_for_usage_gets_it_and_its_bytes_go_as_they_are(open_world):
    world = await open_world()
    body = json.dumps(world.chat("Hi", stream=True, stream_options={"include_usage": True}), indent=1).encode()
    replies = [await world.send(body) for _ in range(2)]
    assert world.upstream.received[0].body == body
    assert [b"total_tokens" in reply.body for reply in replies] == [True, True]


async def test_other_stream_options_stay_as_they_are(open_world):
    world = await open_world()
    await world.ask("Hi", stream=True, stream_options={"include_obfuscation": False})
    options = json.loads(world.upstream.received[0].body)["stream_options"]
    assert options == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize("status", [400, 422])
async def test_an_upstream_that_refuses_include_usage_is_not_asked_again(open_world, api, status):
    refusal = json.dumps({"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs"}]}).encode()

    def strict(received):
        return Answer(status=status, chunks=[refusal]) if asks_usage(received) else api.echo(received)

    world = await open_world(strict)
    first, second = await world.ask("One", stream=True), await world.ask("Two", stream=True)
    assert (first.text, second.text) == ("Answer to One", "Answer to Two")
    assert [asks_usage(received) for received in world.upstream.received] == [True, None, None]
    assert world.told[1].usage.estimated
    assert world.told[1].usage.output_tokens > 0


async def test_one_bad_request_does_not_end_the_asking_for_usage(open_world, api):
    def fussy(received):
        if "bad" in json.loads(received.body).get("stream_options", {}):
            return Answer(status=400, chunks=[b'{"error": {"param": "stream_options.bad"}}'])
        return api.echo(received)

    world = await open_world(fussy)
    refused = await world.ask("Hi", stream=True, stream_options={"bad": 1})
    assert (refused.status, refused.json["error"]["param"]) == (400, "stream_options.bad")
    await world.ask("Ho", stream=True)
    assert asks_usage(world.upstream.received[-1]) is True


# --- answers that are no answers


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            Answer(status=429, headers=[("Retry-After", "12"), ("X-Request-Id", "r")], chunks=[b"slow"]), id="429"
        ),
        pytest.param(Answer(status=500, chunks=[SERVER_ERROR]), id="500"),
        pytest.param(Answer(status=503, headers=[("retry-after", "3")], chunks=[SERVER_ERROR]), id="503"),
        pytest.param(Answer(status=404, chunks=[b"no such model"]), id="404"),
        pytest.param(Answer(headers=[("Content-Type", "text/html")], chunks=[b"<html>", b"login</html>"]), id="HTML"),
        pytest.param(Answer(chunks=[b'{"choices": [']), id="half a JSON"),
        pytest.param(Answer(chunks=[b"[1, 2]"]), id="JSON of another shape"),
        pytest.param(Answer(chunks=[b'{"hello": 1}']), id="no completion"),
        pytest.param(Answer(chunks=[b"\xff\xfe"]), id="no text"),
        pytest.param(Answer(headers=[GZIP], chunks=[b"not gzip"]), id="wrong coding"),
        pytest.param(Answer(headers=[("Content-Encoding", "br")], chunks=[b"\x0b\x02"]), id="unknown coding"),
        pytest.param(Answer(chunks=[b""]), id="nothing"),
    ],
)
async def test_what_is_no_answer_is_passed_on_byte_for_byte_and_not_stored(open_world, answer, stream):
    world = await open_world(lambda _: answer)
    for _ in range(2):
        reply = await world.ask("Hi", stream=stream)
        assert (reply.status, reply.body) == (answer.status, b"".join(answer.chunks))
        assert dict(answer.headers).items() <= dict(reply.headers).items()
    assert len(world.upstream.received) == 2
    assert await world.entries() == 0


async def test_an_answer_nested_too_deeply_is_passed_on_and_not_stored(open_world, api):
    deep = json.dumps(api.completion("Hi", deep="?")).replace('"?"', "[" * 960 + "]" * 960).encode()
    world = await open_world(lambda _: Answer(chunks=[deep]))
    reply = await world.ask("Hi")
    assert (reply.status, reply.body) == (200, deep)
    assert world.told[0].http_status == 200


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UpstreamUnreachable("no route"), 502, "cacheproxy_upstream_unreachable"),
        (UpstreamTimeout("too slow"), 504, "cacheproxy_upstream_timeout"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_that_is_down_or_slow_is_told_as_such(open_world, error, status, code, stream):
    world = await open_world(lambda _: Fails(error))
    reply = await world.ask("Hi", stream=stream)
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert world.told[0].http_status == status


async def test_an_answer_that_breaks_off_is_an_error_and_not_half_an_answer(open_world):
    world = await open_world(lambda _: Answer(chunks=[b'{"choi'], then_fails=UpstreamUnreachable("reset")))
    reply = await world.ask("Hi")
    assert (reply.status, reply.json["error"]["code"]) == (502, "cacheproxy_upstream_unreachable")


# --- streams


async def test_a_stream_that_breaks_off_ends_in_an_error_event_and_is_not_stored(open_world, api):
    half = api.pieces(api.completion("Once upon a time"))[:2]
    world = await open_world(
        lambda _: Answer(headers=EVENT_STREAM, chunks=half, then_fails=UpstreamUnreachable("reset"))
    )
    reply = await world.ask("Hi", stream=True)
    assert reply.status == 200
    assert reply.body.startswith(b"".join(half))
    assert json.loads(reply.events[-1])["error"]["code"] == "cacheproxy_upstream_unreachable"
    assert await world.entries() == 0
    assert (await world.ask("Hi", stream=True)).cache[0] == "Miss"


async def test_anthropics_callers_get_their_own_error_event(open_world, api):
    half = api.pieces(api.message("Once upon a time"), path="/v1/messages")[:3]
    world = await open_world(lambda _: Answer(headers=EVENT_STREAM, chunks=half, then_fails=UpstreamTimeout("slow")))
    body = {"model": "m", "max_tokens": 5, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    reply = await world.send(body, path="/v1/messages", headers={"anthropic-version": "2023-06-01"})
    assert b"event: error\n" in reply.body
    assert json.loads(reply.events[-1])["type"] == "error"


@pytest.mark.parametrize("kept", range(1, 4))
async def test_a_stream_without_its_end_is_passed_on_and_not_stored(open_world, api, kept):
    half = api.pieces(api.completion("Once upon a time"))[:kept]
    world = await open_world(lambda _: Answer(headers=EVENT_STREAM, chunks=half))
    reply = await world.ask("Hi", stream=True)
    assert reply.body == b"".join(half)
    assert await world.entries() == 0


@pytest.mark.parametrize(
    "spoilt",
    [
        pytest.param(b"data: {not json}\n\n", id="no JSON"),
        pytest.param(b"data: [1]\n\n", id="no object"),
        pytest.param(b'data: {"choices": [{"index": "x"}]}\n\n', id="wrong types"),
        pytest.param(b'data: {"error": {"message": "overloaded"}}\n\n', id="an error event"),
        pytest.param(b"event: error\ndata: {}\n\n", id="a named error event"),
    ],
)
async def test_a_malformed_stream_is_passed_on_whole_and_not_stored(open_world, api, spoilt):
    first, *rest = api.pieces(api.completion("Once upon a time"))
    world = await open_world(lambda _: Answer(headers=EVENT_STREAM, chunks=[first, spoilt, *rest]))
    reply = await world.ask("Hi", stream=True)
    assert reply.body == b"".join([first, spoilt, *rest])
    assert await world.entries() == 0


async def test_comments_and_bytes_behind_the_end_are_passed_on(open_world, api):
    chunks = [b": ping\n\n", *api.pieces(api.completion("Once")), b": bye"]
    world = await open_world(lambda _: Answer(headers=EVENT_STREAM, chunks=chunks))
    assert (await world.ask("Hi", stream=True)).body == b"".join(chunks)
    assert (await world.ask("Hi")).cache == ("Hit", "exact")


async def test_a_stream_cut_anywhere_is_the_same_stream(open_world, api):
    stream = b"".join(api.pieces(api.completion("Once upon a time")))
    pieces = [stream[at : at + 5] for at in range(0, len(stream), 5)]
    world = await open_world(lambda _: Answer(headers=EVENT_STREAM, chunks=pieces))
    assert (await world.ask("Hi", stream=True)).body == stream
    assert (await world.ask("Hi")).text == "Once upon a time"


async def test_a_stream_in_a_content_coding_is_decoded(open_world, api):
    plain = b"".join(api.pieces(api.completion("Once upon a time")))
    coder = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    coded = coder.compress(plain) + coder.flush()
    chunks = [coded[:20], coded[20:]]
    world = await open_world(lambda _: Answer(headers=[*EVENT_STREAM, GZIP], chunks=chunks))
    reply = await world.ask("Hi", stream=True)
    assert reply.body == plain
    assert "Content-Encoding" not in reply.headers
    assert (await world.ask("Hi")).cache == ("Hit", "exact")


async def test_a_stream_in_an_unknown_coding_is_passed_on(open_world):
    coded = [b"\x0b\x02\x80", b"data"]
    world = await open_world(lambda _: Answer(headers=[*EVENT_STREAM, ("Content-Encoding", "br")], chunks=coded))
    reply = await world.ask("Hi", stream=True)
    assert (reply.body, reply.headers["Content-Encoding"]) == (b"".join(coded), "br")


async def test_a_stream_whose_coding_breaks_is_cut_off_with_an_error(open_world):
    world = await open_world(lambda _: Answer(headers=[*EVENT_STREAM, GZIP], chunks=[b"not gzip at all"]))
    reply = await world.ask("Hi", stream=True)
    assert json.loads(reply.events[-1])["error"]["code"] == "cacheproxy_upstream_unreachable"


# --- codings and sizes


async def test_an_answer_in_a_content_coding_is_passed_on_and_learnt(open_world, api):
    coded = gzip.compress(json.dumps(api.completion("Once")).encode())
    world = await open_world(lambda _: Answer(headers=[("Content-Type", "application/json"), GZIP], chunks=[coded]))
    first = await world.ask("Hi")
    assert (first.body, first.headers["Content-Encoding"]) == (coded, "gzip")
    second = await world.ask("Hi")
    assert (second.cache, second.text) == (("Hit", "exact"), "Once")


async def test_an_answer_that_unfolds_past_the_limit_is_passed_on_and_not_stored(open_world, api):
    coded = gzip.compress(json.dumps(api.completion("x" * 100_000)).encode())
    limits = {"max_answer_bytes": 10_000}
    world = await open_world(lambda _: Answer(headers=[GZIP], chunks=[coded]), cache=limits)
    assert (await world.ask("Hi")).body == coded
    assert await world.entries() == 0


async def test_an_answer_over_the_limit_is_passed_on_and_not_stored(open_world, api):
    answer = json.dumps(api.completion("x" * 20_000)).encode()
    chunks = [answer[at : at + 999] for at in range(0, len(answer), 999)]
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    world = await open_world(lambda _: Answer(headers=headers, chunks=chunks), cache={"max_answer_bytes": 10_000})
    reply = await world.ask("Hi")
    assert (reply.body, reply.headers["Content-Length"]) == (answer, str(len(answer)))
    assert await world.entries() == 0


async def test_a_request_in_a_content_coding_goes_as_it_came(open_world):
    world = await open_world()
    coded = gzip.compress(json.dumps(world.chat("Hi")).encode())
    headers = {"Content-Encoding": "gzip"}
    world.upstream._step = lambda _: Answer(chunks=[b"{}"])
    assert (await world.send(coded, headers=headers)).status == 200
    assert world.upstream.received[0].body == coded
    assert world.upstream.received[0].header("content-encoding") == "gzip"


async def test_a_request_that_must_change_loses_its_content_coding(open_world):
    world = await open_world()
    coded = gzip.compress(json.dumps(world.chat("Hi", stream=True)).encode())
    assert (await world.send(coded, headers={"Content-Encoding": "gzip"})).text == "Answer to Hi"
    (received,) = world.upstream.received
    assert received.header("content-encoding") is None
    assert asks_usage(received) is True


# --- headers


async def test_the_answers_own_headers_reach_the_caller(open_world, api):
    headers = [("Content-Type", "application/json"), ("X-RateLimit-Remaining", "9"), ("X-Request-Id", "req_1")]
    world = await open_world(lambda _: api.whole(api.completion("Hi"), headers=headers))
    reply = await world.ask("Hi")
    assert dict(headers).items() <= dict(reply.headers).items()
    hit = await world.ask("Hi")
    assert hit.headers["X-Request-Id"] != "req_1"
    assert "X-RateLimit-Remaining" not in hit.headers


async def test_a_key_of_the_operators_replaces_the_callers(open_world):
    world = await open_world(upstreams={"groq": {"api_key": "sk-ours"}})
    await world.send(world.chat("Hi"), path="/groq/v1/chat/completions", headers={"x-api-key": "theirs"})
    (received,) = world.upstream.received
    assert received.header("authorization") == "Bearer sk-ours"
    assert received.header("x-api-key") is None
