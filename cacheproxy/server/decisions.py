"""The operators' view of decisions: what each pool promises, why a request hit or missed, and a word on entries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy import jsontext
from cacheproxy.errors import BadRequest, ProxyError
from cacheproxy.server.refusal import refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.flow.explain import Explanation, Explanations
    from cacheproxy.flow.feedback import Feedback
    from cacheproxy.flow.pools import LivePool, Pools
    from cacheproxy.jsontext import JsonObject

_MOST: Final = 200


class Decisions:
    """Handlers of ``/api/v1/decision``, ``/api/v1/explain`` and ``/api/v1/feedback``."""

    def __init__(self, pools: Pools, explanations: Explanations, feedback: Feedback) -> None:
        self._pools = pools
        self._explanations = explanations
        self._feedback = feedback

    def routes(self) -> Sequence[web.RouteDef]:
        """What to add to the admin plane."""
        return [
            web.get("/api/v1/decision", self.decision),
            web.get("/api/v1/explain", self.explain),
            web.post("/api/v1/feedback", self.feedback),
        ]

    async def decision(self, _: web.Request) -> web.Response:
        """Each pool: its promise, what it rests on, and how it fares in service."""
        return web.json_response({"pools": [described(pool) for pool in self._pools]})

    async def explain(self, request: web.Request) -> web.Response:
        """One request by its id, those about an entry, or the latest ones."""
        if request_id := request.query.get("request", ""):
            found = self._explanations.request(request_id)
            if found is None:
                return refused(404, "not_found", f"no decision is remembered for the request {request_id!r}")
            return web.json_response({"decisions": [found.told()]})
        try:
            limit = min(max(int(request.query.get("limit", "20")), 1), _MOST)
        except ValueError:
            return refused(400, "bad_request", f"limit must be a number from 1 to {_MOST}")
        explanations: Sequence[Explanation]
        if entry_id := request.query.get("entry", ""):
            explanations = self._explanations.entry(entry_id)[:limit]
        else:
            explanations = self._explanations.latest(limit)
        return web.json_response({"decisions": [explanation.told() for explanation in explanations]})

    async def feedback(self, request: web.Request) -> web.Response:
        """An operator's verdict on any entry."""
        try:
            said = jsontext.parse(await request.read())
            if not isinstance(said, dict):
                raise BadRequest("the body must be a JSON object")
            return web.json_response(await self._feedback.take(said, tenant=None))
        except ValueError as error:
            return refused(400, "bad_request", f"the body is not valid JSON: {error}")
        except ProxyError as error:
            return refused(error.status, error.code, error.message)


def described(pool: LivePool) -> JsonObject:
    """A pool as JSON. Scores without a limit are left out, since JSON has no infinity."""
    rule, monitor = pool.rule, pool.monitor
    told: JsonObject = {
        "pool": pool.name,
        "budget": pool.budget,
        "stage": pool.stage.value,
        "labels": len(pool.labels),
        "semantic_hits": pool.hits,
        "shadow_hits": pool.shadowed,
        "shadow_wrong": pool.shadowed_wrong,
        "audits": monitor.audits,
        "wrong_audits": monitor.wrong,
        "wrong_per_hit": monitor.wrong / monitor.audits if monitor.audits else None,
        "wrong_per_hit_bound": monitor.bound(),
        "proven_in_service": monitor.bound() <= pool.budget,
        "alarm": monitor.evidence,
        "drifted": pool.drifted,
        "trips": monitor.trips,
    }
    if rule is not None:
        told["rule_from_labels"] = rule.labels
        told["thresholds"] = [
            {
                "budget": budget,
                "estimated": _finite(threshold.estimated),
                "certified": _finite(threshold.certified),
            }
            for budget, threshold in sorted(rule.thresholds.items())
        ]
    return told


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None
