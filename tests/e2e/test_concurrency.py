"""Many callers at once, some of whom vanish: everybody else gets the right answer, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from random import Random

import aiohttp
import pytest
from aiohttp import web
from support.gated import CHAT, asking, chunks, question_in, said

from cacheproxy import assembly
from cacheproxy.flow.coalesce import Flights

ROUNDS = ("follow", "flush", "sweep")


class Kept(Flights):
    """Flights that a test can look at."""

    made: list[Flights]

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.made.append(self)


@pytest.fixture
def flights(monkeypatch):
    """The flights of the proxies that the test opens."""
    monkeypatch.setattr(Kept, "made", [], raising=False)
    monkeypatch.setattr(assembly, "Flights", Kept)
    return Kept.made


def under_way(host):
    """The proxy's tasks besides its regular rounds."""
    return {name: n for name, n in host.tasks().items() if name.startswith("flow/") and not name.endswith(ROUNDS)}


async def test_two_hundred_mixed_requests_with_callers_that_vanish(
    host, simulated, calls, serve_proxy, flights, api_key, until
):
    """Equal and different, in every API and stream mode; a fifth leave in the middle. Seeded, so each run is alike."""
    served = serve_proxy(f"{simulated}/v1", mode="exact")
    random = Random(7)
    headers = {"Authorization": f"Bearer {api_key}"}
    kinds = {
        "chat": (CHAT, asking),
        "chat stream": (CHAT, lambda q: asking(q, stream=True)),
        "messages": ("/v1/messages", lambda q: asking(q, max_tokens=99)),
        "messages stream": ("/v1/messages", lambda q: asking(q, max_tokens=99, stream=True)),
        "responses": ("/v1/responses", lambda q: {"model": "m", "input": q, "store": False}),
        "responses stream": ("/v1/responses", lambda q: {"model": "m", "input": q, "store": False, "stream": True}),
        "embeddings": ("/v1/embeddings", lambda q: {"model": "m", "input": [q, "and this"]}),
        "files": ("/v1/models", None),
    }
    # Every fifth caller leaves as soon as the first bytes are there.
    plan = [(random.choice(list(kinds)), f"question {random.randrange(12)}", n % 5 == 4) for n in range(200)]

    async def one(session, kind, question, vanishes):
        path, body = kinds[kind]
        method = "POST" if body else "GET"
        async with session.request(
            method, served.url + path, json=body(question) if body else None, headers=headers
        ) as response:
            assert response.status == 200, await response.text()
            if vanishes:
                await response.content.readany()
                response.close()
                return None
            return (await response.read()).decode()

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        for kind in ("chat", "messages"):  # both upstreams accept the caller first, so that it may share
            await one(session, kind, "Am I known?", vanishes=False)
        before = calls()
        told = await asyncio.gather(*(one(session, *asked) for asked in plan))

    for (kind, question, vanishes), text in zip(plan, told, strict=True):
        if vanishes or kind in {"embeddings", "files"}:
            continue
        spoken = text_in(kind, text)
        assert f"“{question}”" in spoken
    assert await settled(host, flights, until)
    passed = sum(kind == "files" for kind, _, _ in plan)
    distinct = {(kind.split()[0], question) for kind, question, _ in plan if kind != "files"}
    again = sum(vanishes for _, _, vanishes in plan)
    assert calls() - before <= passed + len(distinct) + again


def text_in(kind, text):
    """Everything that the model said, whatever the API and stream mode."""
    if not kind.endswith("stream"):
        return "".join(texts(json.loads(text)))
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    events = [json.loads(item) for item in data]
    deltas = [
        event for event in events if event.get("type") in {None, "content_block_delta", "response.output_text.delta"}
    ]
    return "".join(part for event in deltas for part in texts(event))


def texts(value):
    """The texts in an answer or event: wherever a member named text, content or delta holds one."""
    match value:
        case dict():
            for name, member in value.items():
                if name in {"text", "content", "delta"} and isinstance(member, str):
                    yield member
                else:
                    yield from texts(member)
        case list():
            for item in value:
                yield from texts(item)


async def settled(host, flights, until):
    """Wait until no flight and no task of the proxy is left besides its rounds."""
    await until(lambda: not under_way(host) and not any(flights))
    return True


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_equal_requests_in_flight_are_one_upstream_call(
    host, record, serve_proxy, gated, proven, flights, stream, until
):
    upstream = record(gated)
    http = await proven(upstream, gated, serve_proxy(upstream.v1).url)
    asked = [asyncio.ensure_future(http.send(CHAT, asking("Same?", stream=stream))) for _ in range(50)]
    await until(lambda: upstream.requests)
    other = asyncio.ensure_future(http.send(CHAT, asking("Other?", stream=stream)))
    await until(lambda: len(upstream.requests) == 2)
    gated.release()
    told = await asyncio.gather(*asked)

    assert {answer.text for answer in told} == {said("Same?").replace(" ", "") if stream else said("Same?")}
    assert (await other).text.replace(" ", "") == said("Other?").replace(" ", "")
    assert Counter(question_in(r) for r in upstream.requests) == {"Same?": 1, "Other?": 1}
    assert Counter(answer.cache[0] for answer in told) == {"Miss": 1, "Hit": 49}
    assert await settled(host, flights, until)


async def test_a_late_joiner_gets_the_stream_from_its_start(record, serve_proxy, gated, proven):
    upstream = record(gated)
    http = await proven(upstream, gated, serve_proxy(upstream.v1).url)
    headers = {"Authorization": f"Bearer {http.key}"}
    async with http.session.post(http.base + CHAT, json=asking("Late?", stream=True), headers=headers) as first:
        start = await first.content.readuntil(b"\n\n")
        late = asyncio.ensure_future(http.send(CHAT, asking("Late?", stream=True)))
        async with http.session.post(http.base + CHAT, json=asking("Late?", stream=True), headers=headers) as second:
            assert second.headers["X-CacheProxy-Layer"] == "coalesced"
            assert await second.content.readuntil(b"\n\n") == start  # while the upstream is still held back
            gated.release()
            rest = await second.content.read()
        assert start + await first.content.read() == start + rest == (await late).body
    assert len(upstream.requests) == 1


async def test_the_flight_outlives_the_caller_that_started_it(host, record, serve_proxy, gated, proven, flights, until):
    upstream = record(gated)
    http = await proven(upstream, gated, serve_proxy(upstream.v1).url)
    headers = {"Authorization": f"Bearer {http.key}"}
    starter = await http.session.post(http.base + CHAT, json=asking("Gone?", stream=True), headers=headers)
    await starter.content.readuntil(b"\n\n")
    joiner = await http.session.post(http.base + CHAT, json=asking("Gone?", stream=True), headers=headers)
    starter.close()
    gated.release()
    told = await joiner.read()

    assert told.endswith(b"data: [DONE]\n\n")
    assert len(upstream.requests) == 1
    assert (await http.send(CHAT, asking("Gone?"))).cache == ("Hit", "exact")
    assert await settled(host, flights, until)


async def test_when_the_last_caller_leaves_the_upstream_is_let_go(
    host, record, serve_proxy, gated, proven, flights, until
):
    upstream = record(gated)
    http = await proven(upstream, gated, serve_proxy(upstream.v1).url)
    headers = {"Authorization": f"Bearer {http.key}"}
    for _ in range(2):
        answer = await http.session.post(http.base + CHAT, json=asking("Nobody?", stream=True), headers=headers)
        await answer.content.readuntil(b"\n\n")
        answer.close()
    await until(lambda: gated.gone["Nobody?"] >= 1)
    assert await settled(host, flights, until)

    gated.release()
    assert (await http.send(CHAT, asking("Nobody?"))).cache[0] == "Miss"


async def test_an_abandoned_flight_is_finished_and_kept_where_that_is_asked(
    host, record, serve_proxy, gated, proven, flights, until
):
    upstream = record(gated)
    http = await proven(upstream, gated, serve_proxy(upstream.v1, finish_abandoned=True).url)
    headers = {"Authorization": f"Bearer {http.key}"}
    answer = await http.session.post(http.base + CHAT, json=asking("Keep?", stream=True), headers=headers)
    await answer.content.readuntil(b"\n\n")
    answer.close()
    gated.release()
    assert await settled(host, flights, until)

    assert (await http.send(CHAT, asking("Keep?"))).cache == ("Hit", "exact")
    assert len(upstream.requests) == 1


async def test_a_caller_that_reads_slowly_holds_up_nobody(record, serve_proxy, http):
    """It reads nothing while another takes the same long stream whole; then it gets everything too."""
    text = "word " * 40_000

    async def long(request, _recorded):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in chunks(text):
            await response.write(part)
        return response

    upstream = record(long)
    base = serve_proxy(upstream.v1, cache={"max_answer_bytes": 64 * 1024 * 1024}).url
    assert (await http.ask("Am I known?", base=base)).status == 200
    upstream.requests.clear()
    headers = {"Authorization": f"Bearer {http.key}"}
    slow = await http.session.post(base + CHAT, json=asking("Long?", stream=True), headers=headers)
    quick = await http.send(CHAT, asking("Long?", stream=True), base=base)
    assert quick.body.endswith(b"data: [DONE]\n\n")
    told = await slow.read()

    assert told == quick.body
    assert len(upstream.requests) == 1


async def test_past_the_limit_a_caller_that_stopped_reading_stopped_the_others(
    record, serve_proxy, gated, proven, flights, until
):
    async def long(request, recorded):
        if not recorded.json.get("stream"):
            return await gated(request, recorded)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        first, *others = chunks(f"{8_000 * 'w'} " * 4_000)  # more than the sockets between hold
        await response.write(first)
        await gated.gate.wait()
        for part in others:
            await response.write(part)
        return response

    upstream = record(long)
    base = serve_proxy(upstream.v1, cache={"max_answer_bytes": 256 * 1024}).url
    http = await proven(upstream, gated, base)
    headers = {"Authorization": f"Bearer {http.key}"}
    stalled = await http.session.post(base + CHAT, json=asking("Long?", stream=True), headers=headers)
    asked = asyncio.ensure_future(http.send(CHAT, asking("Long?", stream=True)))
    await until(lambda: sum(len(flight._listeners) for flight in flights[0]._by_key.values()) == 2)
    gated.release()
    quick = await asked
    assert quick.body.endswith(b"data: [DONE]\n\n")
    assert len(upstream.requests) == 1

    told = await stalled.read()  # it was cut off, and is told so
    assert len(told) < len(quick.body)
    assert "cacheproxy_overloaded" in told.decode()
