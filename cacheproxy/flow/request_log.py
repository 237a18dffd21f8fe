"""One line in the log for each finished request: who asked, what the cache did and why, what it took and cost.

No answer is ever in it, and no question unless the operator asks for questions (``Served.prompt`` is empty then).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cacheproxy.events import Audited, Served

LOGGER: Final = "cacheproxy.requests"
LONGEST: Final = 4_000
"""Characters of a question that are written."""
log = logging.getLogger(LOGGER)


class RequestLog:
    """An observer that writes lines. A formatter for programs takes a line's members from ``record.members``."""

    def served(self, event: Served) -> None:
        """Write a request's line."""
        told = members(event)
        log.info("%s", _line(told), extra={"members": told})

    def audited(self, event: Audited) -> None:
        """Nothing: a check is no request."""


def members(event: Served) -> dict[str, Any]:
    """What is told of a request; what does not apply is left out."""
    told = {
        "request_id": event.request_id,
        "trace_id": event.trace_id,
        "tenant": event.tenant,
        "dialect": event.dialect,
        "upstream": event.upstream,
        "model": event.model,
        "http_status": event.http_status,
        "status": event.status.value,
        "layer": event.layer and event.layer.value,
        "reason": event.reason and event.reason.value,
        "entry": event.entry_id,
        "similarity": None if event.similarity is None else round(event.similarity, 4),
        "duration_ms": round(event.duration_ms, 3),
        "upstream_ms": None if event.upstream_ms is None else round(event.upstream_ms, 3),
        "cost_usd": None if event.unpriced else event.cost_usd,
        "saved_usd": None if event.unpriced else event.saved_usd,
        "prompt": event.prompt[:LONGEST],
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def _line(told: dict[str, Any]) -> str:
    """The members as people read them: one line and its own members, whatever a caller sends."""
    return " ".join(f"{name}={_word(value, quoted=name == 'prompt')}" for name, value in told.items())


def _word(value: object, *, quoted: bool) -> str:
    text = str(value)
    return repr(value) if quoted or " " in text or not text.isprintable() else text
