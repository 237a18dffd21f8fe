"""One process that goes over from one proxy to another; tests/e2e/test_reload.py has it as a process, under traffic."""

import asyncio
import gc
import socket
from dataclasses import replace

import aiohttp
import pytest
from support.servers import keeping_still
from support.waiting import until

from cacheproxy.errors import ConfigError
from cacheproxy.flow.proxy import Proxy
from cacheproxy.settings import Settings
from cacheproxy.workers.alone import open_alone


@pytest.fixture
def settings(tmp_path):
    """``settings(**changes)``: a proxy for this test alone, without a model."""

    def make(**changes):
        fixed = {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "data_dir": tmp_path / "data", "mode": "exact"}
        return Settings(**{**fixed, "deadlines": {"store_ms": 20_000, "drain_s": 1}, **changes})

    return make


async def usage_told(serving):
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{serving.admin}/api/v1/settings") as response,
    ):
        return (await response.json())["settings"]["hit_usage"]


def proxies():
    """How many are in memory."""
    gc.unfreeze()
    gc.collect()
    return sum(type(each) is Proxy for each in gc.get_objects())  # isinstance asks an object, and some of torch's warn


async def test_proxies_that_were_replaced_leave_nothing_behind(settings):
    before = proxies()
    async with open_alone(settings()) as alone:
        serving = await alone.start()
        for usage in ("zero", "original", "zero"):
            await alone.replace_all(settings(hit_usage=usage))
            assert await usage_told(serving) == usage
        await until(lambda: not len(alone._tasks))  # the last one that was replaced has been closed
        assert proxies() == before + 1


async def test_a_new_proxy_that_is_not_ready_in_time_leaves_the_old_one_serving(settings):
    async with open_alone(settings()) as alone:
        serving = await alone.start()
        late = settings(hit_usage="zero", deadlines={"start_s": 1e-9})
        with pytest.raises(ConfigError, match=r"not ready within 1e-09 s \(deadlines.start_s\)"):
            await alone.replace_all(late)
        assert await usage_told(serving) == "original"


async def test_a_new_proxy_that_cannot_take_up_the_sockets_is_closed(settings):
    """It went on beside the old one: nobody had a hold on it."""
    before = proxies()
    async with open_alone(settings()) as alone:
        serving = await alone.start()
        alone._seat = replace(alone._seat, admin_sockets=[-1])
        with pytest.raises(ConfigError, match="the sockets cannot be taken up"):
            await alone.replace_all(settings(hit_usage="zero"))
        assert await usage_told(serving) == "original"
        assert proxies() == before + 1


async def test_an_end_waits_for_no_silent_caller_of_a_proxy_that_was_replaced(settings):
    """Ctrl-C took as long as ``drain_s`` where somebody kept a connection open."""
    patient = {"drain_s": 3600}
    async with asyncio.timeout(30), open_alone(settings(deadlines=patient)) as alone:
        serving = await alone.start()
        async with keeping_still(serving.data):
            await alone.replace_all(settings(hit_usage="zero", deadlines=patient))
            await alone.aclose()


async def test_an_address_that_is_taken_is_refused(settings):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ConfigError, match="cannot listen on"):
        async with open_alone(settings(listen=f"127.0.0.1:{other.getsockname()[1]}")):
            pass


async def test_a_name_is_listened_on_at_each_of_its_addresses(settings):
    async with open_alone(settings(listen="localhost:0")) as alone:
        serving = await alone.start()
        known = {where[0] for *_, where in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
        for host in known - {"::1"}:
            socket.create_connection((host, serving.data.port)).close()
