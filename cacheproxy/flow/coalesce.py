"""Equal requests in flight share one upstream call.

A ``Flight`` is one call on its way; a ``Listener`` is one caller of it. Late listeners get what was sent so far, then
live pieces. The flight belongs to nobody: whoever started it may leave and it goes on for the others. When the last
listener has left, it is cancelled after a while, unless flights are to be finished.

While a flight can be joined its pieces are kept, up to a limit. A flight that outgrew the limit takes no more
listeners and keeps only what somebody has yet to read. It waits for its quickest listener; one that falls behind by
more than the limit is cut off, so that nobody who reads slowly holds up the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple

from cacheproxy.errors import Overloaded
from cacheproxy.model import NO_USAGE, Usage
from cacheproxy.values import value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Hashable, Sequence

    from cacheproxy.errors import ProxyError
    from cacheproxy.flow.messages import Headers
    from cacheproxy.model import Entry
    from cacheproxy.tasks import TaskSet

BACKLOG_BYTES: Final = 1024 * 1024
"""How far the pump may run ahead of the quickest listener of a flight that can no longer be joined."""


class Piece(NamedTuple):
    """Bytes for the callers. ``usage`` marks an event that only those get who asked for usage."""

    data: bytes
    usage: bool = False


@value(frozen=True, slots=True)
class Head:
    """The start of the upstream's answer."""

    status: int
    headers: Headers
    whole: bytes | None = None
    """The complete body; None when pieces follow."""
    events: bool = False
    """Whether the pieces are server-sent events, among which an error can be told."""

    def with_headers(self, headers: Headers) -> Head:
        """The same start under other headers."""
        return Head(self.status, headers, self.whole, self.events)


@value(frozen=True, slots=True)
class Outcome:
    """How a flight ended. ``entry`` is what can be replayed, stored or not; None without a complete answer."""

    http_status: int
    entry: Entry | None = None
    usage: Usage = NO_USAGE
    cost_usd: float | None = 0.0
    """None: no price is known."""
    upstream_ms: float | None = None
    """None where no whole answer came."""


class Flight:
    """One upstream call. The pump lands a head, pushes pieces and ends it; listeners read."""

    def __init__(self, *, streaming: bool, limit_bytes: int) -> None:
        self.streaming = streaming
        self.head: Head | None = None
        self.outcome: Outcome | None = None
        self.error: ProxyError | None = None
        self.joinable = True
        self.ended = False
        self.followed = False
        """Whether the answer comes from elsewhere: another process asks the upstream, or has just asked it."""
        self.whole = False
        """Whether it has ended and every piece is still here."""
        self.giving_up: asyncio.TimerHandle | None = None
        self._limit_bytes = limit_bytes
        self._pieces: deque[Piece] = deque()
        self._dropped = 0
        self._pushed_bytes = 0
        self._held_bytes = 0
        self._listeners: set[Listener] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._on_end: list[Callable[[Outcome], None]] = []
        self._on_empty: Callable[[], None] | None = None

    def listen(self) -> Listener:
        """A new listener, from the first piece on."""
        listener = Listener(self)
        self._listeners.add(listener)
        return listener

    def when_ended(self, callback: Callable[[Outcome], None]) -> None:
        """Call back once when the flight has ended, at once if it has already."""
        if self.outcome is not None:
            callback(self.outcome)
        else:
            self._on_end.append(callback)

    def when_empty(self, callback: Callable[[], None]) -> None:
        """Call back each time when the last listener has left a flight that has not ended."""
        self._on_empty = callback

    @property
    def deserted(self) -> bool:
        """Whether nobody listens."""
        return not self._listeners

    # What the pump does.

    def land(self, head: Head) -> None:
        """The upstream's head has arrived."""
        self.head = head
        self._wake()

    async def push(self, piece: Piece) -> None:
        """Hand a piece to the listeners, waiting for the quickest one if the flight has outgrown its limit."""
        self._pieces.append(piece)
        self._pushed_bytes += len(piece.data)
        self._held_bytes += len(piece.data)
        self._wake()
        if self.joinable and self._held_bytes > self._limit_bytes:
            self.joinable = False
        if not self.joinable:
            while self._listeners and self._pushed_bytes - self._quickest > BACKLOG_BYTES:
                self._make_room()
                await self._news()
            self._make_room()

    def end(self, outcome: Outcome, error: ProxyError | None = None) -> None:
        """Nothing more will come."""
        self.outcome, self.error = outcome, error
        self.whole = self.joinable
        self.ended, self.joinable = True, False
        self._wake()
        callbacks, self._on_end = self._on_end, []
        for callback in callbacks:
            callback(outcome)
        self._on_empty = None  # it knows the flight: together they would stay until the garbage collector looks

    # What its listeners do.

    @property
    def _quickest(self) -> int:
        """How many bytes the quickest listener has taken."""
        return max(listener.taken_bytes for listener in self._listeners)

    def _make_room(self) -> None:
        """Cut off who is too far behind the quickest, and drop what the others have read."""
        for listener in [*self._listeners]:
            if self._quickest - listener.taken_bytes > self._limit_bytes:
                listener.cut_off = True
                self._listeners.remove(listener)
        read = min((listener.position for listener in self._listeners), default=self._dropped + len(self._pieces))
        while self._dropped < read:
            self._held_bytes -= len(self._pieces.popleft().data)
            self._dropped += 1

    def _take(self, position: int) -> list[Piece]:
        start = position - self._dropped
        return [self._pieces[at] for at in range(start, len(self._pieces))]

    def _take_all(self, listener: Listener) -> None:
        position = self._dropped + len(self._pieces)
        if position == listener.position:
            return  # two who wake each other over nothing would never rest
        listener.position = position
        listener.taken_bytes = self._pushed_bytes
        if not self.joinable:
            self._wake()  # the pump may be waiting for this listener

    def _leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        self._wake()
        if self._on_empty is not None and not self._listeners and not self.ended:
            self._on_empty()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _news(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


class Listener:
    """One caller's place in a flight."""

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        self.position = 0
        self.taken_bytes = 0
        self.cut_off = False

    async def head(self) -> Head:
        """Wait for the head. Raises the flight's error when it ended without one."""
        flight = self.flight
        while flight.head is None:
            if flight.error is not None:
                raise flight.error
            await flight._news()  # noqa: SLF001 - a listener is a part of its flight
        return flight.head

    async def end(self) -> Outcome:
        """Wait for the end, passing over the pieces."""
        flight = self.flight
        while flight.outcome is None:
            flight._take_all(self)  # noqa: SLF001 - as above
            await flight._news()  # noqa: SLF001 - as above
        return flight.outcome

    async def body(self, *, with_usage: bool) -> AsyncIterator[bytes]:
        """The pieces as they come, several that wait joined to one.

        Raises the flight's error at its end, or ``Overloaded`` for a listener that fell too far behind the others.
        """
        async with aclosing(self.pieces()) as coming:
            async for pieces in coming:
                data = b"".join(piece.data for piece in pieces if with_usage or not piece.usage)
                if data:
                    yield data

    async def pieces(self) -> AsyncGenerator[Sequence[Piece], None]:
        """The same, piece by piece."""
        flight = self.flight
        try:
            while True:
                if self.cut_off:
                    raise Overloaded("this answer was read too slowly, and others wait for it too: ask again")
                pieces = flight._take(self.position)  # noqa: SLF001 - as above
                if pieces:
                    flight._take_all(self)  # noqa: SLF001 - as above
                    yield pieces
                elif flight.error is not None:
                    raise flight.error
                elif flight.ended:
                    return
                else:
                    await flight._news()  # noqa: SLF001 - as above
        finally:
            self.leave()

    def leave(self) -> None:
        """Stop listening; more than once does no harm."""
        self.flight._leave(self)  # noqa: SLF001 - as above


class Flights:
    """The flights that can be joined, by key."""

    def __init__(self, tasks: TaskSet, *, abandon_s: float, finish_abandoned: bool, limit_bytes: int) -> None:
        self._tasks = tasks
        self._abandon_s = abandon_s
        self._finish_abandoned = finish_abandoned
        self._limit_bytes = limit_bytes
        self._by_key: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, key: Hashable) -> Flight | None:
        """The flight under a key, if it can still be joined."""
        flight = self._by_key.get(key)
        return flight if flight is not None and flight.joinable else None

    def start(
        self, key: Hashable | None, pump: Callable[[Flight], Coroutine[None, None, None]], *, streaming: bool
    ) -> Flight:
        """Start a flight; under the key None nobody can find it."""
        flight = Flight(streaming=streaming, limit_bytes=self._limit_bytes)
        if key is not None:
            self._by_key[key] = flight
            flight.when_ended(lambda _: self._forget(key, flight))
        task = self._tasks.begin(pump(flight), name="flight")
        if not self._finish_abandoned:
            flight.when_empty(lambda: self._cancel_later(flight, task))
        return flight

    def _forget(self, key: Hashable, flight: Flight) -> None:
        if self._by_key.get(key) is flight:
            del self._by_key[key]

    def _cancel_later(self, flight: Flight, task: asyncio.Task[None]) -> None:
        if flight.giving_up is not None:
            flight.giving_up.cancel()  # somebody came and left in the meantime

        def cancel() -> None:
            if flight.deserted and not flight.ended:
                flight.joinable = False
                task.cancel()

        flight.giving_up = asyncio.get_running_loop().call_later(self._abandon_s, cancel)
