"""The feed of audits: what judges said of cached answers lately, and of earlier runs what labels remember."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cacheproxy.core.labels import Source
from cacheproxy.server.api.decision_shapes import Audits, AuditsAsked, AuditTold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cacheproxy.core.labels import Label
    from cacheproxy.events import Audited
    from cacheproxy.flow.pools import LivePool
    from cacheproxy.server.api.calls import Call, Handler
    from cacheproxy.server.api.recent import Recent


class AuditsPage:
    """``started`` is when this process began."""

    def __init__(self, *, recent: Recent, pools: Iterable[LivePool], started: float) -> None:
        self._recent = recent
        self._pools = pools
        self._started = started

    def handlers(self) -> Mapping[str, Handler]:
        """By operation."""
        return {"audits": self.audits}

    async def audits(self, call: Call) -> Audits:
        """The latest first."""
        asked: AuditsAsked = call.query
        heard = [_heard(event) for event in self._recent.checks(asked.limit)]
        missing = asked.limit - len(heard)
        before = min([self._started, *(audit.at for audit in heard)])
        earlier = [_remembered(pool.name, label) for pool in self._pools for label in pool.labels if label.at < before]
        earlier.sort(key=lambda audit: -audit.at)
        return Audits(audits=[*heard, *earlier[:missing]], since_start=not earlier[:missing])


def _heard(event: Audited) -> AuditTold:
    checked, verdict = event.checked, event.verdict
    assert checked is not None  # noqa: S101 - no other is remembered
    assert verdict is not None  # noqa: S101 - likewise
    return AuditTold(
        at=event.at,
        verdict=verdict.value,
        source="audit" if checked.hit else "miss",
        judge=checked.by,
        why=checked.why,
        pool=checked.pool,
        model=event.model,
        tenant=event.tenant,
        entry=checked.entry_id,
        request_id=checked.request_id,
        similarity=checked.similarity,
        cost_usd=event.cost_usd,
    )


def _remembered(pool: str, label: Label) -> AuditTold:
    """A label has no judge, and takes what could not be told for wrong."""
    return AuditTold(
        at=label.at,
        verdict="right" if label.right else "wrong",
        source="audit" if label.source is Source.AUDIT else "miss",
        judge="",
        why="",
        pool=pool,
        model="",
        tenant=label.principal,
        entry=label.root,
        request_id="",
        similarity=label.features.similarity,
        cost_usd=0.0,
    )
