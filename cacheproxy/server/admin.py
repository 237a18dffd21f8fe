"""The operators' door: the dashboard, metrics, and the admin API. A bearer token is asked wherever one is set.

The dashboard's own files are served without it: a browser that opens a page cannot send one, and they hold no secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy.server.api.calls import routes
from cacheproxy.server.api.gate import gate
from cacheproxy.server.dashboard.serving import Dashboard
from cacheproxy.server.refusal import one_shape

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cacheproxy.server.api.calls import Handler
    from cacheproxy.server.metrics import Metrics

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def build_admin(
    *, metrics: Metrics, handlers: Mapping[str, Handler], token: str | None, hosts: Collection[str] = ()
) -> web.Application:
    """The admin plane's application. ``handlers`` answer the API's operations; ``hosts`` as in ``gate``."""

    async def scraped(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": METRICS_TYPE})

    dashboard = Dashboard()
    app = web.Application(middlewares=[one_shape, gate(token=token, hosts=hosts, open_paths=dashboard.paths)])
    app.add_routes([web.get("/metrics", scraped), *routes(handlers), *dashboard.routes()])
    return app


def metrics_alone(metrics: Metrics) -> web.Application:
    """The application of a process that has metrics and nothing else."""

    async def scraped(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": METRICS_TYPE})

    app = web.Application()
    app.add_routes([web.get("/metrics", scraped)])
    return app
