"""One embedding model for several processes of a machine, over a unix socket.

Frames in both directions: kind, number, length, bytes. A question has a number of its caller's choosing, its answer the
same one, and answers come in any order. A caller that leaves says so, and its text leaves the queue. The first frame
says which model it is; a model that comes back after a crash must be the same.

Over HTTP (``remote.py``) a text costs the worker that asks 0.4 ms of its time, so 0.01 ms. Measured by
``benchmarks/scale_workers.py --line``.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, Self, cast

import numpy as np

from cacheproxy.errors import Overloaded, PortUnavailable, ProxyError, TurnTooLong, translating
from cacheproxy.jsontext import dump, parse
from cacheproxy.tasks import TaskSet
from cacheproxy.wire.reading import count, member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from types import TracebackType

    from cacheproxy.model import Vector
    from cacheproxy.ports import Embedder

_HEAD: Final = Struct("<BII")
_LONGEST: Final = 1024 * 1024
"""Characters: no model's window holds a longer text."""
_HELLO_S: Final = 10.0


class _Kind(IntEnum):
    HELLO = 0
    EMBED = 1
    LEFT = 2
    VECTOR = 3
    TOO_LONG = 4
    OVERLOADED = 5
    UNAVAILABLE = 6


_REFUSALS: Final[dict[_Kind, type[ProxyError]]] = {
    _Kind.TOO_LONG: TurnTooLong,
    _Kind.OVERLOADED: Overloaded,
    _Kind.UNAVAILABLE: PortUnavailable,
}


class _Frame(NamedTuple):
    kind: _Kind
    number: int
    content: bytes


class _Frames:
    """Frames out of bytes that were cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[_Frame]:
        data = self._rest + data if self._rest else data
        start = 0
        while len(data) - start >= _HEAD.size:
            kind, number, length = _HEAD.unpack_from(data, start)
            end = start + _HEAD.size + length
            if len(data) < end:
                break
            yield _Frame(_Kind(kind), number, data[start + _HEAD.size : end])
            start = end
        self._rest = data[start:]


class _Line(asyncio.Protocol):
    """A connection, as far as both ends are alike."""

    def __init__(self) -> None:
        self._frames = _Frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # as a stream's is; uvloop's has no such ancestor

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            self.heard(frame)

    def heard(self, frame: _Frame) -> None:
        raise NotImplementedError

    def say(self, kind: _Kind, number: int, content: bytes = b"") -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_HEAD.pack(kind, number, len(content)) + content)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


# --- the process that has the model


class _Caller(_Line):
    """One process that asks."""

    def __init__(self, embedder: Embedder, device: str, tasks: TaskSet, callers: set[_Caller]) -> None:
        super().__init__()
        self._embedder = embedder
        self._device = device
        self._tasks = tasks
        self._callers = callers
        self._working: dict[int, asyncio.Task[None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._callers.add(self)
        hello = {"model": self._embedder.model, "dimension": self._embedder.dimension, "device": self._device}
        self.say(_Kind.HELLO, 0, dump(hello))

    def connection_lost(self, _: Exception | None) -> None:
        self._callers.discard(self)
        for task in self._working.values():
            task.cancel()

    def heard(self, frame: _Frame) -> None:
        if frame.kind is _Kind.EMBED:
            task = self._tasks.begin(self._answer(frame.number, frame.content.decode("utf-8", "replace")), name="embed")
            self._working[frame.number] = task
        elif frame.kind is _Kind.LEFT and (left := self._working.get(frame.number)) is not None:
            left.cancel()

    async def _answer(self, number: int, text: str) -> None:
        try:
            vector = await self._embedder.embed(text)
            self.say(_Kind.VECTOR, number, vector.astype("<f4", copy=False).tobytes())
        except TurnTooLong as error:
            self.say(_Kind.TOO_LONG, number, error.message.encode())
        except Overloaded as error:
            self.say(_Kind.OVERLOADED, number, error.message.encode())
        except ProxyError as error:
            self.say(_Kind.UNAVAILABLE, number, error.message.encode())
        finally:
            self._working.pop(number, None)


@asynccontextmanager
async def sharing(embedder: Embedder, path: Path, *, device: str = "") -> AsyncIterator[None]:
    """Let other processes use an embedder. Whoever may open the socket at ``path`` may use it."""
    callers: set[_Caller] = set()
    async with TaskSet("shared-embedder") as tasks:
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Caller(embedder, device, tasks, callers), str(path)
        )
        try:
            yield
        finally:
            server.close()
            for caller in list(callers):
                caller.close()


# --- the processes that ask


class _Link(_Line):
    """The connection to the model. ``max_waiting`` texts are on their way at most."""

    def __init__(self) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[bytes] = loop.create_future()
        self.waiting: dict[int, asyncio.Future[Vector]] = {}
        self.lost = False
        self._last = 0

    def heard(self, frame: _Frame) -> None:
        if frame.kind is _Kind.HELLO:
            self.hello.set_result(frame.content)
            return
        waiter = self.waiting.pop(frame.number, None)
        if waiter is None or waiter.done():
            return
        if frame.kind is _Kind.VECTOR:
            waiter.set_result(np.frombuffer(frame.content, "<f4"))  # read-only, as the bytes are
        else:
            waiter.set_exception(_REFUSALS.get(frame.kind, PortUnavailable)(frame.content.decode("utf-8", "replace")))

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True
        gone = PortUnavailable("the embedding process is gone")
        if not self.hello.done():
            self.hello.set_exception(gone)
        for waiter in self.waiting.values():
            if not waiter.done():
                waiter.set_exception(gone)
        self.waiting.clear()

    async def ask(self, text: str) -> Vector:
        """The vector of a text."""
        self._last = number = (self._last + 1) % 2**32
        waiter: asyncio.Future[Vector] = asyncio.get_running_loop().create_future()
        self.waiting[number] = waiter
        self.say(_Kind.EMBED, number, text.encode("utf-8", "replace"))
        try:
            return await waiter
        finally:
            if self.waiting.pop(number, None) is not None:
                self.say(_Kind.LEFT, number)


class SharedEmbedder:
    """The model in another process. Made by ``open_shared``."""

    def __init__(self, path: Path, *, max_waiting: int) -> None:
        self.model = ""
        self.dimension = 0
        self.device = ""
        self._path = path
        self._max_waiting = max_waiting
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()

    async def embed(self, text: str) -> Vector:
        """The text's vector: shape (dimension,), unit length, read-only.

        Raises ``TurnTooLong``, ``Overloaded`` (too many wait, here or there) or ``PortUnavailable``.
        """
        if len(text) > _LONGEST:
            raise TurnTooLong(f"the text is over {_LONGEST} characters, and so over the embedding model's window")
        link = self._link
        if link is None or link.lost:
            link = await self.connect()
        if len(link.waiting) >= self._max_waiting:
            raise Overloaded("too many texts wait for the embedding process")
        return await link.ask(text)

    async def connect(self) -> _Link:
        """A connection to the model, a new one if need be. Raises ``PortUnavailable``."""
        async with self._connecting:
            if self._link is not None and not self._link.lost:
                return self._link
            with translating(
                {OSError: PortUnavailable, TimeoutError: PortUnavailable, ValueError: PortUnavailable},
                "the embedding process",
            ):
                _, link = await asyncio.get_running_loop().create_unix_connection(_Link, str(self._path))
                async with asyncio.timeout(_HELLO_S):
                    hello = parse(await link.hello)
            named = (str(member(hello, "model")), count(hello, "dimension"))
            if self.model and named != (self.model, self.dimension):
                link.close()
                raise PortUnavailable(f"the embedding process has {named[0]} now, and not {self.model}")
            self.model, self.dimension = named
            self.device = str(member(hello, "device"))
            self._link = link
            return link

    async def aclose(self) -> None:
        """Close the connection; whoever waits gets ``PortUnavailable``."""
        if self._link is not None:
            self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def open_shared(path: Path, *, max_waiting: int = 1024) -> SharedEmbedder:
    """The embedder that ``sharing`` shares at ``path``. Raises ``PortUnavailable``."""
    embedder = SharedEmbedder(path, max_waiting=max_waiting)
    await embedder.connect()
    return embedder
