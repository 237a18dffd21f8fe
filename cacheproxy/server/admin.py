"""The operators' door: the dashboard, metrics, and the admin API. A bearer token is asked wherever one is set.

The dashboard's own files are served without it: a browser that opens a page cannot send one, and they hold no secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from cacheproxy.server.api.calls import routes
from cacheproxy.server.api.gate import gate
from cacheproxy.server.dashboard.serving import Dashboard
from cacheproxy.server.refusal import one_shape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from cacheproxy.server.api.calls import Handler
    from cacheproxy.server.metrics import Metrics


def build_admin(
    *, metrics: Metrics, handlers: Mapping[str, Handler], token: str | None, hosts: Collection[str] = ()
) -> web.Application:
    """The admin plane's application. ``handlers`` answer the API's operations; ``hosts`` as in ``gate``."""
    dashboard = Dashboard()
    app = web.Application(middlewares=[one_shape, gate(token=token, hosts=hosts, open_paths=dashboard.paths)])
    app.add_routes([web.get("/metrics", _telling(metrics)), *routes(handlers), *dashboard.routes()])
    return app


def metrics_alone(metrics: Metrics) -> web.Application:
    """The application of a process that has metrics and nothing else."""
    app = web.Application()
    app.add_routes([web.get("/metrics", _telling(metrics))])
    return app


def _telling(metrics: Metrics) -> Callable[[web.Request], Awaitable[web.Response]]:
    """What a scraper gets, in the format that it asks for."""

    async def scraped(request: web.Request) -> web.Response:
        text, content_type = metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    return scraped
