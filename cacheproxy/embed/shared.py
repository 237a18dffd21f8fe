"""One embedding model for several processes of a machine, over a unix socket.

Frames in both directions: kind, number, length, bytes. A question has a number of its caller's choosing, its answer the
same one, and answers come in any order. A caller that leaves says so, and its text leaves the queue. The first frame
says which model it is; a model that comes back after a crash must be the same.

Over HTTP (``remote.py``) a text costs the worker that asks 25 times as much of its time; docs/workers.md has figures.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast

import numpy as np

from cacheproxy.errors import Overloaded, PortUnavailable, ProxyError, TurnTooLong, translating
from cacheproxy.jsontext import dump, parse
from cacheproxy.tasks import TaskSet
from cacheproxy.wire.reading import count, member

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from types import TracebackType

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import Vector
    from cacheproxy.ports import Embedder, Verifier

_HEAD: Final = Struct("<BII")
_SCORE: Final = Struct("<d")
_LONGEST: Final = 1024 * 1024
"""Characters: no model's window holds a longer text."""
_HELLO_S: Final = 10.0


class _Kind(IntEnum):
    HELLO = 0
    EMBED = 1
    PATIENTLY = 2
    """Embed, for nobody who waits."""
    COMPARE = 3
    LEFT = 4
    ANSWER = 5
    TOO_LONG = 6
    OVERLOADED = 7
    UNAVAILABLE = 8


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

    def __init__(self, offered: _Offered, tasks: TaskSet, callers: set[_Caller]) -> None:
        super().__init__()
        self._offered = offered
        self._tasks = tasks
        self._callers = callers
        self._working: dict[int, asyncio.Task[None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._callers.add(self)
        self.say(_Kind.HELLO, 0, dump(self._offered.hello))

    def connection_lost(self, _: Exception | None) -> None:
        self._callers.discard(self)
        for task in self._working.values():
            task.cancel()

    def heard(self, frame: _Frame) -> None:
        if frame.kind is _Kind.LEFT:
            if (left := self._working.get(frame.number)) is not None:
                left.cancel()
            return
        self._working[frame.number] = self._tasks.begin(self._answer(*frame), name="answer")

    async def _answer(self, kind: _Kind, number: int, content: bytes) -> None:
        try:
            self.say(_Kind.ANSWER, number, await self._offered.answer(kind, content))
        except TurnTooLong as error:
            self.say(_Kind.TOO_LONG, number, error.message.encode())
        except Overloaded as error:
            self.say(_Kind.OVERLOADED, number, error.message.encode())
        except ProxyError as error:
            self.say(_Kind.UNAVAILABLE, number, error.message.encode())
        finally:
            self._working.pop(number, None)


@dataclass(frozen=True, slots=True)
class _Offered:
    """What other processes may use."""

    embedder: Embedder
    patient: Embedder
    verifier: Verifier | None
    device: str

    @property
    def hello(self) -> JsonObject:
        return {
            "model": self.embedder.model,
            "dimension": self.embedder.dimension,
            "device": self.device,
            "verifier": None if self.verifier is None else self.verifier.name,
        }

    async def answer(self, kind: _Kind, content: bytes) -> bytes:
        if kind is _Kind.COMPARE:
            if self.verifier is None:
                raise PortUnavailable("there is nothing to compare questions with")
            asked, stored = parse(content)
            return _SCORE.pack(await self.verifier.compare(asked, stored))
        embedder = self.embedder if kind is _Kind.EMBED else self.patient
        vector = await embedder.embed(content.decode("utf-8", "replace"))
        return vector.astype("<f4", copy=False).tobytes()


@asynccontextmanager
async def sharing(
    embedder: Embedder,
    path: Path,
    *,
    patient: Embedder | None = None,
    verifier: Verifier | None = None,
    device: str = "",
) -> AsyncIterator[JsonObject]:
    """Let other processes use an embedder, and what compares questions. Whoever may open ``path`` may use them.

    Gives what is said to each of them first.
    ``patient`` is the embedder for texts that nobody waits for.
    """
    callers: set[_Caller] = set()
    offered = _Offered(embedder, patient or embedder, verifier, device)
    async with TaskSet("shared-embedder") as tasks:
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Caller(offered, tasks, callers), str(path)
        )
        try:
            yield offered.hello
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
        self.waiting: dict[int, asyncio.Future[bytes]] = {}
        self.lost = False
        self._last = 0

    def heard(self, frame: _Frame) -> None:
        if frame.kind is _Kind.HELLO:
            self.hello.set_result(frame.content)
            return
        waiter = self.waiting.pop(frame.number, None)
        if waiter is None or waiter.done():
            return
        if frame.kind is _Kind.ANSWER:
            waiter.set_result(frame.content)
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

    async def ask(self, kind: _Kind, content: bytes) -> bytes:
        """The answer to a question."""
        self._last = number = (self._last + 1) % 2**32
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.waiting[number] = waiter
        self.say(kind, number, content)
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
        self._verifier = ""
        self._path = path
        self._max_waiting = max_waiting
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()

    async def embed(self, text: str) -> Vector:
        """The text's vector: shape (dimension,), unit length, read-only.

        Raises ``TurnTooLong``, ``Overloaded`` (too many wait, here or there) or ``PortUnavailable``.
        """
        return await self._vector(_Kind.EMBED, text)

    @property
    def patient(self) -> Embedder:
        """The same model for texts that nobody waits for: they stand behind those of requests."""
        return _Patient(self)

    @property
    def verifier(self) -> Verifier | None:
        """What compares questions there; None where nothing does."""
        return _SharedVerifier(self, self._verifier) if self._verifier else None

    async def compare(self, asked: str, stored: str) -> float:
        """What that says. Raises what ``embed`` does."""
        (score,) = _SCORE.unpack(await self._ask(_Kind.COMPARE, dump([_sound(asked), _sound(stored)])))
        return float(score)

    async def _vector(self, kind: _Kind, text: str) -> Vector:
        if len(text) > _LONGEST:
            raise TurnTooLong(f"the text is over {_LONGEST} characters, and so over the embedding model's window")
        return np.frombuffer(await self._ask(kind, text.encode("utf-8", "replace")), "<f4")  # read-only, as bytes are

    async def _ask(self, kind: _Kind, content: bytes) -> bytes:
        link = self._link
        if link is None or link.lost:
            link = await self.connect()
        if len(link.waiting) >= self._max_waiting:
            raise Overloaded("too many texts wait for the embedding process")
        return await link.ask(kind, content)

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
                try:
                    async with asyncio.timeout(_HELLO_S):
                        self.meet(parse(await link.hello))
                except BaseException:
                    link.close()  # a process that hangs is connected to all the same, and again by each who asks
                    raise
            self._link = link
            return link

    def meet(self, hello: Any) -> None:
        """Take note of which model it is."""
        named = (str(member(hello, "model")), count(hello, "dimension"))
        if self.model and named != (self.model, self.dimension):
            raise PortUnavailable(f"the embedding process has {named[0]} now, and not {self.model}")
        self.model, self.dimension = named
        self.device = str(member(hello, "device"))
        self._verifier = member(hello, "verifier") or ""

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


class _Patient:
    """``SharedEmbedder.patient``."""

    def __init__(self, embedder: SharedEmbedder) -> None:
        self.model = embedder.model
        self.dimension = embedder.dimension
        self._embedder = embedder

    async def embed(self, text: str) -> Vector:
        """See ``SharedEmbedder``."""
        return await self._embedder._vector(_Kind.PATIENTLY, text)  # noqa: SLF001 - the other half of one class


class _SharedVerifier:
    """``SharedEmbedder.verifier``."""

    def __init__(self, embedder: SharedEmbedder, name: str) -> None:
        self.name = name
        self._embedder = embedder

    async def compare(self, asked: str, stored: str) -> float:
        """See ``Verifier``."""
        return await self._embedder.compare(asked, stored)


def _sound(text: str) -> str:
    """A lone surrogate has no place in JSON."""
    return text.encode("utf-8", "replace").decode()


async def open_shared(path: Path, *, hello: JsonObject | None = None, max_waiting: int = 1024) -> SharedEmbedder:
    """The embedder that ``sharing`` shares at ``path``. Raises ``PortUnavailable``.

    Where it is known what ``sharing`` gave, the embedding process may be away at the moment.
    """
    embedder = SharedEmbedder(path, max_waiting=max_waiting)
    if hello is None:
        await embedder.connect()
    else:
        embedder.meet(hello)
    return embedder
