"""One admin plane for several workers."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from cacheproxy.address import Address
from cacheproxy.jsontext import dump
from cacheproxy.server.front import Front, Member
from cacheproxy.server.listen import admin_listener, admin_socket


class Worker:
    """A worker's admin plane, which knows its own name."""

    def __init__(self, name, token=""):
        self.name = name
        self.token = token
        self.counted = 1
        self.gate = asyncio.Event()

    def app(self):
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self.metrics),
                web.get("/api/v1/requests", self.requests),
                web.get("/api/v1/events", self.events),
                web.route("*", "/{path:.*}", self.other),
            ]
        )
        return app

    async def metrics(self, request):
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": "who are you?"}, status=401)
        return web.Response(text=f"# HELP a_total A\n# TYPE a_total counter\na_total {self.counted}\n")

    async def requests(self, request):
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": "who are you?"}, status=401)
        return web.json_response({"requests": [{"at": 1.0, "number": 1, "model": self.name}], "kept": 1})

    async def events(self, request):
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": "who are you?"}, status=401)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        data = {"requests": [{"at": 1.0, "number": 1, "model": self.name}], "left_out": 0}
        await response.write(b"event: requests\ndata: %b\n\n" % dump(data))
        await response.write(b"event: tick\ndata: %b\n\n" % dump({"at": 1.0, "requests": self.counted}))
        await self.gate.wait()
        return response

    async def other(self, request):
        told = {
            "name": self.name,
            "path": request.raw_path,
            "method": request.method,
            "body": await request.text(),
            "given": request.headers.get("X-Given"),
            "host": request.headers["Host"],
        }
        return web.json_response(told, status=201, headers={"X-Told": "yes"})


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def front(stack):
    return await stack.enter_async_context(Front(now=lambda: 100.0))


@pytest.fixture
async def url(stack, front):
    return f"http://{await stack.enter_async_context(admin_listener(front.app(), Address('127.0.0.1', 0)))}"


@pytest.fixture
async def join(stack, front, tmp_path):
    """Lets workers join: ``await join(1, Worker("one"))``; what it gives ends it."""

    async def joined(pid, worker, *, serves=True):
        opened = await stack.enter_async_context(AsyncExitStack())
        await opened.enter_async_context(admin_socket(worker.app(), tmp_path / str(pid)))
        front.joined(Member(pid, tmp_path / str(pid), serves=serves))
        return opened

    return joined


@pytest.fixture
async def session(stack):
    return await stack.enter_async_context(aiohttp.ClientSession())


async def total(session, url):
    async with session.get(f"{url}/metrics") as response:
        assert response.status == 200
        lines = (await response.text()).splitlines()
    return {name: float(value) for name, value in (line.split(" ") for line in lines if line[0] != "#")}


async def test_metrics_are_summed(session, url, join):
    await join(1, Worker("one"))
    await join(2, Worker("two"))
    await join(3, Worker("model"), serves=False)
    assert await total(session, url) == {"a_total": 3}


async def test_what_a_worker_said_last_counts_on_when_it_is_gone(session, url, join, front):
    await join(1, Worker("one"))
    ending = await join(2, Worker("two"))
    assert (await total(session, url))["a_total"] == 2
    await ending.aclose()
    assert (await total(session, url))["a_total"] == 2  # it does not answer, and is not known to be gone
    await front.left(2)
    assert await total(session, url) == {"a_total": 2}


async def test_last_words_count_more_than_what_was_said_before(session, url, join, front):
    await join(1, Worker("one"))
    await front.left(1, "# TYPE a_total counter\na_total 9\n")
    assert (await total(session, url))["a_total"] == 9


async def test_whoever_has_no_token_is_refused_as_the_worker_refuses(session, url, join):
    await join(1, Worker("one", token="s3cret"))
    async with session.get(f"{url}/metrics") as response:
        assert (response.status, await response.json()) == (401, {"error": "who are you?"})
    async with session.get(f"{url}/metrics", headers={"Authorization": "Bearer s3cret"}) as response:
        assert response.status == 200


async def test_everything_else_is_some_worker_s_answer_as_it_is(session, url, join):
    await join(1, Worker("one"))
    async with session.post(f"{url}/api/v1/x?y=%20z", data=b"body", headers={"X-Given": "g"}) as response:
        told = await response.json()
        assert (response.status, response.headers["X-Told"]) == (201, "yes")
    assert told == {
        "name": "one",
        "path": "/api/v1/x?y=%20z",
        "method": "POST",
        "body": "body",
        "given": "g",
        "host": url.removeprefix("http://"),
    }


async def test_what_can_be_nobodys_is_refused_in_the_one_shape(session, url, join):
    await join(1, Worker("one"))
    async with session.get(URL(f"{url}/api/v1/a%0ab", encoded=True)) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")


async def test_another_worker_answers_for_one_that_is_ending(session, url, join):
    ending = await join(1, Worker("one"))
    await join(2, Worker("two"))
    await ending.aclose()
    async with session.get(f"{url}/anything") as response:
        assert (await response.json())["name"] == "two"


async def test_the_process_with_the_model_is_asked_for_metrics_alone(session, url, join):
    await join(1, Worker("model"), serves=False)
    async with session.get(f"{url}/anything") as response:
        assert response.status == 503


async def test_what_each_worker_knows_a_part_of_is_put_together(session, url, join):
    await join(1, Worker("one"))
    await join(2, Worker("two"))
    async with session.get(f"{url}/api/v1/requests") as response:
        told = await response.json()
    assert told["kept"] == 2
    assert {each["model"] for each in told["requests"]} == {"one", "two"}


async def test_one_that_does_not_answer_is_left_out(session, url, join):
    ending = await join(1, Worker("one"))
    await join(2, Worker("two"))
    await ending.aclose()
    async with session.get(f"{url}/api/v1/requests") as response:
        assert (await response.json())["kept"] == 1


@pytest.mark.parametrize("page", ["requests", "events"])
async def test_a_refusal_is_the_workers_own(session, url, join, page):
    await join(1, Worker("one", token="s3cret"))
    async with session.get(f"{url}/api/v1/{page}") as response:
        assert (response.status, await response.json()) == (401, {"error": "who are you?"})


async def test_events_of_all_workers_are_one_stream(session, url, join):
    workers = [Worker("one"), Worker("two")]
    for pid, worker in enumerate(workers):
        await join(pid, worker)
    models, counted = set(), 0
    async with session.get(f"{url}/api/v1/events") as response, asyncio.timeout(30):
        assert response.headers["Content-Type"].startswith("text/event-stream")
        while models != {"one", "two"} or counted < 2:
            line = await response.content.readline()
            if line.startswith(b"data: "):
                data = json.loads(line[6:])
                if "left_out" in data:
                    models |= {each["model"] for each in data["requests"]}
                else:
                    counted = data["requests"]
    for worker in workers:
        worker.gate.set()


async def test_without_a_worker_nobody_answers(session, url):
    async with session.get(f"{url}/api/v1/requests") as response:
        assert response.status == 503
