"""The operators' door: the dashboard, metrics and statistics. A bearer token is asked wherever one is set.

The dashboard's own files are served without it: a browser that opens a page cannot send one, and they hold no secret.
"""

from __future__ import annotations

import hmac
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy.errors import PortUnavailable
from cacheproxy.model import GROUPINGS
from cacheproxy.server.dashboard.serving import Dashboard
from cacheproxy.server.refusal import refused

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from cacheproxy.ports import Ledger
    from cacheproxy.server.decisions import Decisions
    from cacheproxy.server.metrics import Metrics

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def build_admin(*, metrics: Metrics, ledger: Ledger, decisions: Decisions, token: str | None) -> web.Application:
    """The admin plane's application."""
    dashboard = Dashboard()
    app = web.Application(middlewares=[_bearer(token, open_paths=dashboard.paths)] if token else [])
    admin = _Admin(metrics, ledger)
    app.add_routes(
        [
            web.get("/metrics", admin.metrics),
            web.get("/api/v1/stats", admin.stats),
            *decisions.routes(),
            *dashboard.routes(),
        ]
    )
    return app


class _Admin:
    def __init__(self, metrics: Metrics, ledger: Ledger) -> None:
        self._metrics = metrics
        self._ledger = ledger

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": METRICS_TYPE})

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


def _bearer(token: str, *, open_paths: frozenset[str]) -> web.middleware:  # type: ignore[valid-type]  # aiohttp's decorator has no type of its own
    wanted = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in open_paths:
            return await handler(request)
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, wanted):
            return refused(401, "unauthorized", "send the admin token: Authorization: Bearer ...")
        return await handler(request)

    return check
