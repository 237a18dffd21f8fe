"""A pool: the verdicts that a promise rests on, the rule that they lead to, and the watch over it.

A pool gathers scopes that share a promise, since one scope alone seldom has verdicts enough; what is promised holds for
the pool. Verdicts come in as labels; ``refit`` turns them into a ``Rule``. Pure: it may run in a thread, and the same
labels give the same rule.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from cacheproxy.core import certificate
from cacheproxy.core.features import NO_RECORD, Features, Record, Veto, matrix, servable
from cacheproxy.core.judge_noise import UNMEASURED, Noise
from cacheproxy.core.labels import FIRST_FIT, LABELS_KEPT, Label, Source, capped
from cacheproxy.core.likelihood import Likelihood, bent, fit
from cacheproxy.core.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

OBSERVED_PER_ROOT: Final = 256
"""Observations that vCache keeps of one answer: the first ones."""
ROOTS_KEPT: Final = 10_000
"""Answers with a record: past so many, those go that were judged longest ago."""
TRAFFIC_KEPT: Final = 2_000
"""Recent candidates that an error is estimated over."""
FIT_GROWTH: Final = 1.3
"""A rule is made anew when the labels have grown by this, and at the latest when the labels that made it aged out."""
BUDGETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)
"""The budgets that a rule knows thresholds for, beside the operator's own."""
GREY: Final = 1.0
"""Log odds on either side of a threshold within which a decision is close."""
DRIFT_WINDOW: Final = 200
"""The latest requests, whose close decisions are counted ..."""
DRIFT_DEVIATIONS: Final = 3.0
"""... and are too many when they are so many standard deviations over what was expected."""
HOPELESS: Final = 2_000
"""With so many labels and still no score at which the budget is kept, the bootstrap rule ends: it may break it too."""
NEEDLESS: Final = 3
"""Verdicts on what only guards held back that show them to be needless at an answer, if all are right ..."""
NEEDLESS_PER_WRONG: Final = 20
"""... and so many more for each that is wrong."""
_FOLDS: Final = 5
_NEVER: Final = math.inf


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
    needless: frozenset[tuple[str, Veto]] = frozenset()
    """Answers, by their root, and what guards need not object to there."""

    def excuses(self, root: str, veto: Veto | None) -> bool:
        """Whether verdicts on this very answer have shown that it does not turn on what a guard objects to."""
        return veto is not None and (root, veto) in self.needless

    def threshold(self, budget: float) -> Threshold:
        """For the largest known budget that is no larger than the one asked for."""
        known = [own for own in self.thresholds if own <= budget * (1 + 1e-9)]
        return self.thresholds[max(known)] if known else Threshold()

    def hopeless(self, budget: float) -> bool:
        """Whether many labels have shown no score at which the budget is kept."""
        return self.labels >= HOPELESS and min(self.threshold(budget)) == _NEVER

    def stage(self, budget: float) -> Stage:
        """What may be said of what it serves."""
        threshold = self.threshold(budget)
        if not self.thresholds or threshold.estimated == threshold.certified == _NEVER:
            return Stage.BOOTSTRAP
        return Stage.CERTIFIED if threshold.certified <= threshold.estimated else Stage.ESTIMATED


def fits_at(labels: int) -> int:
    """How many labels had come when a rule was last due, of so many by now; 0 before the first.

    Always the same counts, so that a rule can be made anew after a restart, and be the same.
    """
    at, following = 0, FIRST_FIT
    while following <= labels:
        at, following = following, math.ceil(min(following * FIT_GROWTH, following + LABELS_KEPT))
    return at


def refit(
    labels: Sequence[Label],
    traffic: Sequence[Features],
    *,
    prior: Likelihood | None,
    budget: float,
    total: int,
    noise: Noise = UNMEASURED,
    earlier: int = 0,
    looks: bool = True,
    guards_final: bool = True,
) -> Rule:
    """A new rule from labels (oldest first) and the candidates of recent requests, labelled or not.

    ``total`` counts all labels that ever came, but for ``earlier`` ones, which only had their looks (see ``Pool``);
    ``looks`` says whether a proof is looked for, which spends confidence. ``noise`` is the judge's. Scores for
    thresholds come from models that did not see their label's answer: five folds by root. ``budget`` is the operator's;
    the rule knows stricter and looser ones too. A proof rests on what is ``servable`` alone: the rest is not served,
    and how often it is right says nothing of what is. An estimate takes all labels: it goes by what a score means,
    which the model gives the same meaning whatever a guard says, and on few labels it was too low.
    """
    kept = capped(labels)
    # Threads gain nothing on tables this small, and wait for each other where cores are busy: 20 times as long.
    with threadpool_limits(1, "blas"):
        models, model = _cross_fitted(kept, prior)
        fair = _fair(kept)
        guessed = _judged(fair, models)
        proofs = _judged(_open(_fair(capped(labels, of_root=LABELS_KEPT)), guards_final=guards_final), models)
        recent = model.logits(matrix(traffic))
    openly = np.array([servable(each, guards_final=guards_final) for each in traffic], np.bool_)
    thresholds = {}
    seen = total + earlier if looks else 0
    looser = Threshold(-_NEVER, -_NEVER)
    for each in sorted({*BUDGETS, budget}, reverse=True):
        estimated = certificate.estimated(
            guessed.scores, guessed.right, recent[openly], budget=each * certificate.LAG, counts=guessed.counts
        )
        certified = certificate.certified(
            proofs.scores,
            proofs.right,
            budget=each,
            alpha=certificate.alpha_at(certificate.look_at(seen, each, growth=FIT_GROWTH, most=LABELS_KEPT)),
            roots=proofs.roots,
            counts=proofs.counts,
            missed=noise.missed,
        )
        # A scan ends at its first failure, so a stricter budget may begin past where a looser one failed. It never
        # serves more.
        looser = thresholds[each] = Threshold(
            max(looser.estimated, _NEVER if estimated is None else estimated),
            max(looser.certified, _NEVER if certified is None else certified),
        )
    rule = Rule(model, thresholds, total)
    own = rule.threshold(budget)
    needless = _needless(fair, guessed.scores, min(own))
    return replace(rule, grey=grey_share(recent, own), needless=needless)


def _needless(labels: Sequence[Label], scores: Matrix, least: float) -> frozenset[tuple[str, Veto]]:
    """What guards need not object to, answer by answer: they alone held back what verdicts then called right.

    What would not have been served without them, at a score of ``least``, says nothing of guards, right or wrong.
    """
    right, wrong = Counter[tuple[str, Veto]](), Counter[tuple[str, Veto]]()
    for label, score in zip(labels, scores.tolist(), strict=True):
        veto = label.features.veto
        if veto is not None and score >= least and servable(label.features, guards_final=False):
            (right if label.right else wrong)[label.root, veto] += 1
    return frozenset(which for which, count in right.items() if count >= NEEDLESS + NEEDLESS_PER_WRONG * wrong[which])


def grey_share(scores: Matrix, threshold: Threshold) -> float:
    """The share of scores within GREY of a threshold: where decisions are close."""
    near = np.abs(scores - min(threshold)) < GREY
    return float(near.mean()) if len(near) else 0.0


class _Judged(NamedTuple):
    """Labels as a certificate takes them. Arrays of one length."""

    scores: Matrix
    right: Matrix
    counts: Matrix
    """One over the chance with which each was asked for."""
    roots: NDArray[np.intp]


def _fair(labels: Sequence[Label]) -> list[Label]:
    return [label for label in labels if label.source is not Source.FEEDBACK]


def _open(labels: Sequence[Label], *, guards_final: bool) -> list[Label]:
    return [label for label in labels if servable(label.features, guards_final=guards_final)]


def _judged(labels: Sequence[Label], models: Sequence[Likelihood]) -> _Judged:
    return _Judged(
        _cross_scores(labels, models),
        _right(labels),
        np.array([1 / label.inclusion for label in labels]),
        np.unique([label.root for label in labels], return_inverse=True)[1],
    )


def cross_scored(labels: Sequence[Label], prior: Likelihood | None) -> Matrix:
    """The labels' log odds, each by a model that was fitted on all of them but those of its answer's fold."""
    return _cross_scores(labels, _cross_fitted(labels, prior)[0])


def _cross_fitted(labels: Sequence[Label], prior: Likelihood | None) -> tuple[list[Likelihood], Likelihood]:
    """Models each fitted without one fold of the answers, and the one that is fitted on all."""
    rows, right, folds = bent(matrix([label.features for label in labels])), _right(labels), _folds(labels)
    apart = [fit(rows[folds != fold], right[folds != fold], prior=prior) for fold in range(_FOLDS)]
    return apart, fit(rows, right, prior=prior)


def _cross_scores(labels: Sequence[Label], models: Sequence[Likelihood]) -> Matrix:
    """The labels' log odds, each by the model that did not see its answer."""
    rows, folds = bent(matrix([label.features for label in labels])), _folds(labels)
    scores = np.zeros(len(labels))
    for fold, model in enumerate(models):
        scores[folds == fold] = rows[folds == fold] @ model.weights
    return scores


def _folds(labels: Sequence[Label]) -> NDArray[np.intp]:
    return np.array([zlib.crc32(label.root.encode()) % _FOLDS for label in labels], np.intp)


def _right(labels: Sequence[Label]) -> Matrix:
    return np.array([label.right for label in labels], dtype=np.float64)


class Pool:
    """What one pool knows, in memory. No I/O: whoever owns it persists the labels and adds them again at the start."""

    def __init__(self, *, budget: float, prior: Likelihood | None, guards_final: bool = True) -> None:
        self.budget = budget
        self.prior = prior
        self.guards_final = guards_final
        """Whether what a guard vetoes is not served by a threshold, however likely it is to be right."""
        self.labels: deque[Label] = deque(maxlen=LABELS_KEPT)
        self.traffic: deque[Features] = deque(maxlen=TRAFFIC_KEPT)
        self.records: dict[str, Record] = {}
        self.observed: dict[str, list[tuple[float, bool]]] = {}
        self.rule: Rule | None = None
        self.monitor = Monitor()
        self.tripped = False
        self.total = 0
        """Labels since the pool began, or since it was tripped."""
        self.earlier = 0
        """Labels of earlier runs that are not kept any more: they had looks, which spent of the confidence."""
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
        self.earlier = 0
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

        Then the questions have changed, and what was promised rested on others.
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
        if self.rule is None:
            return self.total >= FIRST_FIT
        # Of all labels, those of earlier runs too: each fit is to be a look of its own (``certificate.look_at``).
        return fits_at(self.total + self.earlier) > self.rule.labels + self.earlier

    def fitting(self, *, noise: Noise = UNMEASURED) -> Callable[[], Rule]:
        """What makes the rule that is due, from copies: it may be called in a thread.

        It rests on the labels that there were when it was due. Where these are gone, after a restart, all that there
        are lead to a rule that only estimates: what was proven was proven with them, and a look of its own comes later.
        """
        due = fits_at(self.total + self.earlier) - self.earlier
        looks = due >= FIRST_FIT
        total = due if looks else self.total
        return partial(
            refit,
            list(self.labels)[: len(self.labels) - (self.total - total)],
            list(self.traffic),
            prior=self.prior,
            budget=self.budget,
            total=total,
            noise=noise,
            earlier=self.earlier,
            looks=looks,
            guards_final=self.guards_final,
        )

    def fit(self) -> Rule:
        """The rule that the labels lead to."""
        return self.fitting()()

    def adopt(self, rule: Rule) -> None:
        """Serve by this rule from here on.

        Shadow ends with the first rule that promises something. One that was fitted before a trip is ignored: it rests
        on labels that the trip discarded.
        """
        if rule.labels > self.total:
            return
        self.rule = rule
        if rule.stage(self.budget) is not Stage.BOOTSTRAP:
            self.tripped = False
