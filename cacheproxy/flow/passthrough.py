"""Everything that is not cached goes through untouched, streamed both ways in constant memory."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from cacheproxy.core import scope
from cacheproxy.flow.answers import response_tag
from cacheproxy.flow.credentials import name_of
from cacheproxy.flow.forward import outgoing
from cacheproxy.flow.messages import Streamed
from cacheproxy.ports import UpstreamRequest
from cacheproxy.upstream.headers import returned
from cacheproxy.wire.dialects import plain_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cacheproxy.flow.arrival import Arrival
    from cacheproxy.flow.calls import Calls
    from cacheproxy.flow.credentials import Proofs
    from cacheproxy.flow.messages import Incoming
    from cacheproxy.flow.routing import Route
    from cacheproxy.ports import Upstream

_OK: Final = range(200, 300)
_REFUSED: Final = frozenset({401, 403})
_RESPONSES: Final = "/v1/responses/"


class PassThrough:
    """Sends requests on as they are. ``evict`` removes the entries with a tag."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        calls: Calls,
        proofs: Proofs,
        secret: bytes,
        evict: Callable[[str], Awaitable[None]],
    ) -> None:
        self._upstream = upstream
        self._calls = calls
        self._proofs = proofs
        self._secret = secret
        self._evict = evict

    async def send(self, incoming: Incoming, route: Route, arrival: Arrival) -> Streamed:
        """Forward a request; the reply's body comes as the upstream sends it."""
        request = UpstreamRequest(
            incoming.method,
            route.url + route.query,
            outgoing(incoming.headers, route.target, cacheable=False),
            incoming.chunks() if incoming.has_body else None,
        )
        async with AsyncExitStack() as stack:
            status = 0
            stack.callback(lambda: arrival.trace.passed(status))
            call = self._calls.make(self._upstream, request, name=route.target.name, trace=arrival.trace)
            response = await stack.enter_async_context(call)
            status = response.status
            if response.status in _REFUSED:
                credential = scope.credential(incoming.headers, route.query)
                self._proofs.refuse(name_of(incoming, route, credential, secret=self._secret))
            path = plain_path(route.path)
            if incoming.method == "DELETE" and path.startswith(_RESPONSES) and response.status in _OK:
                await self._evict(response_tag(path.removeprefix(_RESPONSES)))
            return Streamed(
                response.status, returned(response.headers), response.chunks(), close=stack.pop_all().aclose
            )
