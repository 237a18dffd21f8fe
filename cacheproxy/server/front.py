"""The admin plane of several workers: one door, behind which each has its own, on a unix socket.

What is asked of one process (a page, an entry, a setting) is asked of any worker. What each knows a part of is asked of
all, and put together (``sums``, ``joining``). Who may ask is decided by the workers: all have the operator's token.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from cacheproxy.jsontext import dump, parse
from cacheproxy.server.api.live import EVENT_HEADERS
from cacheproxy.server.joining import JOINS, Events
from cacheproxy.server.refusal import one_shape, refused
from cacheproxy.server.sums import Past, together
from cacheproxy.tasks import TaskSet
from cacheproxy.wire.sse import SseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from multidict import CIMultiDictProxy

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.server.joining import Join

_ASKED_S: Final = 5.0
_BATCH_S: Final = 0.25
_TICKS_IN: Final = 4
"""A tick comes with every fourth round of events."""
_CONNECT_S: Final = 2.0
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
_ANY: Final = "http://worker"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A process behind the door."""

    pid: int
    admin: Path
    serves: bool
    """Whether it is a worker, and so answers more than ``/metrics``."""


@dataclass(slots=True)
class _Known:
    member: Member
    session: aiohttp.ClientSession
    metrics: str = field(default="")
    """What it last said."""


class Front:
    """The door. Use as an async context manager. ``now`` tells the time, in seconds since the epoch."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._known: dict[int, _Known] = {}
        self._past = Past()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for known in self._known.values():
            await known.session.close()

    def joined(self, member: Member) -> None:
        """A process is ready."""
        session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(member.admin), limit=0),
            timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_S),
            auto_decompress=False,
        )
        self._known[member.pid] = _Known(member, session)

    async def left(self, pid: int, metrics: str = "") -> None:
        """A process ended. ``metrics`` is what it said last, if it could."""
        known = self._known.pop(pid)
        self._past.add(metrics or known.metrics)
        await known.session.close()

    def app(self) -> web.Application:
        """The admin plane's application."""
        app = web.Application(middlewares=[one_shape])
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/api/v1/events", self._events)
        for path, join in JOINS.items():
            app.router.add_get(path, partial(self._joined, join))
        app.router.add_route("*", "/{path:.*}", self._forward)
        return app

    def _workers(self) -> Sequence[_Known]:
        return [known for known in self._known.values() if known.member.serves]

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        known = list(self._known.values())
        told = await asyncio.gather(*(self._scrape(each, request) for each in known))
        for response in told:
            if isinstance(response, web.Response):
                return response
        texts = [each.metrics for each in known if each.metrics]
        return web.Response(body=together(texts, [self._past.text]), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _scrape(self, known: _Known, request: web.Request) -> web.Response | None:
        """Ask a process for its metrics; its refusal, if it has one. One that does not answer counts as it last did."""
        # Text, whatever the scraper would rather have: it is read here, and exemplars do not add up.
        headers = _passed(request, but=("accept-encoding", "accept"))
        try:
            async with asyncio.timeout(_ASKED_S), known.session.get(f"{_ANY}/metrics", headers=headers) as told:
                if told.status != HTTPStatus.OK:
                    return web.Response(status=told.status, body=await told.read(), headers=_answered(told.headers))
                known.metrics = await told.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning(
                "process %d does not tell its metrics: %s", known.member.pid, str(error) or type(error).__name__
            )
        return None

    async def _joined(self, join: Join, request: web.Request) -> web.StreamResponse:
        """Ask every worker, and tell what they know as one; the first refusal, if none knows anything."""
        asked = await asyncio.gather(*(self._ask(known, request) for known in self._workers()))
        told = [body for status, body in asked if status == HTTPStatus.OK]
        if not told:
            return await self._forward(request)
        return web.json_response(join(told, request.query), dumps=lambda value: dump(value).decode())

    async def _ask(self, known: _Known, request: web.Request) -> tuple[int, JsonObject]:
        """A worker's JSON; nothing of one that does not answer."""
        try:
            async with (
                asyncio.timeout(_ASKED_S),
                known.session.get(
                    f"{_ANY}{request.raw_path}", headers=_passed(request, but=("accept-encoding",))
                ) as told,
            ):
                return told.status, parse(await told.read())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.warning("process %d does not answer: %s", known.member.pid, str(error) or type(error).__name__)
            return HTTPStatus.SERVICE_UNAVAILABLE, {}

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """The workers' events as one stream, until the listener leaves. Workers that come later join in."""
        events, heard = Events(), set[int]()
        answered: asyncio.Future[web.Response | None] = asyncio.get_running_loop().create_future()
        async with TaskSet("front") as tasks:

            def listen() -> None:
                for known in self._workers():
                    if known.member.pid not in heard:
                        heard.add(known.member.pid)
                        tasks.start(self._listen(known, request, events, answered), name="listen")

            listen()
            try:
                async with asyncio.timeout(_ASKED_S):
                    refusal = await answered
            except TimeoutError:
                refusal = _nobody()
            if refusal is not None:
                return refusal
            response = web.StreamResponse(headers=EVENT_HEADERS)
            await response.prepare(request)
            for number in count():
                await asyncio.sleep(_BATCH_S)
                listen()
                now = self._now()
                told = {"requests": events.due(now), "tick": events.tick(now) if number % _TICKS_IN == 0 else None}
                for name, data in told.items():
                    if data is not None:
                        await response.write(b"event: %b\ndata: %b\n\n" % (name.encode(), dump(data)))
            return response  # never: whoever leaves ends it

    async def _listen(
        self, known: _Known, request: web.Request, events: Events, answered: asyncio.Future[web.Response | None]
    ) -> None:
        """Hear a worker out. ``answered`` learns whether it tells anything, or its refusal."""
        parser = SseParser()
        try:
            async with known.session.get(
                f"{_ANY}{request.raw_path}", headers=_passed(request, but=("accept-encoding",))
            ) as told:
                if told.status != HTTPStatus.OK:
                    refusal = web.Response(status=told.status, body=await told.read(), headers=_answered(told.headers))
                    if not answered.done():
                        answered.set_result(refusal)
                    return
                if not answered.done():
                    answered.set_result(None)
                async for chunk in told.content.iter_any():
                    for event in parser.feed(chunk):
                        if event.data:
                            events.heard(known.member.pid, event.event, parse(event.data.encode()))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.debug("the events of process %d ended: %s", known.member.pid, error)
        events.left(known.member.pid)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        """Let some worker answer."""
        body = request.content if request.body_exists else None
        for known in self._workers():
            try:
                async with known.session.request(
                    request.method,
                    f"{_ANY}{request.raw_path}",
                    data=body,
                    headers=_passed(request),
                    allow_redirects=False,
                ) as told:
                    response = web.StreamResponse(status=told.status, headers=_answered(told.headers))
                    await response.prepare(request)
                    async for chunk in told.content.iter_any():
                        await response.write(chunk)
                    await response.write_eof()
                    return response
            except aiohttp.ClientConnectorError:
                continue  # it is ending: another one may serve
        return _nobody()


def _nobody() -> web.Response:
    return refused(503, "unavailable", "no worker serves at the moment; the log says why")


def _passed(request: web.Request, *, but: Sequence[str] = ()) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP.union(but)}


def _answered(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
