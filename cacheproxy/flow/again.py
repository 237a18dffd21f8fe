"""Asks the upstream once more for what was answered already, to find out whether the cache is right. In the background.

What that costs is booked, and limited to a share of what the cache saved.
"""

from __future__ import annotations

import logging
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cacheproxy.errors import ProxyError

if TYPE_CHECKING:
    from cacheproxy.flow.answers import Answers
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.coalesce import Flights, Outcome
    from cacheproxy.flow.forward import Forwarder, Learn
    from cacheproxy.flow.spending import AuditLimit
    from cacheproxy.flow.told import Teller
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import Entry

log = logging.getLogger(__name__)


class Again:
    """Asks again. Nobody else shares these answers: two to one request must be independent."""

    def __init__(
        self, *, flights: Flights, forwarder: Forwarder, answers: Answers, teller: Teller, limit: AuditLimit
    ) -> None:
        self._flights = flights
        self._forwarder = forwarder
        self._answers = answers
        self._teller = teller
        self._limit = limit

    def affords(self, entry: Entry) -> bool:
        """Whether another answer like this one is within the limit."""
        return self._limit.allows(entry.cost_usd or 0.0)

    async def ask(self, asked: Asked, learn: Learn | None = None) -> Entry | None:
        """A fresh answer, as it would be stored; None when none came. ``learn`` is for those that are kept as well."""
        asked = replace(asked, arrival=copy(asked.arrival))  # the hit keeps its name, whatever this call is named
        flight = self._flights.start(
            None,
            lambda flight: self._forwarder.fly(flight, asked, learn or partial(self._read, asked)),
            streaming=asked.view.stream,
        )
        flight.when_ended(lambda outcome: self._teller.asked_again(asked, outcome))
        listener = flight.listen()
        try:
            return (await listener.end()).entry
        except ProxyError as error:
            log.info("an audit got no answer, which says nothing of the cached one: %s", error)
            return None
        finally:
            listener.leave()

    def _read(
        self, asked: Asked, answer: JsonObject, text: bytes | None, *, upstream_ms: float, upstream: str
    ) -> Outcome:
        outcome, _ = self._answers.read(asked, answer, text, upstream_ms=upstream_ms, upstream=upstream)
        return outcome
