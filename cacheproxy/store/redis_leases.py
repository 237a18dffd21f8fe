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
import hashlib
import logging
import secrets
from contextlib import asynccontextmanager, contextmanager
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError, RedisError

from cacheproxy.errors import PortUnavailable, translating
from cacheproxy.ports import Taken
from cacheproxy.tasks import TaskSet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping

    from cacheproxy.ports import Follower
    from cacheproxy.store.redis_client import Client

log = logging.getLogger(__name__)

LEASE_S: Final = 3.0
"""How long a lease outlives its holder."""
RENEW_S: Final = 1.0
KEPT_S: Final = 1.0
"""How long it is remembered that an answer was kept: for who looked for it just before."""
CHECK_S: Final = 1.0
"""A follower that hears nothing for so long looks whether the lease still stands, and the second time gives up."""
SEND_S: Final = 2.0
INBOX_RECORDS: Final = 4_096
INBOX_S: Final = 60.0
"""An inbox that nobody writes to or reads goes after this."""
_READ_MS: Final = 1_000
_READ_AT_ONCE: Final = 256
_PAUSE_S: Final = 0.25

_KEPT: Final = b"kept"
_WANT, _LEFT, _RECORD = b"want", b"left", b"record"

_RENEW: Final = (
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
)
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], 'kept', 'PX', ARGV[2])
return 1
"""


class RedisFlights:
    """``SharedFlights``. Made by ``open_flights``."""

    def __init__(self, client: Client, *, prefix: str, tasks: TaskSet) -> None:
        self._client = client
        self._prefix = prefix
        self._tasks = tasks
        self._process = secrets.token_hex(8)
        self._numbers = count()
        self.leases: dict[bytes, RedisLease] = {}
        self._followers: dict[bytes, RedisFollower] = {}
        self.following: dict[bytes, asyncio.Queue[tuple[int, bytes]]] = {}

    async def take(self, key: bytes, joined: Callable[[Follower], None]) -> Taken:
        """See ``SharedFlights``. One round trip."""
        name, token = f"{self._prefix}:lease:{key.hex()}", self.new_token()
        with _answering("take a lease"):
            held: Any = await self._client.set(name, token, nx=True, px=_ms(LEASE_S), get=True)
        if held is None or held == token:  # ours: the second time, where the first answer was lost on its way
            lease = self.leases[token] = RedisLease(self, name, token, joined)
            return Taken(lease=lease)
        holder = held.partition(b":")[0]
        if held == _KEPT or holder == self._process.encode():
            return Taken()
        return Taken(leader=RedisLeader(self, name, held))

    def new_token(self) -> bytes:
        """A name that no other has: the process, then a number."""
        return f"{self._process}:{next(self._numbers)}".encode()

    async def write(self, process: str, *messages: Mapping[str, bytes]) -> None:
        """Write to a process's inbox, in one round trip. Raises ``PortUnavailable``."""
        inbox = self._inbox(process)
        with _answering("write to another process"):
            async with asyncio.timeout(SEND_S), self._client.pipeline(transaction=False) as batch:
                for message in messages:
                    fields: Iterator[Any] = chain.from_iterable(message.items())
                    _ = batch.execute_command("XADD", inbox, "MAXLEN", INBOX_RECORDS, "*", *fields)
                _ = batch.execute_command("PEXPIRE", inbox, _ms(INBOX_S))
                await batch.execute()

    def write_later(self, process: str, message: Mapping[str, bytes]) -> None:
        """The same in the background; that it may fail is no matter."""

        async def write() -> None:
            try:
                await self.write(process, message)
            except PortUnavailable as error:
                log.debug("%s", error)

        self._tasks.start(write(), name="write")

    async def holder(self, name: str) -> Any:
        """Who holds a lease. Raises ``PortUnavailable``."""
        with _answering("look at a lease"):
            async with asyncio.timeout(SEND_S):
                return await self._client.get(name)

    async def run(self, script: str, name: str, *arguments: bytes | int) -> None:
        """Run a script on a lease. Raises ``PortUnavailable``."""
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()  # the name that Redis gives a script
        with _answering("change a lease"):
            try:
                await self._client.evalsha(digest, 1, name, *arguments)
            except NoScriptError:
                await self._client.eval(script, 1, name, *arguments)

    async def read_inbox(self) -> None:
        """For as long as it runs, see to what other processes write."""
        inbox, last = self._inbox(self._process), b"0-0"
        while not _ending():  # redis-py turns a cancellation into an error of its own, or into nothing, now and then
            try:
                reply = await self._client.xread({inbox: last}, count=_READ_AT_ONCE, block=_READ_MS)
                for message_id, message in _messages(reply):
                    last = message_id
                    self._take_in(message)
                if reply:
                    await self._client.xtrim(inbox, minid=_after(last), approximate=False)
            except (RedisError, OSError) as error:
                log.debug("the inbox cannot be read, trying again: %s", error)
                await asyncio.sleep(_PAUSE_S)

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
        if kind == _RECORD and (queue := self.following.get(follower)) is not None:
            queue.put_nowait((int(message[b"number"]), message[b"record"]))
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
            async with asyncio.timeout(SEND_S):
                await self._flights.run(_RENEW, self._name, self._token, _ms(LEASE_S))
        except (PortUnavailable, TimeoutError) as error:
            log.debug("a lease was not renewed: %s", error)

    async def release(self, *, kept: bool) -> None:
        """See ``Lease``."""
        self._flights.leases.pop(self._token, None)  # whatever Redis says: it is renewed no more
        await self._flights.run(_RELEASE, self._name, self._token, _ms(KEPT_S) if kept else 0)


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
        """See ``Follower``. Raises ``PortUnavailable``."""
        messages = [
            {"kind": _RECORD, "follower": self._name, "number": str(next(self._sent)).encode(), "record": record}
            for record in records
        ]
        await self._flights.write(_process_of(self._name), *messages)


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
        queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        flights.following[follower] = queue
        try:
            await flights.write(process, {"kind": _WANT, "lease": self._token, "follower": follower})
            for expected in count():
                number, record = await self._next(queue)
                if number != expected:
                    raise PortUnavailable("follow another process: a part of what it sent is missing")
                yield record
        finally:
            del flights.following[follower]
            flights.write_later(process, {"kind": _LEFT, "follower": follower})

    async def _next(self, queue: asyncio.Queue[tuple[int, bytes]]) -> tuple[int, bytes]:
        """What comes next. It may be on its way when the lease is gone already, but not for long."""
        for _ in range(2):
            held = True
            while held:
                try:
                    async with asyncio.timeout(CHECK_S):
                        return await queue.get()
                except TimeoutError:
                    held = await self._flights.holder(self._name) == self._token
        raise PortUnavailable("follow another process: it holds its lease no more")


@asynccontextmanager
async def open_flights(client: Client, *, prefix: str) -> AsyncIterator[RedisFlights]:
    """Flights that are shared over Redis, for as long as the block lasts."""
    async with TaskSet("flights") as tasks:
        flights = RedisFlights(client, prefix=prefix, tasks=tasks)
        tasks.start(flights.read_inbox(), name="inbox")
        tasks.start(flights.renew_leases(), name="leases")
        yield flights


@contextmanager
def _answering(doing: str) -> Iterator[None]:
    with translating({RedisError: PortUnavailable, OSError: PortUnavailable}, doing=doing):
        yield


def _ending() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _messages(reply: Any) -> Iterator[tuple[bytes, Mapping[bytes, bytes]]]:
    """The messages of the one stream that was read: a mapping in the newer protocol, pairs in the older."""
    streams = list(reply.values()) if isinstance(reply, dict) else [messages for _, messages in reply or ()]
    for messages in streams:
        # The newer protocol wraps the messages of a stream once more.
        yield from messages[0] if messages and isinstance(messages[0], list) else messages


def _after(message_id: bytes) -> str:
    time, _, number = message_id.decode().partition("-")
    return f"{time}-{int(number) + 1}"


def _process_of(token: bytes) -> str:
    return token.partition(b":")[0].decode()


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
