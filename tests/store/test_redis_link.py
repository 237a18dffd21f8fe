"""Many askers, few round trips, and an answer for everybody."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager

import pytest
from redis import exceptions
from redis.asyncio import sentinel
from support.redis_server import new_prefix
from support.sockets import raw_server

from cacheproxy.errors import PortUnavailable
from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_link import Link, Script, is_away
from cacheproxy.store.redis_url import Dialled, read_url
from cacheproxy.tasks import TaskSet

ECHO = Script("return {KEYS[1], ARGV[1]}")


@asynccontextmanager
async def linked(url, *, lanes=2, **how):
    async with open_client(read_url(url), Dialled(**how)) as client, TaskSet("test") as tasks:
        link = Link(client, lanes=lanes, tasks=tasks)
        yield link
        link.close()


@pytest.fixture(params=["redis_server", "redis_cluster"])
async def link(request):
    async with linked(request.getfixturevalue(request.param).url) as link:
        yield link


@pytest.fixture
def tag():
    return f"{{{new_prefix()}}}"


async def test_answers_come_in_the_order_of_the_questions(link, tag):
    commands = [("SET", f"{tag}:{number}", number) for number in range(300)]
    await link.ask_all(commands)
    assert await link.ask_all([("GET", f"{tag}:{number}") for number in range(300)]) == [
        b"%d" % number for number in range(300)
    ]


async def test_one_that_fails_does_not_fail_the_others(link, tag):
    await link.ask("SET", f"{tag}:text", "no number")
    failed, answer = await link.ask_each([("INCR", f"{tag}:text"), ("GET", f"{tag}:text")])
    assert isinstance(failed, PortUnavailable)
    assert answer == b"no number"
    with pytest.raises(PortUnavailable, match="not an integer"):
        await link.ask_all([("INCR", f"{tag}:text"), ("GET", f"{tag}:text")])


async def test_a_script_runs_on_a_server_that_has_never_seen_it(link, tag):
    unseen = Script(f"return {{KEYS[1], ARGV[1], '{new_prefix()}'}}")
    answers = await link.ask_all([unseen(tag, "a"), ("SET", f"{tag}:x", 1), unseen(tag, "b")])
    assert [answers[0][1], answers[2][1]] == [b"a", b"b"]


async def test_who_stops_waiting_breaks_nothing(link, tag):
    asking = asyncio.ensure_future(link.ask("SET", f"{tag}:left", 1))
    await asyncio.sleep(0)
    asking.cancel()
    assert await link.ask(*ECHO(tag, "still here")) == [tag.encode(), b"still here"]


async def test_whoever_waits_when_the_link_is_closed_is_answered():
    async with raw_server(silent) as url, linked(url.replace("http", "redis"), lanes=1) as link:
        asking = [asyncio.ensure_future(link.ask("GET", str(number))) for number in range(3)]
        await asyncio.sleep(0)
        link.close()
        await link._tasks.aclose()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(answer) for answer in answers] == [PortUnavailable] * 3
        with pytest.raises(PortUnavailable):
            await link.ask("GET", "late")


async def test_a_server_that_accepts_and_never_answers_is_unavailable_after_the_time_out():
    async with raw_server(silent) as url, linked(url.replace("http", "redis"), answer_s=0.1, retries=0) as link:
        with pytest.raises(PortUnavailable):
            await link.ask("GET", "a")


async def test_a_server_that_talks_nonsense_is_unavailable():
    async def nonsense(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with raw_server(nonsense) as url, linked(url.replace("http", "redis"), retries=0) as link:
        with pytest.raises(PortUnavailable):
            await link.ask("GET", "a")


async def test_what_comes_while_all_lanes_are_under_way_travels_together(redis_server, tag):
    async with linked(redis_server.url, lanes=1) as link:
        first = asyncio.ensure_future(link.ask("SET", f"{tag}:0", 0))
        await asyncio.sleep(0)  # it is on its way
        await asyncio.gather(first, *(link.ask("SET", f"{tag}:{number}", number) for number in range(1, 100)))
        assert link.round_trips == 2


async def test_whoever_asks_alone_is_told_of_any_failure_in_the_same_way(link, monkeypatch):
    async def fail(*_):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(link.client, "execute_command", fail)
    with pytest.raises(PortUnavailable, match="unforeseen"):
        await link.ask_alone("GET", "a")


async def test_what_nobody_asks_about_any_more_takes_no_memory(link):
    for _ in range(5):
        await link.ask("GET", new_prefix())
    assert len(link._queues) <= 1


async def silent(reader, _writer):
    await reader.read(1)
    await asyncio.Event().wait()


# --- what is waited for


def failed(*causes):
    """An error with these causes, the first one last."""
    error = None
    for cause in causes:
        cause.__cause__, error = error, cause
    return error


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (failed(ConnectionRefusedError(), exceptions.ConnectionError()), True),
        (failed(exceptions.TimeoutError()), True),
        (failed(exceptions.BusyLoadingError()), True),
        (failed(exceptions.ReadOnlyError()), True),
        (failed(exceptions.ConnectionError(), exceptions.RedisClusterException()), True),
        (failed(sentinel.MasterNotFoundError()), True),
        (failed(socket.gaierror(socket.EAI_AGAIN, ""), exceptions.ConnectionError()), True),
        (failed(socket.gaierror(socket.EAI_NONAME, ""), exceptions.ConnectionError()), False),
        (failed(exceptions.AuthenticationError()), False),
        (failed(exceptions.AuthenticationError(), exceptions.RedisClusterException()), False),
        (failed(ssl.SSLCertVerificationError(), exceptions.ConnectionError()), False),
        (failed(exceptions.NoPermissionError()), False),
        (failed(exceptions.ResponseError("DB index is out of range")), False),
        (failed(exceptions.RedisClusterException("Cluster mode is not enabled on this node")), False),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else "",
)
def test_only_what_may_be_there_later_is_away(error, away):
    told = PortUnavailable("redis")
    told.__cause__ = error
    assert is_away(told) is away
