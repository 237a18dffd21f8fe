"""The vCache policy, from its paper's formulas (arXiv 2502.03771, sections 4.1 and 4.2): a baseline, and selectable.

Each cached answer keeps observations (similarity, right or not) and serves with a probability chosen so that at most
``delta`` of all *requests* get a wrong answer. That is another promise than wrong per hit, which may be far higher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import ndtri

from cacheproxy.core.features import describe
from cacheproxy.core.likelihood import logistic, sigmoid
from cacheproxy.core.policy import Assessed, Forward, Serve
from cacheproxy.model import Reason

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from cacheproxy.core.policy import Decision, Found

FEWEST: Final = 4
"""Observations before an answer is served at all."""
_EPSILONS: Final = np.linspace(0.01, 0.99, 50)
_START: Final = np.array([-8.0, 10.0])
_RIDGE: Final = np.array([1e-3, 1e-3])
_STEEPEST: Final = 200.0
_FLATTEST: Final = 1e-3
_SURE: Final = 1e-12
"""What is left of 1 - alpha where it vanishes."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """P(right | s) = sigmoid(gamma (s - t)), with the standard deviation of t."""

    gamma: float
    t: float
    sd: float


def boundary(observed: Sequence[tuple[float, bool]]) -> Boundary:
    """The boundary that explains observations best, slightly held so that separable ones have one too."""
    similarity = np.array([s for s, _ in observed])
    right = np.array([float(r) for _, r in observed])
    rows = np.stack([np.ones_like(similarity), similarity], axis=1)
    (intercept, slope), curve = logistic(rows, right, start=_START, ridge=_RIDGE)
    slope = max(float(slope), _FLATTEST)
    # Delta method: t = -intercept / slope.
    gradient = np.array([-1 / slope, intercept / slope**2])
    variance = float(gradient @ np.linalg.inv(curve) @ gradient)
    return Boundary(min(slope, _STEEPEST), float(-intercept / slope), math.sqrt(max(variance, 0.0)))


def serve_probability(found: Boundary, similarity: float, delta: float) -> float:
    """min(1, max over eps of delta / (1 - alpha)), alpha = (1 - eps) sigmoid(gamma (s - t')), t' = t + z(1-eps) sd."""
    shifted = np.clip(found.t + ndtri(1 - _EPSILONS) * found.sd, 0.0, 1.0)
    alpha = (1 - _EPSILONS) * sigmoid(found.gamma * (similarity - shifted))
    return float(min(1.0, np.max(delta / np.maximum(1 - alpha, _SURE))))


@dataclass(frozen=True, slots=True)
class VCachePolicy:
    """Serve the nearest entry with the probability that its observations allow; else explore."""

    delta: float
    disabled_guards: Container[Reason] = frozenset()
    guards_final: bool = False
    keeps_budgets: bool = False
    learns: bool = True

    def decide(self, found: Found, *, draw: float) -> Decision:
        """The nearest key only; ``found.observed`` has its root's observations."""
        if not found.keys:
            return Forward(Reason.NO_NEIGHBOR)
        nearest = found.keys[0]
        (group,) = describe(found.asked, [nearest], found.records, disabled_guards=self.disabled_guards)
        observed = found.observed.get(nearest.root, ())
        assessed = Assessed(group, 0.0, 0.0)
        if len(observed) < FEWEST or draw >= serve_probability(boundary(observed), nearest.similarity, self.delta):
            return Forward(Reason.UNCERTIFIED, nearest.similarity, assessed)
        return Serve(nearest, None, assessed)
