"""Equal requests in flight in several processes share one upstream call, as those within one process do (coalesce.py).

Whoever takes a lease on the exact key asks the upstream. Another process that wants the same is, to that flight, one
more listener: it gets what was sent so far, then live pieces, byte for byte, and hands them to listeners of its own.
Nothing is sent while nobody else wants it.

Nobody waits for good. A flight whose leader has not begun to answer within ``patience_s``, or is gone, is made here
after all. Where bytes have reached a caller already it fails: one answer is never put together from two.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

from cacheproxy import jsontext, records
from cacheproxy.errors import Overloaded, PortUnavailable, ProxyError, UpstreamTimeout, UpstreamUnreachable
from cacheproxy.flow.coalesce import Head, Outcome, Piece
from cacheproxy.model import Entry, Usage
from cacheproxy.upstream.headers import shared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.coalesce import Flight
    from cacheproxy.flow.exact import Exact
    from cacheproxy.flow.forward import Forwarder, Learn
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.ports import Follower, Leader, Lease, SharedFlights
    from cacheproxy.tasks import TaskSet

log = logging.getLogger(__name__)

# A record's first byte says what it is.
_HEAD: Final = b"h"
_PIECE: Final = b"p"
_USAGE_PIECE: Final = b"u"
_END: Final = b"e"
_FAILED: Final = b"f"
_NOT_MADE: Final = b"n"
"""There is nothing to follow: the flight was given up, or outgrew what can be shared."""
_CUTS: Final = 3
"""How often a follower is told that it was cut off. Where Redis is away for longer, the lease is, too."""
CUT_PAUSE_S: Final = 1.0
_LEADERS: Final = 2
"""Who has lost a leader follows the next one, who lost it too, and after that one goes on alone."""
_ERRORS: Final = {error.code: error for error in (UpstreamUnreachable, UpstreamTimeout, Overloaded)}


class Relay:
    """Makes flights, here or by way of another process. Used for requests alone whose answers may be shared."""

    def __init__(
        self,
        flights: SharedFlights,
        *,
        forwarder: Forwarder,
        exact: Exact,
        leasing: Shelter,
        written: Callable[[], Awaitable[None]],
        writes: Shelter,
        tasks: TaskSet,
        clock: Callable[[], float],
        patience_s: float,
    ) -> None:
        self._flights = flights
        self._forwarder = forwarder
        self._exact = exact
        self._leasing = leasing
        self._written = written
        self._writes = writes
        self._tasks = tasks
        self._clock = clock
        self._patience_s = patience_s

    async def fly(self, flight: Flight, asked: Asked, learn: Learn) -> None:
        """Make the flight; it has ended when this returns, however it went."""
        try:
            lease = await self._lease_or_answer(flight, asked)
            if flight.ended:
                return
            try:
                await self._forwarder.fly(flight, asked, learn)
            finally:
                if lease is not None:
                    self._tasks.start(self._release(lease, flight), name="release")
        finally:
            if not flight.ended:
                flight.end(Outcome(http_status=0), UpstreamUnreachable("the request was given up"))

    async def _lease_or_answer(self, flight: Flight, asked: Asked) -> Lease | None:
        """The lease, or None: then the flight has ended, or is to be made without one."""
        deadline = self._clock() + self._patience_s
        take = partial(self._flights.take, asked.keys.key, partial(self._welcome, flight))
        for _ in range(_LEADERS):
            taken = await self._leasing.call("take", take)
            if taken is None or taken.lease is not None:
                return taken and taken.lease
            if taken.leader is not None and await self._follow(flight, taken.leader, deadline - self._clock()):
                return None
            found = await self._exact.find(asked.keys.key, max_age_s=asked.controls.max_age_s)
            if isinstance(found, Entry):
                _answer(flight, found)
                return None
            if taken.leader is None or self._clock() >= deadline:
                return None
        return None

    # --- as the leader

    def _welcome(self, flight: Flight, follower: Follower) -> None:
        follower.when_left(self._tasks.begin(self._tell(flight, follower), name="tell").cancel)

    async def _tell(self, flight: Flight, follower: Follower) -> None:
        """Send a flight to another process: to the flight it is a listener like any other."""
        listener = flight.listen() if flight.joinable or flight.whole else None
        try:
            if listener is None:
                await follower.send(_NOT_MADE)
                return
            try:
                head = await listener.head()
                await follower.send(_HEAD + _head(flight, head))
                async with aclosing(listener.pieces()) as coming:
                    async for pieces in coming:
                        await follower.send(*_joined(pieces))
            except ProxyError as error:
                given_up = flight.outcome is not None and not flight.outcome.http_status
                told = {"code": error.code, "message": error.message, "retry_after_s": error.retry_after_s}
                await follower.send(_NOT_MADE if given_up else _FAILED + jsontext.dump(told))
                return
            await follower.send(_END + _outcome(await listener.end()))
        except PortUnavailable as error:
            log.info("another process was not told of a flight: %s", error)
            if listener is not None:
                listener.leave()
            await self._cut(follower)
        finally:
            if listener is not None:
                listener.leave()

    async def _cut(self, follower: Follower) -> None:
        """Tell a follower that a part is missing: else it waits for it as long as the lease stands."""
        for _ in range(_CUTS):
            await asyncio.sleep(CUT_PAUSE_S)
            with suppress(PortUnavailable):
                await follower.send(_NOT_MADE)
                return

    async def _release(self, lease: Lease, flight: Flight) -> None:
        """Let go once the store has the answer: who asks from then on finds it there."""
        kept = flight.outcome is not None and flight.outcome.entry is not None
        if kept:
            await self._writes.call("written", self._written)
        await self._leasing.call("release", partial(lease.release, kept=kept))

    # --- as a follower

    async def _follow(self, flight: Flight, leader: Leader, patience_s: float) -> bool:
        """Hand on what a leader sends; False when it began nothing, and the flight can be made in another way."""
        try:
            async with asyncio.timeout(max(patience_s, 0.0)) as limit, aclosing(leader.records()) as coming:
                async for record in coming:
                    if record[:1] == _NOT_MADE:
                        break
                    await _take(flight, record)
                    if flight.ended:
                        return True
                    limit.reschedule(None)  # it has begun, and lives for as long as its lease is renewed
        except (PortUnavailable, TimeoutError, ValueError, LookupError, TypeError) as error:
            log.info("a flight elsewhere cannot be followed: %s", str(error) or "it did not begin in time")
        if flight.head is None:
            return False
        lost = UpstreamUnreachable("the proxy that was getting this answer is gone: ask again")
        flight.end(Outcome(http_status=flight.head.status), lost)
        return True


def _answer(flight: Flight, entry: Entry) -> None:
    """End a flight with an entry that another process has stored in the meantime."""
    flight.followed = True
    flight.streaming = False
    flight.land(Head(200, (), entry.answer))
    flight.end(Outcome(200, entry, entry.usage, entry.cost_usd))


# --- records


def _head(flight: Flight, head: Head) -> bytes:
    told = {
        "status": head.status,
        "headers": shared(head.headers),
        "events": head.events,
        "streaming": flight.streaming,
        "is_whole": head.whole is not None,
    }
    return jsontext.dump(told) + b"\n" + (head.whole or b"")


def _outcome(outcome: Outcome) -> bytes:
    entry = None if outcome.entry is None else records.write(outcome.entry)
    return jsontext.dump(
        {
            "http_status": outcome.http_status,
            "entry": entry,
            "usage": asdict(outcome.usage),
            "cost_usd": outcome.cost_usd,
            "upstream_ms": outcome.upstream_ms,
        }
    )


def _joined(pieces: Sequence[Piece]) -> list[bytes]:
    """Records of pieces, those that go to the same listeners in one."""
    alike = groupby(pieces, lambda piece: piece.usage)
    return [
        (_USAGE_PIECE if usage else _PIECE) + b"".join(piece.data for piece in together) for usage, together in alike
    ]


async def _take(flight: Flight, record: bytes) -> None:
    """Do to a flight what was done to the leader's. Raises ``ValueError`` for what no leader sends."""
    kind, told = record[:1], record[1:]
    if kind in (_PIECE, _USAGE_PIECE):
        await flight.push(Piece(told, usage=kind == _USAGE_PIECE))
    elif kind == _HEAD:
        line, _, whole = told.partition(b"\n")
        values = jsontext.parse(line)
        flight.followed, flight.streaming = True, values["streaming"]
        headers = [(name, value) for name, value in values["headers"]]
        flight.land(Head(values["status"], headers, whole if values["is_whole"] else None, values["events"]))
    elif kind == _END:
        values = jsontext.parse(told)
        entry = None if values["entry"] is None else records.read(values["entry"])
        flight.end(Outcome(**values | {"entry": entry, "usage": Usage(**values["usage"])}))
    elif kind == _FAILED:
        values = jsontext.parse(told)
        error = _ERRORS.get(values["code"], UpstreamUnreachable)
        status = flight.head.status if flight.head else error.status
        flight.end(Outcome(http_status=status), error(values["message"], retry_after_s=values["retry_after_s"]))
    else:
        raise ValueError(f"no record begins with {kind!r}")
