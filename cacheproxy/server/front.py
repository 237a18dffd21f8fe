"""The admin plane of several workers: one door, behind which each has its own, on a unix socket.

What is asked of one process (a page, an entry, a setting) is asked of any worker. What each knows a part of is asked of
all, and put together: metrics, for now. Who may ask is decided by the workers, which all have the operator's token.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from aiohttp import web

from cacheproxy.server.admin import METRICS_TYPE
from cacheproxy.server.refusal import refused
from cacheproxy.server.sums import Past, together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from multidict import CIMultiDictProxy

_ASKED_S: Final = 5.0
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
    """The door. Use as an async context manager."""

    def __init__(self) -> None:
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
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
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
        return web.Response(body=together(texts, [self._past.text]), headers={"Content-Type": METRICS_TYPE})

    async def _scrape(self, known: _Known, request: web.Request) -> web.Response | None:
        """Ask a process for its metrics; its refusal, if it has one. One that does not answer counts as it last did."""
        headers = _passed(request, but="accept-encoding")
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
        return refused(503, "unavailable", "no worker serves at the moment; the log says why")


def _passed(request: web.Request, *, but: str = "") -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP | {but}}


def _answered(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
