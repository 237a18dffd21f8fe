"""The operators' door: metrics and statistics. A bearer token is asked wherever one is set."""

from __future__ import annotations

import hmac
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from aiohttp import web

from cacheproxy import __version__
from cacheproxy.errors import PortUnavailable
from cacheproxy.model import GROUPINGS
from cacheproxy.server.refusal import refused

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from cacheproxy.ports import Ledger
    from cacheproxy.server.decisions import Decisions
    from cacheproxy.server.metrics import Metrics


def build_admin(*, metrics: Metrics, ledger: Ledger, decisions: Decisions, token: str | None) -> web.Application:
    """The admin plane's application."""
    app = web.Application(middlewares=[_bearer(token)] if token else [])
    admin = _Admin(metrics, ledger)
    app.add_routes(
        [
            web.get("/", admin.index),
            web.get("/metrics", admin.metrics),
            web.get("/api/v1/stats", admin.stats),
            *decisions.routes(),
        ]
    )
    return app


class _Admin:
    def __init__(self, metrics: Metrics, ledger: Ledger) -> None:
        self._metrics = metrics
        self._ledger = ledger

    async def index(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "name": "cacheproxy",
                "version": __version__,
                "paths": [
                    "/metrics",
                    "/api/v1/stats?by=model,layer",
                    "/api/v1/decision",
                    "/api/v1/explain?request=ID",
                    "/api/v1/explain?entry=ID",
                ],
            }
        )

    async def metrics(self, request: web.Request) -> web.Response:
        text, content_type = self._metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def stats(self, request: web.Request) -> web.Response:
        by = [name for name in request.query.get("by", "").split(",") if name]
        unknown = [name for name in by if name not in GROUPINGS]
        if unknown:
            return refused(400, "bad_request", f"cannot group by {unknown[0]!r}; choose from {', '.join(GROUPINGS)}")
        try:
            since = float(request.query.get("since", "0"))
        except ValueError:
            since = math.nan
        if not math.isfinite(since):
            return refused(400, "bad_request", "since must be seconds since the epoch")
        try:
            await self._ledger.flush()
            tallies = await self._ledger.tallies(by, since=since)
        except PortUnavailable as error:
            return refused(error.status, error.code, error.message)
        rows = [asdict(tally) | {"net_saved_usd": tally.net_saved_usd} for tally in tallies]
        return web.json_response({"by": by, "rows": rows})


def _bearer(token: str) -> web.middleware:  # type: ignore[valid-type]  # aiohttp's decorator has no type of its own
    wanted = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, wanted):
            return refused(401, "unauthorized", "send the admin token: Authorization: Bearer ...")
        return await handler(request)

    return check
