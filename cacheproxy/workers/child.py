"""One process that the supervisor started: what it says, how it ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from cacheproxy.errors import ConfigError
from cacheproxy.workers.control import Control, packed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.settings import Settings

BEAT_S: Final = 2.0
"""A sign of life is asked for so often."""
SILENT: Final = 2
"""So many without an answer make a process silent."""
log = logging.getLogger(__name__)


class Child:
    """A process, from its start to its end. Made by ``start``."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, control: Control) -> None:
        self.name = name
        self.gone = asyncio.Event()
        self.goodbye: JsonObject = {}
        """What it said at its end."""
        self.ready: JsonObject = {}
        """What it said when it was ready; nothing before."""
        self._unanswered = 0
        self._process = process
        self._control = control
        self._leaving = False

    @classmethod
    async def start(
        cls, name: str, module: str, settings: Settings, *, descriptors: Sequence[int] = (), **more: object
    ) -> Self:
        """Start ``python -m module``, which gets its name, the settings and ``more`` as its first message."""
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own, so that Ctrl-C reaches the supervisor alone, which knows what to do with it.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
                start_new_session=True,
            )
        child = cls(name, process, await Control.over(ours))
        child.say(name=name, settings=packed(settings), **more)
        return child

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def say(self, **message: object) -> None:
        """Tell it something."""
        self._control.say(**message)

    def leave(self, how: object) -> None:
        """Tell it to end, and how."""
        self._leaving = True
        self.say(leave=how)

    @property
    def silent(self) -> bool:
        """Whether it has not answered for a while: busy, or hanging."""
        return self._unanswered >= SILENT

    async def watched(
        self, patience_s: float, on_silence: Callable[[], None] = lambda: None, *, beat_s: float = BEAT_S
    ) -> None:
        """Until its end, ask for signs of life: one that gives none for so long hangs, and is killed.

        Counted are questions without an answer, and not seconds: a supervisor that stood still itself, with the whole
        machine, blames nobody. ``on_silence`` is called when it falls silent, and when it is heard again. One that is
        on its way out is left to whoever waits for its end.
        """
        beat_s = min(beat_s, patience_s / SILENT)
        while not self.gone.is_set() and not self._leaving:
            seen, was_silent = self._control.signs, self.silent
            self._control.beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(beat_s):
                    await self.gone.wait()
            self._unanswered = self._unanswered + 1 if self._control.signs == seen else 0
            if not self.alive or self._leaving:
                return
            if self._unanswered * beat_s >= patience_s:
                log.error("%s (process %d) gave no sign of life in %g s", self.name, self.pid, patience_s)
                self.kill()
                return
            if self.silent != was_silent:
                on_silence()

    async def readied(self, patience_s: float) -> JsonObject:
        """Wait until it is ready; what it said then. Raises ``ConfigError``, also when that takes too long."""
        try:
            async with asyncio.timeout(patience_s):
                heard = await self._control.hear()
                if heard is None:
                    await self._process.wait()
        except TimeoutError as error:
            raise ConfigError(f"{self.name} was not ready within {patience_s:g} s (deadlines.start_s)") from error
        if heard is None:
            raise ConfigError(f"{self.name} {self.ending} before it was ready; the log says more")
        if "failed" in heard:
            raise ConfigError(str(heard["failed"]))
        self.ready = heard
        return heard

    async def ended(self) -> None:
        """Wait for its end."""
        while (heard := await self._control.hear()) is not None:
            self._leaving = True
            self.goodbye = heard
        await self._process.wait()
        await self._control.aclose()
        self.gone.set()

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        status = self._process.returncode
        if status is None:
            return "runs"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    async def stop(self, patience_s: float) -> bool:
        """Wait for its end, but not for ever: then it is killed. Whether it ended by itself."""
        try:
            async with asyncio.timeout(patience_s):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
            return False
        return True

    def kill(self) -> None:
        """End it at once."""
        if self.alive:
            self._process.kill()
