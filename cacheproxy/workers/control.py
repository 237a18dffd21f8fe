"""The line between the supervisor and a process that it started: JSON messages, each on a line of its own.

It is a socket that only these two have. When it ends, the other one is gone.
"""

from __future__ import annotations

import asyncio
import base64
import pickle
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cacheproxy.jsontext import dump, parse

if TYPE_CHECKING:
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.settings import Settings

_LONGEST: Final = 64 * 1024 * 1024
"""Bytes of a message: settings and metrics are the long ones."""


class Control:
    """One end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.signs = 0
        """How often the other one answered that it lives."""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Control:
        """Speak over a connected socket, which is then this object's."""
        return cls(*await asyncio.open_connection(sock=end, limit=_LONGEST))

    @classmethod
    async def inherited(cls, number: int) -> Control:
        """Speak over the socket that the supervisor left open for this process."""
        return await cls.over(socket.socket(fileno=number))

    def say(self, **message: object) -> None:
        """Send a message; nothing happens when the other one is gone."""
        if not self._writer.is_closing():
            self._writer.write(dump(message) + b"\n")

    def beat(self) -> None:
        """Ask for a sign of life: whoever hears messages at the other end gives one."""
        self.say(beat="asked")

    async def hear(self) -> JsonObject | None:
        """The next message; None when the other one is gone. Signs of life are given and counted on the way."""
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except (asyncio.IncompleteReadError, OSError):
                return None
            message = parse(line)
            match message:
                case {"beat": "asked"}:
                    self.say(beat="given")
                case {"beat": "given"}:
                    self.signs += 1
                case _:
                    return message if isinstance(message, dict) else {}

    async def aclose(self) -> None:
        """Send what is still to be sent, and hang up."""
        with suppress(OSError):
            await self._writer.drain()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


def packed(settings: Settings) -> str:
    """Settings as text, secrets and all: for a line that only two processes have, and never for a file or a log."""
    return base64.b64encode(pickle.dumps(settings)).decode()


def unpacked(text: object) -> Settings:
    """The settings that the supervisor packed."""
    settings: Settings = pickle.loads(base64.b64decode(str(text)))  # noqa: S301 - it comes from our own parent
    return settings
