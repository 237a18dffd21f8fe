"""What an operator asks of a proxy by signals, whatever it is made of: to end, and to go over to other settings."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from cacheproxy.errors import ConfigError, ProxyError
from cacheproxy.tasks import TaskSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from cacheproxy.address import Address
    from cacheproxy.settings import Settings

log = logging.getLogger(__name__)

MARGIN_S: Final = 10.0
"""For what comes after the last answer: storing what was learnt, closing the store."""
_STARTED: Final = "started"
_RELOAD: Final = "reload"
_DRAIN: Final = "drain"
_NOW: Final = "now"


@dataclass(frozen=True, slots=True)
class Serving:
    """A proxy that serves."""

    data: Address
    admin: Address
    upstream_url: str
    store: str
    model: str
    """The embedding model and its device; empty without one."""
    no_model: str
    """Why there is none; empty with one."""
    settings: Settings


class Served(Protocol):
    """A proxy that its operator has a hold on."""

    async def start(self) -> Serving:
        """Serve. Raises ``ProxyError``."""

    async def replace_all(self, settings: Settings) -> None:
        """Serve by other settings, without failing a request. Raises ``ProxyError``; then everything is as it was."""

    async def stop(self, *, at_once: bool) -> None:
        """Take no more requests, and let those under way finish.

        Unless it is to be ``at_once``, load balancers get time to see it first.
        """


@dataclass(frozen=True, slots=True)
class Operator:
    """Who started the proxy, as far as it needs to know."""

    read: Callable[[], Settings]
    """Gives the settings anew. Raises ``ConfigError``."""
    on_settings: Callable[[Settings], None]
    """Is told those that are taken."""
    on_ready: Callable[[Serving], None]
    """Is told what serves, once it does."""


async def attend(opened: AbstractAsyncContextManager[Served], operator: Operator) -> None:
    """Serve until SIGINT or SIGTERM, then let requests under way finish; read the settings anew on SIGHUP.

    Raises ``ProxyError`` when it cannot start.
    """
    wishes = _wishes()
    async with opened as served, TaskSet("operator") as tasks:

        async def start() -> Serving | ProxyError:
            try:
                return await served.start()
            except ProxyError as error:
                return error

        async def reload() -> None:
            await asyncio.wait({starting})
            try:
                fresh = operator.read()
                await served.replace_all(fresh)
            except ProxyError as error:
                log.error("the settings stay as they were, and what serves goes on: %s", error.message)  # noqa: TRY400 - it says what to do
            else:
                operator.on_settings(fresh)
                log.info("the settings are in force as they are now: workers %d", fresh.workers)

        starting = tasks.begin(start(), name="start")
        starting.add_done_callback(lambda _: wishes.put_nowait(_STARTED))
        while (wish := await wishes.get()) not in {_NOW, _DRAIN}:
            if wish == _RELOAD:
                tasks.start(reload(), name="reload")
            elif isinstance(outcome := await starting, ProxyError):
                raise outcome
            else:
                operator.on_ready(outcome)
        await tasks.aclose()  # nothing more is started
        await _end(served, wishes, at_once=wish == _NOW)


async def _end(served: Served, wishes: asyncio.Queue[str], *, at_once: bool) -> None:
    """Stop, and wait for nothing any more from when that is asked for."""
    async with TaskSet("end") as tasks:
        stopping = tasks.begin(served.stop(at_once=at_once), name="stop")
        hurried = tasks.begin(_hurried(wishes), name="hurried")
        await asyncio.wait({stopping, hurried}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            return await stopping
    return await served.stop(at_once=True)


async def _hurried(wishes: asyncio.Queue[str]) -> None:
    while await wishes.get() != _NOW:
        pass


def _wishes() -> asyncio.Queue[str]:
    """What signals ask for, from now on.

    SIGHUP is also what comes when the terminal is closed: that ends what was started in one, unless by ``nohup``.
    """
    wishes: asyncio.Queue[str] = asyncio.Queue()
    ends_with_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL

    def hang_up() -> None:
        wishes.put_nowait(_DRAIN if ends_with_terminal and not _has_terminal() else _RELOAD)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, wishes.put_nowait, _NOW)
    loop.add_signal_handler(signal.SIGTERM, wishes.put_nowait, _DRAIN)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    return wishes


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def refuse_change(before: Settings, after: Settings, names: Iterable[str]) -> None:
    """Raises ``ConfigError`` where one of these settings is another one."""
    for name in names:
        if getattr(after, name) != getattr(before, name):
            raise ConfigError(f"{name} cannot change while the proxy serves: restart it for that")
