"""May one of the entries near a prompt answer it? Pure: what was found goes in, a decision comes out.

``Policy`` is the seat for every rule that decides this:

- ``CertifiedPolicy`` keeps an error budget: it serves where the pool's rule says that few enough such hits are wrong.
- ``ThresholdPolicy`` is the plain one: similar enough, and no lexical guard objects.
- ``vcache.VCachePolicy`` is the published one, to compare with.

Similarity is cosine in 0..1, never a distance. Time and chance are arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from cacheproxy.core.features import LEAST_SIMILARITY, describe, matrix, with_verified
from cacheproxy.core.guards import first_objection
from cacheproxy.core.pool import Stage
from cacheproxy.model import Reason

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from cacheproxy.core.features import Group, Key, Record, Verified
    from cacheproxy.core.guards import Objecting
    from cacheproxy.core.pool import Rule
    from cacheproxy.core.profile import Profile

BOOTSTRAP_AUDITS: Final = 0.2
"""Share of hits that are audited while there is no rule yet ..."""
BOOTSTRAP_HITS: Final = 200
"""... for so many of them."""
UNPROVEN_AUDITS: Final = 0.12
"""The share while the budget is estimated to be kept and not proven to: a proof needs verdicts on what is served ..."""
UNPROVEN_HITS: Final = 3_000
"""... but only of so many hits: each audit costs an answer."""
CLOSE: Final = 2.0
"""Log odds on either side of the threshold within which a verifier is worth its time."""
SURPRISING: Final = 0.95
"""A candidate that was this likely to be right and is judged wrong is judged once more: there it is mostly the judge
that errs, and its errors would hide how few of those candidates are wrong."""
LEAST_AUDITS: Final = 0.05
"""Share of hits that are audited whatever the operator says: what is promised has to be watched."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found near a prompt, and what is known about it."""

    asked: Profile
    keys: Sequence[Key]
    """In the prompt's scope, most similar first; nothing stale or suspended."""
    records: Mapping[str, Record] = field(default_factory=dict)
    """By root, of the roots among the keys."""
    observed: Mapping[str, Sequence[tuple[float, bool]]] = field(default_factory=dict)
    """By root, the similarities at which it was judged and what came of it."""
    rule: Rule | None = None
    """The pool's, None before its first fit."""
    tripped: bool = False
    """The pool's promise was broken: nothing similar is served."""
    budget: float | None = None
    """The pool's, where that is not the policy's own."""
    asked_budget: float | None = None
    """The caller's, which may only tighten it."""
    verified: Verified | None = None
    """What a verifier said of the candidate that a decision without it was close about."""
    objection: Objecting = first_objection
    """What guards say of two texts."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """A candidate as it was judged, to label it and to explain it by."""

    group: Group
    logit: float
    """Log odds of being right; 0 where the policy computes none."""
    threshold: float
    """The log odds that it had to reach; 0 likewise."""
    others: tuple[Group, ...] = ()
    """Further answers, the more likely first."""

    @property
    def chance(self) -> float:
        """The probability of being right."""
        return 1 / (1 + math.exp(-min(max(self.logit, -35.0), 35.0)))


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer with the entry of this key."""

    key: Key
    stage: Stage | None = None
    """What is promised of it; None by policies that promise nothing."""
    assessed: Assessed | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask the upstream. ``nearest`` is the best similarity seen, None when nothing was near."""

    reason: Reason
    nearest: float | None = None
    assessed: Assessed | None = None


Decision: TypeAlias = Serve | Forward


def is_close(decision: Decision) -> bool:
    """Whether a closer look at the candidate may change the decision."""
    assessed = decision.assessed
    if assessed is None or not abs(assessed.logit - assessed.threshold) < CLOSE:
        return False
    match decision:
        case Serve():
            return True
        case Forward(reason):
            return reason in (Reason.BELOW_THRESHOLD, Reason.UNCERTIFIED)


class Policy(Protocol):
    """A rule that decides."""

    @property
    def keeps_budgets(self) -> bool:
        """Whether a caller's own error budget means something to it."""

    @property
    def guards_final(self) -> bool:
        """Whether what a guard objects to is kept back, however likely it is to be right."""

    @property
    def learns(self) -> bool:
        """Whether verdicts change what it does."""

    def decide(self, found: Found, *, draw: float) -> Decision:
        """Decide. ``draw`` is uniform in 0..1, for rules that need chance."""


@dataclass(frozen=True, slots=True)
class ThresholdPolicy:
    """Serve the most similar entry at or above ``threshold`` to which no guard objects."""

    threshold: float
    disabled_guards: Container[Reason] = frozenset()
    guards_final: bool = True
    keeps_budgets: bool = False
    learns: bool = False

    def decide(self, found: Found, *, draw: float) -> Decision:  # noqa: ARG002 - no chance here
        """Walk the keys down to the threshold; the reason of a miss is that of the nearest."""
        if not found.keys:
            return Forward(Reason.NO_NEIGHBOR)
        reason: Reason | None = None
        for key in found.keys:
            if key.similarity < self.threshold:
                break
            objection = first_objection(found.asked, key.profile, self.disabled_guards)
            if objection is None:
                return Serve(key)
            reason = reason or objection
        return Forward(reason or Reason.BELOW_THRESHOLD, found.keys[0].similarity)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What serves before verdicts do."""

    similarity: float = 0.9
    """Of the nearest key, at least. It belongs to the embedding model."""
    logit: float = 3.7
    """Log odds by the prior, at least."""


@dataclass(frozen=True, slots=True)
class CertifiedPolicy:
    """Serve the likeliest answer where the pool's rule covers it.

    A guard's veto stands, but at answers of which the rule knows that they do not turn on what it objects to (any date
    has the same opening hours). Such hits are never certified: they were chosen by the verdicts themselves. With
    ``guards_final`` False a veto stands only until verdicts lead to a rule; from then on it is evidence that the pool's
    own verdicts may outweigh anywhere. ``certified_only`` leaves out what is not proven to keep the budget: bootstrap
    hits, and those that are estimated to.
    """

    budget: float
    disabled_guards: Container[Reason] = frozenset()
    bootstrap: Bootstrap = Bootstrap()
    prior: Rule | None = None
    certified_only: bool = False
    guards_final: bool = True
    keeps_budgets: bool = True
    learns: bool = True

    def decide(self, found: Found, *, draw: float) -> Decision:  # noqa: ARG002 - no chance here
        """Group the keys by answer, take the likeliest, and hold it against the threshold of the budget."""
        groups = describe(
            found.asked,
            found.keys,
            found.records,
            disabled_guards=self.disabled_guards,
            objection=found.objection,
        )
        if not groups:
            return Forward(Reason.NO_NEIGHBOR)
        if found.verified is not None:
            groups = with_verified(groups, found.verified)
        nearest = found.keys[0].similarity
        allowed = self.budget if found.budget is None else found.budget
        budget = allowed if found.asked_budget is None else min(allowed, found.asked_budget)
        rule = found.rule or self.prior
        rows = matrix([group.features for group in groups])
        logits = [0.0] * len(groups) if rule is None else rule.model.logits(rows).tolist()
        # Once a candidate was compared the decision is about it: none that was not may take its place.
        ranked = sorted(range(len(groups)), key=lambda place: (-groups[place].features.verifier, -logits[place]))
        best, logit = groups[ranked[0]], logits[ranked[0]]
        stage = Stage.BOOTSTRAP if found.rule is None else found.rule.stage(budget)
        threshold = self._threshold(found.rule, stage, budget)
        assessed = Assessed(best, logit, threshold, tuple(groups[place] for place in ranked[1:]))
        hopeless = found.rule is not None and found.rule.hopeless(budget)
        excused = found.rule is not None and found.rule.excuses(best.root, best.features.veto)
        final = self.guards_final and (self.certified_only or not excused)
        barred = budget < allowed or hopeless
        refusal = self._refusal(assessed, stage, tripped=found.tripped, final=final, barred=barred)
        if refusal is not None:
            return Forward(refusal, nearest, assessed)
        if self.guards_final and best.objection is not None:
            stage = Stage.ESTIMATED
        elif found.rule is not None and logit >= found.rule.threshold(budget).certified:
            stage = Stage.CERTIFIED
        return Serve(best.keys[0], stage, assessed)

    def _refusal(self, assessed: Assessed, stage: Stage, *, tripped: bool, final: bool, barred: bool) -> Reason | None:
        """Why a candidate is not served; None where it is. ``final`` is whether a guard's word is."""
        bootstrapped = stage is Stage.BOOTSTRAP
        unlikely = assessed.logit < assessed.threshold
        if tripped:
            return Reason.TRIPPED
        if assessed.group.objection is not None and (final or bootstrapped or unlikely):
            return assessed.group.objection
        if bootstrapped and (unlikely or barred or self.certified_only):
            return Reason.UNCERTIFIED
        if (
            unlikely
            or assessed.group.similarity < LEAST_SIMILARITY
            or (bootstrapped and assessed.group.similarity < self.bootstrap.similarity)
        ):
            return Reason.BELOW_THRESHOLD
        return None

    def _threshold(self, rule: Rule | None, stage: Stage, budget: float) -> float:
        if stage is Stage.BOOTSTRAP or rule is None:
            return self.bootstrap.logit
        known = rule.threshold(budget)
        return known.certified if self.certified_only else min(known)


def audit_rate(stage: Stage | None, hits: int, rate: float, *, affordable: bool = True) -> float:
    """The share of hits to audit: more of the first, never less than a twentieth, none where nothing is promised.

    More of the first only where that is ``affordable``: what is promised is watched in any case.
    """
    match stage:
        case None:
            return 0.0
        case _ if not affordable:
            return max(LEAST_AUDITS, rate)
        case Stage.BOOTSTRAP if hits < BOOTSTRAP_HITS:
            return max(BOOTSTRAP_AUDITS, rate)
        case Stage.ESTIMATED if hits < UNPROVEN_HITS:
            return max(UNPROVEN_AUDITS, rate)
        case _:
            return max(LEAST_AUDITS, rate)
