"""The decision page: what is promised, what it rests on, what other thresholds would do, and a word on entries."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cacheproxy.core import whatif
from cacheproxy.core.features import LEAST_SIMILARITY, matrix
from cacheproxy.core.guards import objections
from cacheproxy.core.labels import Source, capped
from cacheproxy.core.likelihood import sigmoid
from cacheproxy.core.policy import CertifiedPolicy, Forward, ThresholdPolicy
from cacheproxy.core.pool import cross_scored
from cacheproxy.core.whatif import Scored
from cacheproxy.flow import explain
from cacheproxy.server.api.decision_shapes import (
    Curve,
    CurveAsked,
    CurvePoint,
    DecisionMade,
    DecisionTold,
    ExplainAsked,
    Explained,
    FeedbackTaken,
    Histogram,
    JudgeTold,
    LabelsAsked,
    LabelsTold,
    NearMiss,
    NearMisses,
    NearMissesAsked,
    PoolTold,
    ThresholdTold,
)
from cacheproxy.server.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cacheproxy.core.labels import Label
    from cacheproxy.core.policy import Policy
    from cacheproxy.flow.explain import Explanation, Explanations
    from cacheproxy.flow.feedback import Feedback
    from cacheproxy.flow.pools import LivePool, Pools
    from cacheproxy.server.api.calls import Call, Handler
    from cacheproxy.server.api.decision_shapes import Score

_SCORES_KEPT: Final = 16


class DecisionPage:
    """``policy`` says which of the curve's points is in force."""

    def __init__(self, *, pools: Pools, explanations: Explanations, feedback: Feedback, policy: Policy) -> None:
        self._pools = pools
        self._explanations = explanations
        self._feedback = feedback
        self._policy = policy
        self._scored: dict[tuple[object, ...], tuple[Sequence[Label], Any]] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """By operation."""
        return {
            "decision": self.decision,
            "labels": self.labels,
            "curve": self.curve,
            "near_misses": self.near_misses,
            "explain": self.explain,
            "feedback": self.feedback,
        }

    async def decision(self, _: Call) -> DecisionTold:
        """Each pool: its promise, what it rests on, and how it fares in service."""
        return DecisionTold(
            pools=[told_pool(pool) for pool in self._pools], judge=JudgeTold.of(self._pools.pairs.noise)
        )

    async def labels(self, call: Call) -> LabelsTold:
        """How similar, and how likely right, was what was judged right and wrong."""
        asked: LabelsAsked = call.query
        pool = self._pool(asked.pool)
        labels, chances = await self._chances(pool)
        similarities = np.array([label.features.similarity for label in labels])
        return LabelsTold(
            pool=pool.name,
            labels=len(labels),
            similarity=_histogram(labels, similarities, np.linspace(0, 1, asked.bins + 1)),
            p=_histogram(labels, chances, np.linspace(0, 1, asked.bins + 1)),
        )

    async def curve(self, call: Call) -> Curve:
        """What each threshold would come to."""
        asked: CurveAsked = call.query
        pool = self._pool(asked.pool)
        labels, scored = await self._by(asked.score, pool)
        points = await asyncio.to_thread(whatif.curve, scored, asked.points)
        threshold = self._threshold(pool, asked.score)
        return Curve(
            pool=pool.name,
            score=asked.score,
            budget=pool.budget,
            stage=pool.stage.value,
            labels=len(labels),
            requests=len(scored.traffic),
            points=[_point(each) for each in points],
            operating=None if threshold is None else _point(whatif.outcome(scored, threshold)),
        )

    async def near_misses(self, call: Call) -> NearMisses:
        """The likeliest candidates among the latest misses, the most similar first where nothing computes a chance."""
        asked: NearMissesAsked = call.query
        missed = [
            (each, each.decision)
            for each in self._explanations.latest(explain.KEPT)
            if isinstance(each.decision, Forward) and each.keys and asked.pool in (None, each.pool)
        ]
        missed.sort(key=_likeliness, reverse=True)
        return NearMisses(near_misses=[_near_miss(each, decision) for each, decision in missed[: asked.limit]])

    async def explain(self, call: Call) -> Explained:
        """One request by its id, those about an entry, or the latest ones."""
        asked: ExplainAsked = call.query
        found: Sequence[Explanation]
        if asked.request:
            one = self._explanations.request(asked.request)
            if one is None:
                raise Refused(404, f"no decision is remembered for the request {asked.request!r}")
            found = [one]
        elif asked.entry:
            found = self._explanations.entry(asked.entry)[: asked.limit]
        else:
            found = self._explanations.latest(asked.limit)
        return Explained(decisions=[DecisionMade.model_validate(each.told()) for each in found])

    async def feedback(self, call: Call) -> FeedbackTaken:
        """An operator's verdict on any entry."""
        done = await self._feedback.take(call.body.model_dump(), tenant=None)
        return FeedbackTaken.model_validate(done)

    def _pool(self, name: str) -> LivePool:
        for pool in self._pools:
            if pool.name == name:
                return pool
        names = ", ".join(pool.name for pool in self._pools)
        raise Refused(404, f"there is no pool of this name; there are {names[:500]}")

    async def _chances(self, pool: LivePool) -> tuple[Sequence[Label], Any]:
        """The labels that count, each with the chance to be right by a model that had not seen its answer."""
        stamp = (pool.name, pool.total, len(pool.labels), pool.monitor.trips)
        if stamp not in self._scored:
            labels = capped(list(pool.labels)) if pool.labels else []
            logits = await asyncio.to_thread(cross_scored, labels, pool.prior) if labels else np.zeros(0)
            self._scored[stamp] = labels, sigmoid(logits)
            while len(self._scored) > _SCORES_KEPT:
                del self._scored[next(iter(self._scored))]
        return self._scored[stamp]

    async def _by(self, score: Score, pool: LivePool) -> tuple[Sequence[Label], Scored]:
        labels, chances = await self._chances(pool)
        traffic = list(pool.traffic)
        rows = matrix(traffic)
        similar = rows[:, 0] if len(rows) else np.zeros(0)
        model = pool.rule.model if pool.rule is not None else pool.prior
        candidates = similar if score == "similarity" or model is None else sigmoid(model.logits(rows))
        scores = chances if score == "p" else np.array([label.features.similarity for label in labels])
        barred = whatif.vetoed([label.features for label in labels])
        if not self._policy.guards_final:
            barred = np.zeros(len(labels), np.bool_)
        else:
            candidates = np.where(whatif.vetoed(traffic), -np.inf, candidates)
        if score == "p":
            candidates = np.where(similar < LEAST_SIMILARITY, -np.inf, candidates)
            barred |= np.array([label.features.similarity < LEAST_SIMILARITY for label in labels], np.bool_)
        kept = ~barred
        return labels, Scored(
            scores[kept],
            np.array([label.right for label in labels], dtype=np.float64)[kept],
            np.array([1 / label.inclusion for label in labels])[kept],
            candidates,
        )

    def _threshold(self, pool: LivePool, score: Score) -> float | None:
        """The threshold that is in force, if it is one of this kind of score."""
        policy = self._policy
        if isinstance(policy, ThresholdPolicy):
            return policy.threshold if score == "similarity" else None
        if not isinstance(policy, CertifiedPolicy) or score != "p" or pool.tripped:
            return None
        if pool.rule is None:
            return _chance(policy.bootstrap.logit)
        known = pool.rule.threshold(pool.budget)
        return _chance(known.certified if policy.certified_only else min(known))


def told_pool(pool: LivePool) -> PoolTold:
    """A pool as the API tells it."""
    rule, monitor = pool.rule, pool.monitor
    bound = monitor.bound()
    return PoolTold(
        pool=pool.name,
        budget=pool.budget,
        stage=pool.stage.value,
        labels=len(pool.labels),
        semantic_hits=pool.hits,
        shadow_hits=pool.shadowed,
        shadow_wrong=pool.shadowed_wrong,
        audits=monitor.audits,
        wrong_audits=monitor.wrong,
        wrong_per_hit=monitor.wrong / monitor.audits if monitor.audits else None,
        wrong_per_hit_bound=bound,
        proven_in_service=bound <= pool.budget,
        alarm=monitor.evidence,
        drifted=pool.drifted,
        trips=monitor.trips,
        rule_from_labels=None if rule is None else rule.labels,
        thresholds=tuple(
            ThresholdTold(budget=budget, estimated=_finite(known.estimated), certified=_finite(known.certified))
            for budget, known in (sorted(rule.thresholds.items()) if rule is not None else ())
        ),
    )


def _likeliness(missed: tuple[Explanation, Forward]) -> tuple[float, float]:
    explanation, decision = missed
    return decision.assessed.chance if decision.assessed else 0.0, explanation.keys[0].similarity


def _near_miss(explanation: Explanation, decision: Forward) -> NearMiss:
    nearest, assessed = explanation.keys[0], decision.assessed
    verdict = explanation.finding.verdict
    return NearMiss(
        request_id=explanation.request_id,
        at=explanation.at,
        pool=explanation.pool,
        reason=decision.reason.value,
        similarity=nearest.similarity,
        p=None if assessed is None else assessed.chance,
        threshold_p=None if assessed is None else _chance(assessed.threshold),
        prompt=explanation.prompt,
        entry=nearest.entry_id,
        entry_prompt=nearest.profile.text,
        guards=[reason.value for reason in objections(explanation.prompt, nearest.profile.text)],
        verdict=None if verdict is None else verdict.value,
    )


def _histogram(labels: Sequence[Label], scores: Any, edges: Any) -> Histogram:
    def counted(source: Source, *, right: bool) -> list[int]:
        chosen = [label.source is source and label.right is right for label in labels]
        return whatif.histogram(scores[np.array(chosen, dtype=np.bool_)], edges)

    return Histogram(
        edges=edges.tolist(),
        right_misses=counted(Source.MISS, right=True),
        wrong_misses=counted(Source.MISS, right=False),
        right_audits=counted(Source.AUDIT, right=True),
        wrong_audits=counted(Source.AUDIT, right=False),
    )


def _point(outcome: whatif.Outcome) -> CurvePoint:
    return CurvePoint(
        threshold=outcome.threshold,
        hit_rate=outcome.hit_rate,
        wrong_per_hit=outcome.wrong_per_hit,
        wrong_per_hit_bound=outcome.bound,
        labels=outcome.labels,
        wrong=outcome.wrong,
    )


def _chance(logit: float) -> float | None:
    return float(sigmoid(np.array(logit))) if math.isfinite(logit) else None


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None
