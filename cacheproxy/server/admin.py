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
    from collections.abc import Collection, Mapping

    from cacheproxy.server.api.calls import Handler
    from cacheproxy.server.metrics import Metrics


def build_admin(
    *, metrics: Metrics, handlers: Mapping[str, Handler], token: str | None, hosts: Collection[str] = ()
) -> web.Application:
    """The admin plane's application. ``handlers`` answer the API's operations; ``hosts`` as in ``gate``."""

    async def scraped(request: web.Request) -> web.Response:
        text, content_type = metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    dashboard = Dashboard()
    app = web.Application(middlewares=[one_shape, gate(token=token, hosts=hosts, open_paths=dashboard.paths)])
    app.add_routes([web.get("/metrics", scraped), *routes(handlers), *dashboard.routes()])
    return app
