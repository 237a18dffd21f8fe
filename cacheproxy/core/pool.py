"""A pool: the verdicts that a promise rests on, the rule that they lead to, and the watch over it.

A pool gathers scopes that share a promise, since one scope alone seldom has verdicts enough; what is promised holds for
the pool. Verdicts come in as ``Label``s with the features as they were *before* the verdict. ``refit`` turns them into a
``Rule``. Pure: it may run in a thread, and the same labels give the same rule.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from cacheproxy.core import certificate
from cacheproxy.core.features import NO_RECORD, Features, Record, matrix
from cacheproxy.core.likelihood import Likelihood, bent, fit
from cacheproxy.core.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

LABELS_KEPT: Final = 4_000
"""Older ones have aged out."""
LABELS_LIVE_S: Final = 14 * 86_400.0
LABELS_PER_ROOT: Final = 40
"""Errors cluster by answer: no answer speaks louder than this."""
OBSERVED_PER_ROOT: Final = 256
ROOTS_KEPT: Final = 10_000
"""Answers with a record: past so many, those go that were judged longest ago."""
FAIR_SHARES: Final = 4
"""So many times its fair share of the labels one caller may have: nobody teaches the cache alone."""
TRAFFIC_KEPT: Final = 2_000
FIRST_FIT: Final = 100
FIT_GROWTH: Final = 1.3
"""A rule is made anew when the labels have grown by this."""
BUDGETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)
"""The budgets that a rule knows thresholds for, beside the operator's own."""
GREY: Final = 1.0
"""Log odds on either side of a threshold."""
DRIFT_WINDOW: Final = 200
DRIFT_DEVIATIONS: Final = 3.0
_FOLDS: Final = 5
_NEVER: Final = math.inf


class Source(StrEnum):
    """How a label came about."""

    MISS = "miss"
    """The upstream was asked anyway, so only the judgement cost something."""
    AUDIT = "audit"
    """A hit, asked again by a coin that was thrown before deciding."""


@dataclass(frozen=True, slots=True)
class Label:
    """A verdict on one candidate."""

    at: float
    root: str
    features: Features
    right: bool
    source: Source
    inclusion: float = 1.0
    """The chance with which this label was asked for: 1 on misses, the audit rate on hits."""
    principal: str = ""
    """Who asked: a keyed hash. No caller's labels make up more than a share of a fit."""


class Stage(StrEnum):
    """How much a rule promises."""

    BOOTSTRAP = "uncertified"
    """Too few labels: a high similarity, every guard, and the prior."""
    ESTIMATED = "estimated"
    """Labels say that the budget is kept, and do not prove it yet."""
    CERTIFIED = "certified"
    """Everything that is served is covered by the certificate."""
    SHADOW = "shadow"
    """The promise was broken, or may have been: nothing similar is served until labels say otherwise."""


class Threshold(NamedTuple):
    """Scores (log odds) from which answers are served under one budget; infinite where none are."""

    estimated: float = _NEVER
    certified: float = _NEVER


@dataclass(frozen=True, slots=True)
class Rule:
    """What serves, until the next fit."""

    model: Likelihood
    thresholds: Mapping[float, Threshold] = field(default_factory=dict)
    """By budget, at least the operator's."""
    labels: int = 0
    """How many there had been when it was made."""
    grey: float = 0.0
    """The share of requests near the operator's threshold at that time."""

    def threshold(self, budget: float) -> Threshold:
        """For the largest known budget that is no larger than the one asked for."""
        known = [own for own in self.thresholds if own <= budget * (1 + 1e-9)]
        return self.thresholds[max(known)] if known else Threshold()

    def stage(self, budget: float) -> Stage:
        """What may be said of what it serves."""
        threshold = self.threshold(budget)
        if not self.thresholds or threshold.estimated == threshold.certified == _NEVER:
            return Stage.BOOTSTRAP
        return Stage.CERTIFIED if threshold.certified <= threshold.estimated else Stage.ESTIMATED


def refit(
    labels: Sequence[Label],
    traffic: Sequence[Features],
    *,
    prior: Likelihood | None,
    budget: float,
    total: int,
) -> Rule:
    """A new rule from labels (oldest first) and the candidates of recent requests, labelled or not.

    ``total`` counts all labels that ever came. Scores for thresholds come from models that did not see their label's
    answer: five folds by root. ``budget`` is the operator's; the rule knows stricter and looser ones too.
    """
    kept = _capped(labels)
    rows = bent(matrix([label.features for label in kept]))
    right = np.array([label.right for label in kept], dtype=np.float64)
    weights = np.array([1 / label.inclusion for label in kept])
    folds = np.array([zlib.crc32(label.root.encode()) % _FOLDS for label in kept])
    scores = np.zeros(len(kept))
    for fold in range(_FOLDS):
        others = folds != fold
        if not others.all():
            scores[~others] = rows[~others] @ fit(rows[others], right[others], prior=prior).weights
    model = fit(rows, right, prior=prior)
    recent = model.logits(matrix(traffic))
    alpha = certificate.alpha_at(certificate.look_at(total))
    thresholds = {}
    for each in sorted({*BUDGETS, budget}):
        estimated = certificate.estimated(scores, right, weights, recent, budget=each * certificate.LAG)
        certified = certificate.certified(scores, right, budget=each, alpha=alpha)
        thresholds[each] = Threshold(
            _NEVER if estimated is None else estimated, _NEVER if certified is None else certified
        )
    rule = Rule(model, thresholds, total)
    return replace(rule, grey=grey_share(recent, rule.threshold(budget)))


def grey_share(scores: Matrix, threshold: Threshold) -> float:
    """The share of scores within GREY of a threshold: where decisions are close."""
    near = np.abs(scores - min(threshold)) < GREY
    return float(near.mean()) if len(near) else 0.0


def _capped(labels: Sequence[Label]) -> list[Label]:
    """The newest labels: at most so many of one answer, and of one caller four times a fair share."""
    newest = labels[-LABELS_KEPT:]
    principals = {label.principal for label in newest}
    fair = max(FIRST_FIT, FAIR_SHARES * len(newest) // (len(principals) or 1))
    of_root: dict[str, int] = {}
    of_principal: dict[str, int] = {}
    kept: list[Label] = []
    for label in reversed(newest):
        of_root[label.root] = of_root.get(label.root, 0) + 1
        of_principal[label.principal] = of_principal.get(label.principal, 0) + 1
        if of_root[label.root] <= LABELS_PER_ROOT and of_principal[label.principal] <= fair:
            kept.append(label)
    return kept[::-1]


class Pool:
    """What one pool knows, in memory. No I/O: whoever owns it persists the labels and adds them again at the start."""

    def __init__(self, *, budget: float, prior: Likelihood | None) -> None:
        self.budget = budget
        self.prior = prior
        self.labels: deque[Label] = deque(maxlen=LABELS_KEPT)
        self.traffic: deque[Features] = deque(maxlen=TRAFFIC_KEPT)
        self.records: dict[str, Record] = {}
        self.observed: dict[str, list[tuple[float, bool]]] = {}
        self.rule: Rule | None = None
        self.monitor = Monitor()
        self.tripped = False
        self.total = 0
        """Labels since the pool began, or since it was tripped."""
        self.hits = 0
        """Semantic hits, likewise."""

    def saw(self, features: Features) -> None:
        """A request had this candidate, whatever came of it."""
        self.traffic.append(features)

    def add(self, label: Label) -> None:
        """A verdict came. An audit of a hit moves the monitor too; a broken promise puts the pool into shadow."""
        self.labels.append(label)
        self.total += 1
        self.judged(label.root, right=label.right, similarity=label.features.similarity)
        if label.source is Source.AUDIT:
            self.monitor = self.monitor.audited(right=label.right, budget=self.budget)
            if self.monitor.alarmed:
                self.trip()

    def judged(self, root: str, *, right: bool, similarity: float) -> None:
        """A verdict on an answer, for its record only."""
        record = self.records.pop(root, NO_RECORD)
        self.records[root] = Record(record.right + right, record.wrong + (not right))
        observed = self.observed.setdefault(root, [])
        if len(observed) < OBSERVED_PER_ROOT:
            observed.append((similarity, right))
        if len(self.records) > ROOTS_KEPT:
            oldest = next(iter(self.records))
            del self.records[oldest], self.observed[oldest]

    def trip(self) -> None:
        """Serve nothing similar until new verdicts, and they alone, lead to a rule."""
        self.tripped = True
        self.rule = None
        self.labels.clear()
        self.records.clear()
        self.observed.clear()
        self.total = 0
        self.hits = 0
        self.monitor = self.monitor.restarted()

    @property
    def stage(self) -> Stage:
        """What may be said of its hits under the operator's budget."""
        if self.tripped:
            return Stage.SHADOW
        return Stage.BOOTSTRAP if self.rule is None else self.rule.stage(self.budget)

    @property
    def drifted(self) -> bool:
        """Whether many more of the latest requests are close decisions than when the rule was made.

        Then the questions have changed, and what was promised rested on others. Three standard deviations of a share.
        """
        if self.rule is None or len(self.traffic) < DRIFT_WINDOW:
            return False
        latest = self.rule.model.logits(matrix(list(self.traffic)[-DRIFT_WINDOW:]))
        expected = max(self.rule.grey, 1 / DRIFT_WINDOW)
        deviation = math.sqrt(expected * (1 - expected) / DRIFT_WINDOW)
        return grey_share(latest, self.rule.threshold(self.budget)) > expected + DRIFT_DEVIATIONS * deviation

    @property
    def due(self) -> bool:
        """Whether there are labels enough for another fit."""
        return self.total >= (FIRST_FIT if self.rule is None else self.rule.labels * FIT_GROWTH)

    def fit(self) -> Rule:
        """The rule that the labels lead to. May run in a thread on ``snapshot``s; see ``refit``."""
        return refit(list(self.labels), list(self.traffic), prior=self.prior, budget=self.budget, total=self.total)

    def adopt(self, rule: Rule) -> None:
        """Serve by this rule from here on."""
        self.rule = rule
        self.tripped = False
