"""Tells every observer about each finished request and each check, once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from cacheproxy.events import Audited, CheckKind, Served
from cacheproxy.model import NO_USAGE, CacheStatus, CheckVerdict, Layer, Reason, Usage
from cacheproxy.values import value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cacheproxy.events import Checked
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.coalesce import Outcome
    from cacheproxy.model import Entry, Verdict
    from cacheproxy.ports import Observer

T = TypeVar("T")
log = logging.getLogger(__name__)


@value(frozen=True, slots=True)
class Hit:
    """An answer from the cache."""

    entry: Entry
    layer: Layer
    similarity: float | None = None


@value(frozen=True, slots=True)
class Miss:
    """An answer from the upstream, and why."""

    status: CacheStatus
    reason: Reason
    similarity: float | None = None


@value(frozen=True, slots=True)
class Saved:
    """What the cache spared the caller."""

    usage: Usage = NO_USAGE
    usd: float | None = 0.0
    ms: float = 0.0


NOTHING_SAVED = Saved()


class Teller:
    """Turns what happened into ``Served`` events. ``now`` tells the time, ``clock`` measures it; both in seconds.

    ``prompts``: whether observers are told the questions.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        *,
        price_version: str,
        now: Callable[[], float],
        clock: Callable[[], float],
        prompts: bool = False,
    ) -> None:
        self._served = [observer.served for observer in observers]
        self._audited = [observer.audited for observer in observers]
        self._prompts = prompts
        self._price_version = price_version
        self._now = now
        self._clock = clock

    def hit(self, asked: Asked, hit: Hit) -> None:
        """An entry was served."""
        entry = hit.entry
        self._tell(
            asked,
            model=entry.model,
            http_status=200,
            status=CacheStatus.HIT,
            layer=hit.layer,
            entry_id=entry.id,
            similarity=hit.similarity,
            saved=Saved(entry.usage, entry.cost_usd, entry.latency_ms),
            unpriced=entry.cost_usd is None,
        )

    def joined(self, asked: Asked, outcome: Outcome) -> None:
        """A flight answered a caller that did not start it. Nothing was saved where it brought no answer."""
        self._tell(
            asked,
            model=outcome.entry.model if outcome.entry else asked.view.model,
            http_status=outcome.http_status,
            status=CacheStatus.HIT if outcome.entry else CacheStatus.MISS,
            layer=Layer.COALESCED if outcome.entry else None,
            reason=None if outcome.entry else Reason.NO_ENTRY,
            entry_id=outcome.entry.id if outcome.entry else "",
            saved=Saved(outcome.usage, outcome.cost_usd),
            unpriced=outcome.cost_usd is None,
        )

    def missed(self, asked: Asked, miss: Miss, outcome: Outcome, saved: Saved = NOTHING_SAVED) -> None:
        """The upstream was asked. A part of the answer may have come from the cache all the same."""
        self._tell(
            asked,
            model=outcome.entry.model if outcome.entry else asked.view.model,
            http_status=outcome.http_status,
            status=miss.status,
            reason=miss.reason,
            similarity=miss.similarity,
            usage=outcome.usage,
            cost_usd=outcome.cost_usd or 0.0,
            saved=saved,
            unpriced=outcome.cost_usd is None or saved.usd is None,
            upstream_ms=outcome.upstream_ms,
            upstream=_answerer(asked, outcome),
        )

    def asked_again(self, asked: Asked, outcome: Outcome) -> None:
        """The upstream was asked for an audit: that costs what an answer costs. The verdict comes later, if at all."""
        self._tell_check(
            asked,
            model=outcome.entry.model if outcome.entry else asked.view.model,
            upstream=_answerer(asked, outcome),
            kind=CheckKind.AUDIT,
            verdict=None if outcome.entry else CheckVerdict.UNKNOWN,
            usage=outcome.usage,
            cost_usd=outcome.cost_usd or 0.0,
            unpriced=outcome.entry is not None and outcome.cost_usd is None,
        )

    def judged(self, asked: Asked, verdict: Verdict, checked: Checked | None) -> None:
        """A judge compared a cached answer with a fresh one; without ``checked`` only what that cost counts."""
        self._tell_check(
            asked,
            model=asked.view.model,
            upstream=asked.route.target.name,
            kind=CheckKind.JUDGE,
            verdict=verdict.check if checked else None,
            cost_usd=verdict.cost_usd,
            checked=checked,
        )

    def _tell_check(self, asked: Asked, **what: Any) -> None:
        event = Audited(
            at=self._now(),
            tenant=asked.tenant,
            price_version=self._price_version,
            **what,
        )
        _tell_each(self._audited, event)

    def _tell(
        self,
        asked: Asked,
        *,
        model: str,
        http_status: int,
        status: CacheStatus,
        unpriced: bool,
        layer: Layer | None = None,
        reason: Reason | None = None,
        entry_id: str = "",
        similarity: float | None = None,
        usage: Usage = NO_USAGE,
        cost_usd: float = 0.0,
        saved: Saved = NOTHING_SAVED,
        upstream_ms: float | None = None,
        upstream: str = "",
    ) -> None:
        arrival, trace = asked.arrival, asked.arrival.trace
        event = Served(  # by position: by name it takes four times as long, and every request passes here
            self._now(),
            asked.dialect.name,
            upstream or asked.route.target.name,
            asked.tenant,
            model,
            http_status,
            status,
            (self._clock() - arrival.started) * 1000,
            layer,
            reason,
            entry_id,
            similarity,
            usage,
            cost_usd,
            saved.usage,
            saved.usd or 0.0,
            unpriced,
            saved.ms,
            upstream_ms,
            self._price_version,
            arrival.id,
            arrival.explained,
            trace.id,
            asked.prompt if self._prompts else "",
        )
        _tell_each(self._served, event)
        trace.served(event)


def _tell_each(observers: Sequence[Callable[[T], None]], event: T) -> None:
    for tell in observers:
        try:
            tell(event)
        except Exception:
            log.exception("an observer failed")


def _answerer(asked: Asked, outcome: Outcome) -> str:
    """Who was paid: the local server may have answered in the upstream's place."""
    return outcome.entry.upstream if outcome.entry else asked.route.target.name
