"""Leases on flights in Redis, and what flights bring, from process to process: ``ports.SharedFlights``.

A lease is one key with a short life that only its holder renews or deletes. It names the process that holds it. Each
process has an inbox, a stream of bounded length that it alone reads, on one connection however many flights there are:
who finds a key leased writes to the holder's inbox that it wants the flight, and gets its records into its own. They
are numbered, so that one that was trimmed away is missed.

Not one key per flight that all its followers read: each would block a connection, and a cluster reads no two streams
of different slots at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.errors import PortUnavailable
from cacheproxy.ports import Taken
from cacheproxy.store.redis_link import Link, Script
from cacheproxy.tasks import TaskSet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping

    from cacheproxy.ports import Follower
    from cacheproxy.store.redis_client import Client

log = logging.getLogger(__name__)

_LANES: Final = 4
LEASE_S: Final = 3.0
"""How long a lease outlives its holder."""
RENEW_S: Final = 1.0
KEPT_S: Final = 1.0
"""How long it is remembered that an answer was kept: for who looked for it just before."""
CHECK_S: Final = 1.0
"""A follower that hears nothing for so long looks whether the lease still stands, and the second time gives up."""
SEND_S: Final = 2.0
INBOX_MESSAGES: Final = 4_096
INBOX_S: Final = 60.0
"""An inbox that nobody writes to or reads goes after this."""
_READ_MS: Final = 1_000
_READ_AT_ONCE: Final = 256
_PAUSE_S: Final = 0.25
_END_S: Final = 1.0

_KEPT: Final = b"kept"
_WANT, _LEFT, _RECORDS = b"want", b"left", b"records"

_TAKE: Final = Script(r"""
local held = redis.call('GET', KEYS[1])
if not held then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return held
""")
_RENEW: Final = Script(r"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")
_RELEASE: Final = Script(r"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], 'kept', 'PX', ARGV[2])
return 1
""")


class RedisFlights:
    """``SharedFlights``. Made by ``open_flights``."""

    def __init__(self, client: Client, *, prefix: str, tasks: TaskSet) -> None:
        self.link = Link(client, lanes=_LANES, tasks=tasks)
        self._prefix = prefix
        self._tasks = tasks
        self._process = secrets.token_hex(8)
        self._numbers = count()
        self._ending = False
        self.leases: dict[bytes, RedisLease] = {}
        self._followers: dict[bytes, RedisFollower] = {}
        self.following: dict[bytes, asyncio.Queue[tuple[int, list[bytes]]]] = {}

    async def take(self, key: bytes, joined: Callable[[Follower], None]) -> Taken:
        """See ``SharedFlights``. One round trip."""
        name, token = f"{self._prefix}:lease:{key.hex()}", self.new_token()
        held: bytes | None = await self.link.ask(*_TAKE(name, token, _ms(LEASE_S)))
        if held is None or held == token:  # ours: the second time, where the first answer was lost on its way
            lease = self.leases[token] = RedisLease(self, name, token, joined)
            return Taken(lease=lease)
        if held == _KEPT or _process_of(held) == self._process:
            return Taken()
        return Taken(leader=RedisLeader(self, name, held))

    def new_token(self) -> bytes:
        """A name that no other has: the process, then a number."""
        return f"{self._process}:{next(self._numbers)}".encode()

    async def write(self, process: str, message: Mapping[str, bytes]) -> None:
        """Write to a process's inbox, in one round trip. Raises ``PortUnavailable``."""
        inbox = self._inbox(process)
        words = [word for field in message.items() for word in field]
        await self.link.ask_all(
            [("XADD", inbox, "MAXLEN", INBOX_MESSAGES, "*", *words), ("PEXPIRE", inbox, _ms(INBOX_S))]
        )

    def write_later(self, process: str, message: Mapping[str, bytes]) -> None:
        """The same in the background; that it may fail is no matter."""

        async def write() -> None:
            try:
                await self.write(process, message)
            except PortUnavailable as error:
                log.debug("%s", error)

        self._tasks.start(write(), name="write")

    async def read_inbox(self) -> None:
        """For as long as it runs, see to what other processes write."""
        inbox, last = self._inbox(self._process), b"0-0"
        while not (
            self._ending or _cancelled()
        ):  # redis-py turns a cancellation into an error of its own, or into nothing, now and then
            try:
                reply = await self.link.ask_alone(
                    "XREAD", "COUNT", _READ_AT_ONCE, "BLOCK", _READ_MS, "STREAMS", inbox, last
                )
                for message_id, message in _messages(reply):
                    last = message_id
                    try:
                        self._take_in(message)
                    except (LookupError, ValueError) as error:  # of another release: the others are read all the same
                        log.warning("a message of another process says nothing: %r", error)
                if reply:
                    await self.link.ask("XTRIM", inbox, "MINID", _after(last))
            except PortUnavailable as error:
                log.debug("the inbox cannot be read, trying again: %s", error)
                await asyncio.sleep(_PAUSE_S)

    async def stop_reading(self, reader: asyncio.Task[None]) -> None:
        """Wake the reader and let it end: a connection that is cancelled while it waits is left open."""
        self._ending = True
        try:
            async with asyncio.timeout(_END_S):
                await self.write(self._process, {"kind": b"end"})
                _ = await asyncio.wait({reader})
                _ = await self.link.ask("DEL", self._inbox(self._process))
        except (PortUnavailable, TimeoutError) as error:
            log.debug("the inbox's reader is cut off: %s", error)

    async def renew_leases(self) -> None:
        """For as long as it runs, keep what is not released. Most flights end before it comes to them."""
        held: set[bytes] = set()
        while True:
            still = [lease for token, lease in self.leases.items() if token in held]
            held = set(self.leases)
            await asyncio.gather(*(lease.renew() for lease in still))
            await asyncio.sleep(RENEW_S)

    def _inbox(self, process: str) -> str:
        return f"{self._prefix}:inbox:{process}"

    def _take_in(self, message: Mapping[bytes, bytes]) -> None:
        kind, follower = message.get(b"kind"), message.get(b"follower", b"")
        if kind == _RECORDS and (queue := self.following.get(follower)) is not None:
            queue.put_nowait((int(message[b"number"]), [message[b"%d" % place] for place in range(len(message) - 3)]))
        elif kind == _WANT and (lease := self.leases.get(message[b"lease"])) is not None:
            self._followers[follower] = told = RedisFollower(self, follower)
            told.when_left(lambda: self._followers.pop(follower, None))
            lease.joined(told)
        elif kind == _LEFT and (left := self._followers.get(follower)) is not None:
            left.leave()


class RedisLease:
    """``Lease``."""

    def __init__(self, flights: RedisFlights, name: str, token: bytes, joined: Callable[[Follower], None]) -> None:
        self.joined = joined
        self._flights = flights
        self._name = name
        self._token = token

    async def renew(self) -> None:
        """Hold it longer; one that is lost by now stays lost."""
        try:
            await self._flights.link.ask(*_RENEW(self._name, self._token, _ms(LEASE_S)))
        except PortUnavailable as error:
            log.debug("a lease was not renewed: %s", error)

    async def release(self, *, kept: bool) -> None:
        """See ``Lease``."""
        self._flights.leases.pop(self._token, None)  # whatever Redis says: it is renewed no more
        await self._flights.link.ask(*_RELEASE(self._name, self._token, _ms(KEPT_S) if kept else 0))


class RedisFollower:
    """``Follower``."""

    def __init__(self, flights: RedisFlights, name: bytes) -> None:
        self._flights = flights
        self._name = name
        self._sent = count()
        self._callbacks: list[Callable[[], object]] = []

    def when_left(self, callback: Callable[[], object]) -> None:
        """See ``Follower``."""
        self._callbacks.append(callback)

    def leave(self) -> None:
        """It wants no more."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    async def send(self, *records: bytes) -> None:
        """See ``Follower``. All in one message: what travels side by side may overtake. Raises ``PortUnavailable``."""
        numbered = {str(place): record for place, record in enumerate(records)}
        number = str(next(self._sent)).encode()
        message = {"kind": _RECORDS, "follower": self._name, "number": number, **numbered}
        async with _in_time():
            await self._flights.write(_process_of(self._name), message)


class RedisLeader:
    """``Leader``."""

    def __init__(self, flights: RedisFlights, name: str, token: bytes) -> None:
        self._flights = flights
        self._name = name
        self._token = token

    async def records(self) -> AsyncGenerator[bytes, None]:
        """See ``Leader``."""
        flights, process = self._flights, _process_of(self._token)
        follower = flights.new_token()
        queue: asyncio.Queue[tuple[int, list[bytes]]] = asyncio.Queue()
        flights.following[follower] = queue
        try:
            async with _in_time():
                await flights.write(process, {"kind": _WANT, "lease": self._token, "follower": follower})
            for expected in count():
                number, records = await self._next(queue)
                while number < expected:  # it came twice, as all that is sent again after a connection broke
                    number, records = await self._next(queue)
                if number > expected:
                    raise PortUnavailable("follow another process: a part of what it sent is missing")
                for record in records:
                    yield record
        finally:
            del flights.following[follower]
            flights.write_later(process, {"kind": _LEFT, "follower": follower})

    async def _next(self, queue: asyncio.Queue[tuple[int, list[bytes]]]) -> tuple[int, list[bytes]]:
        """What comes next. It may be on its way when the lease is gone already, but not for long."""
        for _ in range(2):
            held = True
            while held:
                try:
                    async with asyncio.timeout(CHECK_S):
                        return await queue.get()
                except TimeoutError:
                    async with _in_time():
                        held = await self._flights.link.ask("GET", self._name) == self._token
        raise PortUnavailable("follow another process: it holds its lease no more")


@asynccontextmanager
async def open_flights(client: Client, *, prefix: str) -> AsyncIterator[RedisFlights]:
    """Flights that are shared over Redis, for as long as the block lasts."""
    async with TaskSet("flights") as tasks:
        flights = RedisFlights(client, prefix=prefix, tasks=tasks)
        reader = tasks.begin(flights.read_inbox(), name="inbox")
        tasks.start(flights.renew_leases(), name="leases")
        try:
            yield flights
        finally:
            await flights.stop_reading(reader)
            flights.link.close()


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SEND_S):
            yield
    except TimeoutError:
        raise PortUnavailable(f"redis: no answer within {SEND_S:.0f} s") from None


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _messages(reply: Any) -> Iterator[tuple[bytes, Mapping[bytes, bytes]]]:
    """The messages of the one stream that was read."""
    for _, messages in reply or ():
        yield from messages


def _after(message_id: bytes) -> str:
    time, _, number = message_id.decode().partition("-")
    return f"{time}-{int(number) + 1}"


def _process_of(token: bytes) -> str:
    return token.partition(b":")[0].decode()


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
