"""What is promised of hits on similar questions, and what it rests on, as the API tells it."""

from typing import Annotated, Literal, Self

from pydantic import Field

from cacheproxy.core.certificate import interval
from cacheproxy.core.judge_noise import Noise
from cacheproxy.server.api.shapes import Asked, Told

Score = Literal["p", "similarity"]
PoolName = Annotated[str, Field(max_length=200)]


class ThresholdTold(Told):
    """From which score (log odds) answers are served under one budget; null: none are."""

    budget: float
    estimated: float | None
    certified: float | None


class PoolTold(Told):
    """A pool: its promise, what it rests on, how it fares."""

    pool: str
    budget: float
    """Wrong per hit that is allowed."""
    stage: Literal["uncertified", "estimated", "certified", "shadow"]
    labels: int
    """Verdicts that it rests on."""
    semantic_hits: int
    shadow_hits: int
    """Hits that there would have been, but for shadow mode."""
    shadow_wrong: int
    audits: int
    """Hits that the upstream was asked again for, by a coin."""
    wrong_audits: int
    wrong_per_hit: float | None
    """Measured; null before the first audit."""
    wrong_per_hit_bound: float
    """At most so much at 95% confidence, whenever one looks."""
    proven_in_service: bool
    """Whether that bound is within the budget."""
    alarm: float
    """What the bet against the promise is worth; at 100 it counts as broken."""
    drifted: bool
    """Many more close decisions than when the rule was made."""
    trips: int
    """How often the promise was broken."""
    rule_from_labels: int | None = None
    """How many labels there had been when the rule was made; null without one."""
    thresholds: tuple[ThresholdTold, ...] = ()
    """By budget."""


class JudgeTold(Told):
    """How often the judge called two fresh answers to one question different, in the last two weeks."""

    pairs: int
    disagreed: int
    low: float
    """At least so often, at 95% confidence."""
    high: float
    missed: float
    """The share of wrong hits that a certificate takes it to pass as right."""

    @classmethod
    def of(cls, noise: Noise) -> Self:
        """What was measured, with what follows from it."""
        low, high = interval(noise.disagreed, noise.pairs)
        return cls(pairs=noise.pairs, disagreed=noise.disagreed, low=low, high=high, missed=noise.missed)


class DecisionTold(Told):
    """Every pool, and the judge of all."""

    pools: list[PoolTold]
    judge: JudgeTold


class LabelsAsked(Asked):
    """Which histograms."""

    pool: PoolName = "default"
    bins: Annotated[int, Field(ge=2, le=200)] = 40


class Histogram(Told):
    """Labels by score. ``edges`` are one more than the counts."""

    edges: list[float]
    right_misses: list[int]
    """Judged right, on misses whose fresh answer was at hand."""
    wrong_misses: list[int]
    right_audits: list[int]
    """Judged right, on audited hits."""
    wrong_audits: list[int]


class LabelsTold(Told):
    """What was judged, by how similar and how likely right it was."""

    pool: str
    labels: int
    similarity: Histogram
    """By cosine of the nearest question."""
    p: Histogram
    """By the chance to be right, from models that had not seen the label's answer."""


class CurveAsked(Asked):
    """Which curve."""

    pool: PoolName = "default"
    score: Score = "p"
    """What a threshold would be set on."""
    points: Annotated[int, Field(ge=2, le=500)] = 100
    """At most so many thresholds."""


class CurvePoint(Told):
    """What serving from this threshold on would come to."""

    threshold: float
    hit_rate: float
    """Share of the recent requests with a candidate that would be answered with it."""
    wrong_per_hit: float
    """Share of the labels at or above that were judged wrong, each counted by the chance that it was asked for with."""
    wrong_per_hit_bound: float
    """At most so much at 95% confidence, labels taken to be independent."""
    labels: int
    wrong: int


class Curve(Told):
    """Hit rate against error, threshold by threshold, from the loosest to the strictest."""

    pool: str
    score: Score
    budget: float
    stage: str
    labels: int
    requests: int
    """Recent requests that the hit rate is of."""
    points: list[CurvePoint]
    operating: CurvePoint | None
    """What is in force; null where nothing similar is served, or by another kind of score."""


class NearMissesAsked(Asked):
    """How many."""

    limit: Annotated[int, Field(ge=1, le=200)] = 20
    pool: PoolName | None = None
    """Absent: every pool."""


class NearMiss(Told):
    """A request that had a candidate and was not answered with it."""

    request_id: str
    at: float
    pool: str
    reason: str
    similarity: float
    p: float | None
    """The chance that the candidate was right; null where the policy computes none."""
    threshold_p: float | None
    """What it had to reach."""
    prompt: str
    entry: str
    """The nearest."""
    entry_prompt: str
    guards: list[str]
    """That object to it."""
    verdict: Literal["right", "wrong", "unknown"] | None
    """What the fresh answer said of the candidate."""


class NearMisses(Told):
    """The likeliest of the latest misses."""

    near_misses: list[NearMiss]


class AuditsAsked(Asked):
    """How many."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50


class AuditTold(Told):
    """One check of a cached answer."""

    at: float
    verdict: Literal["right", "wrong", "unknown"]
    source: Literal["audit", "miss"] | None
    """A hit that was asked again, or a miss whose fresh answer was at hand; null where that is not known."""
    judge: str
    """Which one spoke; empty where that is not known."""
    why: str
    """In few words."""
    pool: str
    model: str
    tenant: str
    entry: str
    """Whose answer was judged: an entry, or after a restart the root of its group."""
    request_id: str
    """For ``explain``; empty after a restart."""
    similarity: float | None
    cost_usd: float


class Audits(Told):
    """The latest first."""

    audits: list[AuditTold]
    since_start: bool
    """False where older ones were filled in from recorded labels, which know less."""


class ExplainAsked(Asked):
    """Which decisions: one request's, those about an entry, or the latest."""

    request: Annotated[str, Field(max_length=200)] = ""
    entry: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 20


class NeighborTold(Told):
    """A question near the one that was asked."""

    entry: str
    root: str
    similarity: float
    prompt: str
    guards: list[str]


class CandidateTold(Told):
    """The likeliest answer."""

    root: str
    similarity: float
    p: float
    logit: float
    lambda_: Annotated[float | None, Field(alias="lambda", serialization_alias="lambda")]
    """The log odds that it had to reach; null: none do."""
    guard: str | None
    features: dict[str, float]


class DecisionMade(Told):
    """One request that the semantic layer decided on."""

    request_id: str
    at: float
    tenant: str
    pool: str
    scope: str
    prompt: str
    verdict: Literal["right", "wrong", "unknown"] | None
    audited: bool
    nearest: list[NeighborTold]
    outcome: Literal["hit", "miss"]
    entry: str | None = None
    """That was served."""
    stage: str | None = None
    reason: str | None = None
    shadowed: bool | None = None
    candidate: CandidateTold | None = None


class Explained(Told):
    """Decisions, the latest first."""

    decisions: list[DecisionMade]


class FeedbackAsked(Asked):
    """A verdict on an entry."""

    entry: Annotated[str, Field(min_length=1, max_length=200)]
    verdict: Literal["wrong", "right"]
    note: Annotated[str, Field(max_length=1000)] = ""


class FeedbackTaken(Told):
    """What was done."""

    entry: str
    suspended: bool
    """Whether the entry is served to nobody now."""
    blocked_pairs: int = 0
    """Requests that are never answered from its group again."""
