"""Each call to an upstream is counted once, by how it went."""

import asyncio
import json

import pytest

from cacheproxy.errors import Overloaded, RequestTimeout, UpstreamTimeout, UpstreamUnreachable
from cacheproxy.events import CallResult
from cacheproxy.flow.arrival import UNTRACED
from cacheproxy.flow.calls import Calls, Counted
from cacheproxy.ports import UpstreamRequest
from cacheproxy.upstream.scripted import Answer, Fails, ScriptedUpstream

ASKED = UpstreamRequest("POST", "https://llm.example/v1/chat/completions", [("traceparent", "theirs")], b"{}")


class Watch:
    def __init__(self):
        self.calls = []
        self.fallbacks = []
        self.codes = []

    def called(self, upstream, result):
        self.calls.append((upstream, result))

    def fell_back(self, why):
        self.fallbacks.append(why)

    def refused(self, code):
        self.codes.append(code)


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def make(watch):
    def make(step):
        upstream = ScriptedUpstream([step])
        return upstream, Calls(watch).make(upstream, ASKED, name="groq", trace=UNTRACED)

    return make


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, CallResult.OK),
        (304, CallResult.OK),
        (400, CallResult.REFUSED),
        (404, CallResult.REFUSED),
        (429, CallResult.RATE_LIMITED),
        (500, CallResult.FAILED),
        (504, CallResult.FAILED),
    ],
)
async def test_an_answer_counts_by_its_status(make, watch, status, result):
    _, call = make(Answer(status=status, chunks=[b"{}"]))
    async with call as response:
        assert [chunk async for chunk in response.chunks()] == [b"{}"]
    assert watch.calls == [("groq", result)]


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (UpstreamUnreachable("down"), CallResult.UNREACHABLE),
        (UpstreamTimeout("slow"), CallResult.TIMEOUT),
        (Overloaded("full"), CallResult.OVERLOADED),
    ],
)
async def test_a_failure_counts_as_what_it_was(make, watch, error, result):
    _, call = make(Fails(error))
    with pytest.raises(type(error)):
        async with call:
            pass
    assert watch.calls == [("groq", result)]


@pytest.mark.parametrize("why", [asyncio.CancelledError(), RequestTimeout("the caller's body")])
async def test_what_its_caller_ended_counts_as_given_up(make, watch, why):
    _, call = make(Answer(chunks=[b"{}"]))
    with pytest.raises(type(why)):
        async with call:
            raise why
    assert watch.calls == [("groq", CallResult.GIVEN_UP)]


async def test_calls_of_no_request_count_too(watch):
    """A judge's were in no metric."""
    upstream = ScriptedUpstream([Answer(chunks=[b"{}"]), Fails(UpstreamTimeout("slow"))])
    counted = Counted(upstream, Calls(watch), name="groq")
    async with counted.send(ASKED) as response:
        assert response.status == 200
    with pytest.raises(UpstreamTimeout):
        async with counted.send(ASKED):
            pass
    assert watch.calls == [("groq", CallResult.OK), ("groq", CallResult.TIMEOUT)]


async def test_untraced_the_request_goes_as_it_is(make):
    upstream, call = make(Answer(chunks=[b"{}"]))
    async with call:
        pass
    assert upstream.received[0].headers == tuple(ASKED.headers)


async def test_the_flow_counts_misses_and_what_passes_through(open_world, api):
    world = await open_world(lambda received: api.echo(received) if received.body else Answer(chunks=[b"{}"]))
    await world.ask("Hi")
    await world.send(None, path="/v1/models", method="GET")
    text = world.metrics.render().decode()
    assert 'cacheproxy_upstream_results_total{result="ok",upstream="default"} 2.0' in text


async def test_errors_of_ours_are_counted_by_code(open_world):
    world = await open_world()
    await world.send(json.dumps([]).encode())
    assert 'cacheproxy_errors_total{code="cacheproxy_bad_request"} 1.0' in world.metrics.render().decode()
