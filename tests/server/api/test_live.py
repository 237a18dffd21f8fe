"""Requests are told as they finish, to whoever listens and keeps up."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.panel import NOW
from support.served import MISS, hit_of
from support.waiting import until

from cacheproxy.model import Layer, Reason, Usage
from cacheproxy.server.api import live
from cacheproxy.wire.sse import SseParser

HIT = hit_of(MISS, Layer.EXACT, entry_id="e", saved_usage=Usage(10, 5))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(live, "BATCH_S", 0.01)


def tasks_named(name):
    return [task for task in asyncio.all_tasks() if task.get_name() == name]


class Listening:
    """A page that listens."""

    def __init__(self, panel, stack_response):
        self.response = stack_response
        self._parser = SseParser()
        self._events = []

    async def next(self, name):
        """The data of the next event of a name."""
        async with asyncio.timeout(60):
            while True:
                while self._events:
                    event = self._events.pop(0)
                    if event.event == name:
                        return json.loads(event.data)
                self._events += self._parser.feed(await self.response.content.readany())


@pytest.fixture
async def listen(panel):
    responses = []

    async def start():
        response = await panel.session.get(f"{panel.url}/api/v1/events")
        responses.append(response)
        assert (response.status, response.content_type) == (200, "text/event-stream")
        listening = Listening(panel, response)
        await listening.next("tick")
        return listening

    yield start
    for response in responses:
        response.close()


async def test_the_latest_requests_are_told_without_their_text(panel):
    await panel.ask("What is secret?")
    (request,) = (await panel.told("/requests"))["requests"]
    assert (request["number"], request["status"], request["reason"]) == (1, "Miss", "no-neighbor")
    assert (request["input_tokens"], request["output_tokens"]) == (10, 20)
    assert "secret" not in json.dumps(request)


async def test_what_a_hit_did_not_buy_are_its_tokens(panel):
    panel.recent.served(HIT)
    (request,) = (await panel.told("/requests"))["requests"]
    assert (request["layer"], request["input_tokens"], request["entry"]) == ("exact", 10, "e")


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [3, 2, 1]),
        ("?limit=1", [3]),
        ("?layer=exact", [2]),
        ("?layer=none", [3, 1]),
        ("?reason=expired", [3]),
        ("?model=other", []),
    ],
)
async def test_requests_are_selected(panel, query, numbers):
    for event in (MISS, HIT, MISS._replace(reason=Reason.EXPIRED)):
        panel.recent.served(event)
    told = await panel.told(f"/requests{query}")
    assert ([request["number"] for request in told["requests"]], told["kept"]) == (numbers, 3)


async def test_whoever_listens_hears_of_each_request(panel, listen):
    one, other = await listen(), await listen()
    panel.recent.served(MISS)
    for listening in (one, other):
        told = await listening.next("requests")
        assert ([request["number"] for request in told["requests"]], told["left_out"]) == ([1], 0)


async def test_what_was_before_is_not_told(panel, listen):
    panel.recent.served(MISS)
    listening = await listen()
    panel.recent.served(HIT)
    assert [request["number"] for request in (await listening.next("requests"))["requests"]] == [2]


async def test_of_a_crowd_the_latest_are_told_and_the_others_counted(panel, listen, monkeypatch):
    monkeypatch.setattr(live, "MOST_IN_BATCH", 3)
    listening = await listen()
    for _ in range(10):
        panel.recent.served(MISS)
    told = await listening.next("requests")
    assert ([request["number"] for request in told["requests"]], told["left_out"]) == ([8, 9, 10], 7)


async def test_counters_tick(panel, listen):
    listening = await listen()
    for event in (MISS, HIT, HIT):
        panel.recent.served(event)
    tick = await listening.next("tick")
    while tick["requests"] < 3:
        tick = await listening.next("tick")
    assert (tick["hits"], tick["cost_usd"], tick["at"]) == ({"exact": 2}, 0.25, NOW)


async def test_one_listener_too_many_is_refused(panel, listen, monkeypatch):
    monkeypatch.setattr(live, "MOST_LISTENERS", 1)
    await listen()
    status, told = await panel.get("/events")
    assert (status, told["error"]["code"]) == (503, "cacheproxy_overloaded")


async def test_a_seat_that_is_left_is_free_again(panel, listen, monkeypatch):
    monkeypatch.setattr(live, "MOST_LISTENERS", 1)
    listening = await listen()
    listening.response.close()
    await until(lambda: not tasks_named("events"))
    await listen()


async def test_a_listener_that_falls_behind_is_dropped(panel):
    page = live.LivePage(panel.recent, tasks=None, now=panel.clock)
    slow, quick = asyncio.Queue(live.MOST_WAITING), asyncio.Queue(live.MOST_WAITING)
    page._listeners |= {slow, quick}
    for number in range(live.MOST_WAITING + 1):
        page._put(b"event")
        assert quick.get_nowait() == b"event", number
    assert page._listeners == {quick}
    assert slow.get_nowait() is None
    assert slow.empty()


async def test_nobody_is_told_when_nobody_listens(panel, listen):
    listening = await listen()
    listening.response.close()
    await until(lambda: not tasks_named("events"))


def test_an_event_is_one_line_of_data():
    told = live.told(1, MISS._replace(model="a\nb"))
    (event,) = SseParser().feed(live.event_text("requests", told))
    assert (event.event, json.loads(event.data)["model"]) == ("requests", "a\nb")
