"""What signals do to a proxy: it reloads, one wish after another, and ends."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import pytest
from support.waiting import until

from cacheproxy.errors import ConfigError
from cacheproxy.settings import Settings
from cacheproxy.workers.serving import Operator, attend, refuse_change


class Proxy:
    """A proxy that starts when it is let, and notes what is asked of it."""

    def __init__(self, *, refuses=()):
        self.may_start = asyncio.Event()
        self.asked = []
        self.refuses = refuses

    @asynccontextmanager
    async def opened(self):
        self.asked.append("open")
        yield self

    async def start(self):
        await self.may_start.wait()
        if "start" in self.refuses:
            raise ConfigError("no room")
        self.asked.append("start")
        return "serving"

    async def replace_all(self, settings):
        if settings.workers in self.refuses:
            raise ConfigError("that cannot change")
        self.asked.append(settings.workers)

    async def stop(self, *, at_once):
        self.asked.append(f"stop {'now' if at_once else 'later'}")


@pytest.fixture
def attended():
    """``attended(proxy, *read)``: the running proxy, what its operator reads, and what they are told."""

    def begin(proxy, *workers):
        told, files = [], iter(workers)
        operator = Operator(
            lambda: Settings(workers=next(files)), lambda taken: told.append(taken.workers), told.append
        )
        return asyncio.ensure_future(attend(proxy.opened(), operator)), told

    return begin


def send(number):
    os.kill(os.getpid(), number)


async def test_a_reload_that_is_asked_for_during_the_start_comes_after_it(attended):
    proxy = Proxy()
    attending, told = attended(proxy, 3)
    await until(lambda: proxy.asked)
    send(signal.SIGHUP)
    await asyncio.sleep(0)
    assert proxy.asked == ["open"]
    proxy.may_start.set()
    await until(lambda: 3 in told)
    send(signal.SIGTERM)
    await attending
    assert proxy.asked == ["open", "start", 3, "stop later"]
    assert told == ["serving", 3]


async def test_settings_that_are_refused_end_nothing_and_the_log_says_so(attended, caplog):
    proxy = Proxy(refuses=[2])
    proxy.may_start.set()
    attending, told = attended(proxy, 2, 4)
    await until(lambda: told)
    send(signal.SIGHUP)
    await until(lambda: "the settings stay as they were, and what serves goes on: that cannot change" in caplog.text)
    send(signal.SIGHUP)
    await until(lambda: 4 in told)
    send(signal.SIGINT)
    await attending
    assert proxy.asked == ["open", "start", 4, "stop now"]


async def test_what_keeps_it_from_starting_is_raised(attended):
    proxy = Proxy(refuses=["start"])
    proxy.may_start.set()
    with pytest.raises(ConfigError, match="no room"):
        await attended(proxy)[0]


async def test_it_can_be_ended_while_it_starts(attended):
    proxy = Proxy()
    attending, told = attended(proxy)
    await until(lambda: proxy.asked)
    send(signal.SIGTERM)
    await attending
    assert (proxy.asked, told) == (["open", "stop later"], [])


def test_what_cannot_change_is_named():
    refuse_change(Settings(workers=2), Settings(workers=3), ["listen"])
    with pytest.raises(ConfigError, match="workers cannot change while the proxy serves"):
        refuse_change(Settings(workers=2), Settings(workers=3), ["listen", "workers"])
