"""Who may come in: whoever has the token; without one, programs on this machine and the dashboard's own pages.

On loopback without a token the dangers are web pages that a browser on this machine has open. One may send requests
here (CSRF), and one may have its own host name lead here (DNS rebinding) and then read the answers as well. So the host
must be one of ours, and nothing may come from a page of another origin.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy.server.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp.typedefs import Handler, Middleware

_SAFE: Final = frozenset({"GET", "HEAD"})
_OWN_SITES: Final = frozenset({"", "same-origin", "none"})
"""``Sec-Fetch-Site`` of programs, of our own pages, and of what a person typed."""


def gate(*, token: str | None, hosts: Collection[str] = (), open_paths: Collection[str] = ()) -> Middleware:
    """Middleware that refuses strangers. ``hosts`` are names beside loopback; ``open_paths`` need no token."""
    wanted = f"Bearer {token}".encode() if token else None
    known = frozenset(host.lower() for host in hosts)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if wanted is not None:
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if request.path not in open_paths and not hmac.compare_digest(given, wanted):
                raise Refused(401, "send the admin token: Authorization: Bearer ...")
        else:
            _check_host(request.headers.get("Host", ""), known)
            _check_origin(request)
        return await handler(request)

    return check


def _check_host(host: str, known: Collection[str]) -> None:
    name = _name_in(host)
    if name in known or name == "localhost" or name.endswith(".localhost"):
        return
    try:
        if ipaddress.ip_address(name).is_loopback:
            return
    except ValueError:
        pass
    raise Refused(403, "this host name is not one of admin_hosts: use a loopback address, or set admin_token")


def _check_origin(request: web.Request) -> None:
    """A page of another origin may lead here by a link, and nothing else."""
    headers = request.headers
    site = headers.get("Sec-Fetch-Site", "")
    if site not in _OWN_SITES and not (request.method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"):
        raise Refused(403, "requests from pages of other sites are refused")
    origin = headers.get("Origin")
    if request.method not in _SAFE and origin is not None and origin != f"{request.scheme}://{request.host}":
        raise Refused(403, f"requests from pages of {origin[:100]} are refused")


def _name_in(host: str) -> str:
    """The name in ``NAME:PORT``, ``[IPV6]:PORT`` or without a port, in small letters."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()
