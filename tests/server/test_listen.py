"""Listening: which address was bound, what is said when that fails, and how requests under way end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import aiohttp
import pytest
import uvloop
from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.errors import ConfigError
from cacheproxy.flow.messages import Streamed, Whole
from cacheproxy.server.data_plane import DataPlane
from cacheproxy.server.listen import CallersSlots, admin_listener, data_listener
from cacheproxy.workers.sockets import bind, close

ANYWHERE = Address("127.0.0.1", 0)


async def ok(_incoming):
    return Whole(200, [], b"ok")


class Flow:
    def __init__(self, answer=ok):
        self.handle = answer


def plane(answer=ok):
    return DataPlane(Flow(answer), lambda: (True, {}), now=lambda: 1_700_000_000.0, body_s=30.0)


async def test_port_zero_takes_a_free_one_and_tells_it(session):
    async with (
        data_listener(plane(), ANYWHERE, drain_s=0.1) as one,
        data_listener(plane(), ANYWHERE, drain_s=0.1) as two,
    ):
        assert one.port != two.port
        for address in (one, two):
            async with session.get(f"http://{address}/") as response:
                assert await response.read() == b"ok"


async def test_an_address_of_version_six_is_told_in_brackets(session):
    try:
        async with data_listener(plane(), Address("::1", 0), drain_s=0.1) as address:
            assert str(address).startswith("[::1]:")
            async with session.get(f"http://{address}/") as response:
                assert response.status == 200
    except ConfigError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize("which", ["data", "admin"])
async def test_an_address_that_is_taken_is_an_error_that_says_so(which):
    async with data_listener(plane(), ANYWHERE, drain_s=0.1) as taken:
        second = (
            data_listener(plane(), taken, drain_s=0.1) if which == "data" else admin_listener(web.Application(), taken)
        )
        with pytest.raises(ConfigError, match=rf"^cannot listen on {taken}: Address already in use; choose another"):
            async with second:
                pass


async def test_a_name_that_does_not_resolve_is_an_error_that_says_so():
    with pytest.raises(ConfigError, match=r"cannot listen on nobody\.invalid:1"):
        async with data_listener(plane(), Address("nobody.invalid", 1), drain_s=0.1):
            pass


async def test_closing_frees_the_address():
    async with data_listener(plane(), ANYWHERE, drain_s=0.1) as first:
        pass
    async with data_listener(plane(), first, drain_s=0.1) as second:
        assert second == first


async def test_a_request_under_way_may_finish_while_new_ones_are_refused(session):
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(_incoming):
        begun.set()
        await gate.wait()
        return Whole(200, [], b"done")

    closing = asyncio.Event()

    async def run():
        async with data_listener(plane(slow), ANYWHERE, drain_s=20) as address:
            bound.set_result(address)
            await closing.wait()

    bound = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(run())
    address = await bound
    asking = asyncio.ensure_future(session.get(f"http://{address}/"))
    await begun.wait()
    closing.set()
    while await connects(address):  # noqa: ASYNC110 - the listener tells nobody when it has stopped listening
        await asyncio.sleep(0.01)
    assert not running.done()
    gate.set()
    response = await asking
    assert await response.read() == b"done"
    await asyncio.wait_for(running, 30)


async def connects(address):
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def test_what_does_not_finish_in_time_is_cut(session):
    closed = asyncio.Event()

    async def body():
        yield b"first"
        await asyncio.Event().wait()

    async def close():
        closed.set()

    async def endless(_incoming):
        return Streamed(200, [], body(), close)

    async with data_listener(plane(endless), ANYWHERE, drain_s=0.1) as address:
        response = await session.get(f"http://{address}/")
        assert await response.content.read(5) == b"first"
    with pytest.raises(aiohttp.ClientError):
        await response.read()
    await asyncio.wait_for(closed.wait(), 30)


@pytest.mark.parametrize("size", [9_000, 40_000])
async def test_long_headers_and_paths_are_taken(session, size):
    async with (
        data_listener(plane(), ANYWHERE, drain_s=0.1) as address,
        session.get(f"http://{address}/{'p' * size}", headers={"X-Long": "h" * size}) as response,
    ):
        assert response.status == 200


# --- a worker's share of sockets that outlive it


@pytest.fixture
def shared():
    """Two listening sockets of one address, which nobody accepts from."""
    address, sockets = bind(ANYWHERE, 2)
    for one in sockets:
        one.listen(16)
    yield address, [one.fileno() for one in sockets]
    close(sockets)


async def test_whoever_connects_waits_until_somebody_takes_the_slots(shared, session):
    address, sockets = shared
    asking = [asyncio.ensure_future(session.get(f"http://{address}/")) for _ in range(8)]
    async with CallersSlots(plane(), sockets, drain_s=5) as slots:
        await slots.take([0])
        await slots.take([0, 1])
        assert [await (await each).read() for each in asking] == [b"ok"] * 8


async def test_slots_pass_from_one_to_the_other_and_nobody_is_turned_away(shared, session):
    address, sockets = shared
    async with CallersSlots(plane(), sockets, drain_s=5) as one, CallersSlots(plane(), sockets, drain_s=5) as other:
        await one.take([0, 1])
        asking = [asyncio.ensure_future(session.get(f"http://{address}/")) for _ in range(16)]
        await other.take([0, 1])
        await one.take([])
        asking += [asyncio.ensure_future(session.get(f"http://{address}/")) for _ in range(16)]
        assert [await (await each).read() for each in asking] == [b"ok"] * 32


async def test_one_that_retires_answers_once_more_on_each_connection_and_says_that_it_is_the_last(shared, session):
    address, sockets = shared
    async with CallersSlots(plane(), sockets, drain_s=20) as slots:
        await slots.take([0, 1])
        async with session.get(f"http://{address}/") as response:
            assert "Connection" not in response.headers
        retiring = asyncio.ensure_future(slots.retire())
        await asyncio.sleep(0)
        async with session.get(f"http://{address}/livez") as response:
            assert response.headers["Connection"] == "close"
        await asyncio.wait_for(retiring, 30)


async def test_a_connection_that_stays_idle_is_closed_in_the_end(shared, session):
    address, sockets = shared
    async with CallersSlots(plane(), sockets, drain_s=0.1) as slots:
        await slots.take([0, 1])
        async with session.get(f"http://{address}/") as response:
            await response.read()
        await slots.retire()


async def test_without_time_left_what_is_under_way_is_cut_at_once(session):
    """aiohttp took no time left for time without end, and a proxy whose time to drain was over never ended."""
    begun = asyncio.Event()

    async def endless(_incoming):
        begun.set()
        await asyncio.Event().wait()

    address, sockets = bind(ANYWHERE, 1)
    try:
        callers = CallersSlots(plane(endless), [each.fileno() for each in sockets], drain_s=0.0)
        async with asyncio.timeout(30):
            async with callers:
                await callers.take_all()
                asking = asyncio.ensure_future(session.post(f"http://{address}/"))
                await begun.wait()
            with pytest.raises(aiohttp.ClientError):
                await asking
    finally:
        close(sockets)


def test_who_comes_with_many_others_waits_for_no_turn_of_each():
    """uvloop accepts one in each turn of its loop: under load the last of 256 waited two seconds."""

    async def accepted(many, turns):
        address, sockets = bind(ANYWHERE, 1)
        sockets[0].listen(many)
        callers = CallersSlots(plane(), [each.fileno() for each in sockets], drain_s=0.0)
        with ExitStack() as stack:
            stack.callback(close, sockets)
            for _ in range(many):
                stack.enter_context(socket.create_connection((address.host, address.port)))
            async with callers:
                await callers.take([0])
                for _ in range(turns):
                    await asyncio.sleep(0)
                return len(callers._server.connections)

    assert uvloop.run(accepted(64, turns=20)) == 64
