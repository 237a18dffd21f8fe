"""The page of what goes on at the moment: recent requests, and a stream of them as they finish.

One task tells everybody who listens: it writes each batch once, and puts it into the listeners' queues. A listener that
does not take what is put there is dropped; its page connects anew and goes on with the present.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy.errors import Overloaded
from cacheproxy.server.api.calls import written
from cacheproxy.server.api.live_shapes import Requests, RequestsAsked, RequestsEvent, RequestTold, TickEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

    from cacheproxy.events import Served
    from cacheproxy.server.api.calls import Call, Handler
    from cacheproxy.server.api.recent import Recent
    from cacheproxy.tasks import TaskSet

BATCH_S: Final = 0.25
"""Requests are told at most so often ..."""
MOST_IN_BATCH: Final = 50
"""... and at most so many at a time."""
TICKS_IN: Final = 4
"""A tick comes with every fourth batch."""
MOST_LISTENERS: Final = 16
MOST_WAITING: Final = 40
"""Events that a listener may be behind: some eight seconds."""
_RETRY: Final = b"retry: 2000\n\n"
EVENT_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


class LivePage:
    """``tasks`` owns the task that tells; it runs while somebody listens."""

    def __init__(self, recent: Recent, *, tasks: TaskSet, now: Callable[[], float]) -> None:
        self._recent = recent
        self._tasks = tasks
        self._now = now
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._telling = False

    def handlers(self) -> Mapping[str, Handler]:
        """By operation."""
        return {"requests": self.requests, "events": self.events}

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    async def requests(self, call: Call) -> Requests:
        """The latest requests."""
        asked: RequestsAsked = call.query

        def wanted(event: Served) -> bool:
            return (
                (asked.layer is None or asked.layer == (event.layer or "none"))
                and (not asked.reason or asked.reason == event.reason)
                and (not asked.model or asked.model == event.model)
            )

        found = self._recent.latest(asked.limit, wanted)
        return Requests(requests=[told(number, event) for number, event in found], kept=len(self._recent))

    async def events(self, call: Call) -> web.StreamResponse:
        """Requests as they finish, and ticks, until the listener leaves or falls behind."""
        if len(self._listeners) >= MOST_LISTENERS:
            raise Overloaded(f"{MOST_LISTENERS} are listening already: close a page, or ask /api/v1/requests")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)
        response = web.StreamResponse(headers=EVENT_HEADERS)
        self._listeners.add(queue)
        try:
            await response.prepare(call.request)
            await response.write(_RETRY + self._tick(0.0))
            if not self._telling:
                self._telling = True
                self._tasks.start(self._tell(), name="events")
            while (event := await queue.get()) is not None:
                await response.write(event)
        except ConnectionResetError:
            pass  # the listener left, as each does some day
        finally:
            self._listeners.discard(queue)
        return response

    async def _tell(self) -> None:
        """Tell every listener what is new, while there are any."""
        number = counted = self._recent.counters.requests
        rounds = 0
        try:
            while self._listeners:
                await asyncio.sleep(BATCH_S)
                rounds += 1
                found, left_out = self._recent.behind(number, MOST_IN_BATCH)
                if found:
                    number = found[-1][0]
                    batch = RequestsEvent(requests=[told(*one) for one in found], left_out=left_out)
                    self._put(event_text("requests", batch))
                if rounds % TICKS_IN == 0:
                    requests = self._recent.counters.requests
                    self._put(self._tick((requests - counted) / (BATCH_S * TICKS_IN)))
                    counted = requests
        finally:
            self._telling = False

    def _put(self, event: bytes) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._drop(queue)

    def _drop(self, queue: asyncio.Queue[bytes | None]) -> None:
        """Let a listener end that does not listen."""
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    def _tick(self, requests_per_s: float) -> bytes:
        counters = self._recent.counters
        return event_text(
            "tick",
            TickEvent(
                at=self._now(),
                requests=counters.requests,
                hits=dict(counters.hits),
                bypassed=counters.bypassed,
                cost_usd=counters.cost_usd,
                saved_usd=counters.saved_usd,
                checks_usd=counters.checks_usd,
                audits=counters.audits,
                wrong_audits=counters.wrong_audits,
                requests_per_s=requests_per_s,
            ),
        )


def event_text(name: str, data: BaseModel) -> bytes:
    """A server-sent event. JSON has no line breaks of its own."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), written(data))


def told(number: int, event: Served) -> RequestTold:
    """A request as the API tells it: what it bought, or on a hit what it did not have to."""
    usage = event.saved_usage if event.layer is not None else event.usage
    return RequestTold.model_construct(
        number=number,
        request_id=event.request_id if event.explained else "",
        at=event.at,
        dialect=event.dialect,
        upstream=event.upstream,
        tenant=event.tenant,
        model=event.model,
        http_status=event.http_status,
        status=event.status.value,
        layer=event.layer.value if event.layer is not None else None,
        reason=event.reason.value if event.reason is not None else None,
        entry=event.entry_id,
        similarity=event.similarity,
        duration_ms=event.duration_ms,
        upstream_ms=event.upstream_ms,
        cost_usd=event.cost_usd,
        saved_usd=event.saved_usd,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
    )
