"""How likely is a candidate answer right? A logistic model over bent features, started from a prior.

Each feature is cut into ramps (piecewise linear pieces between fixed knots), so that a linear model can follow its
bends and never runs away beyond the range that was seen. Fitting is penalised towards the prior's weights: with few
labels the prior speaks, with many the deployment's own do. What a verifier says of the few candidates that it was
asked about corrects what is known without it, and is fitted after that. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.core.features import FEATURE_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

KNOTS: Final[Mapping[str, tuple[float, ...]]] = {
    "similarity": (0.3, 0.45, 0.55, 0.65, 0.75, 0.85, 0.92, 0.97, 1.0),
    "similarity_3": (0.3, 0.45, 0.6, 0.75, 0.9),
    "share": (0.0, 0.25, 0.5, 0.75, 0.9, 0.98, 1.0),
    "margin": (-0.1, 0.0, 0.02, 0.05, 0.1, 0.2, 0.4),
    "keys": (1, 2, 4, 8, 16),
    "right": (0.0, 0.7, 1.4, 2.2, 3.0),
    "wrong": (0.0, 0.7, 1.4, 2.2, 3.0),
    "groups": (1, 2, 4, 8, 16),
    "uncovered": (0.0, 0.2, 0.4, 0.6, 1.0),
    "uncovered_words": (0, 1, 2, 4),
    "farthest": (0.2, 0.4, 0.6, 0.8),
    "overlap": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    "length_ratio": (0.0, 0.25, 0.5, 1.0),
    "length": (0.7, 1.4, 2.0, 3.0),
    "difference": (0, 1, 2, 4, 8),
    "objected": (0, 1),
    "vetoed_amount": (0, 1),
    "vetoed_sense": (0, 1),
    "verifier": (0, 1),
    "verified": (0.0, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
}
"""Where each feature may bend: flat outside the first and the last, linear from one to the next."""
PRODUCTS: Final = (
    ("similarity", "share", 1.0),
    ("similarity", "margin", 5.0),
    ("similarity", "uncovered", 1.0),
    ("similarity", "keys", 0.125),
    ("share", "keys", 0.125),
    ("share", "uncovered", 1.0),
)
"""Pairs of features whose product counts too, and what it is scaled by."""
VERSION: Final = 2
"""Of the features and knots: weights fitted with others mean nothing."""

VETO: Final = -4.0
"""The prior's weight of a veto, at most: guards are believed until a pool's own verdicts say that they err there."""

_RIDGE: Final = 1.0
_INTERCEPT_RIDGE: Final = 0.1
_ENOUGH: Final = 1e-3
"""A fit ends when a step gains less log-likelihood than this."""
_STEPS: Final = 100
_SUFFICIENT: Final = 1e-4
_SMALLEST: Final = 1e-4
_COLUMN: Final = {name: column for column, name in enumerate(FEATURE_NAMES)}
_PIECES: Final = [(_COLUMN[name], low, high) for name, knots in KNOTS.items() for low, high in pairwise(knots)]
_COLUMNS: Final = np.array([column for column, _, _ in _PIECES])
_LOWS: Final = np.array([low for _, low, _ in _PIECES], dtype=np.float64)
_WIDTHS: Final = np.array([high - low for _, low, high in _PIECES], dtype=np.float64)
_LEFT: Final = np.array([_COLUMN[left] for left, _, _ in PRODUCTS])
_RIGHT: Final = np.array([_COLUMN[right] for _, right, _ in PRODUCTS])
_SCALES: Final = np.array([scale for _, _, scale in PRODUCTS])
WEIGHTS: Final = 1 + len(_PIECES) + len(PRODUCTS)
"""How many weights a model has."""
_VERIFYING: Final = np.zeros(WEIGHTS, np.bool_)
_VERIFYING[1 : 1 + len(_PIECES)] = [FEATURE_NAMES[column] in {"verifier", "verified"} for column, _, _ in _PIECES]
_COMPARED: Final = int(np.argmax(_VERIFYING))
"""The column that says whether a verifier was asked."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A fitted model. ``weights`` has shape (WEIGHTS,), the intercept first."""

    weights: Matrix

    def logits(self, features: Matrix) -> Matrix:
        """Log odds of being right, for rows of features: shape (rows,)."""
        return bent(features) @ self.weights


def believing_guards(model: Likelihood) -> Likelihood:
    """The model with vetoes that count fully, as a prior must have them."""
    weights = model.weights.copy()
    for piece, (column, _, _) in enumerate(_PIECES, 1):
        if FEATURE_NAMES[column].startswith("vetoed"):
            weights[piece] = min(weights[piece], VETO)
    return Likelihood(weights)


def bent(features: Matrix) -> Matrix:
    """The ramps and products of rows of features: shape (rows, WEIGHTS)."""
    ramps = np.clip((features[:, _COLUMNS] - _LOWS) / _WIDTHS, 0.0, 1.0)
    products = features[:, _LEFT] * features[:, _RIGHT] * _SCALES
    return np.concatenate([np.ones((len(features), 1)), ramps, products], axis=1)


def fit(rows: Matrix, right: Matrix, *, prior: Likelihood | None = None) -> Likelihood:
    """The model that explains verdicts (1 right, 0 wrong) best without leaving the prior for little.

    ``rows`` are bent features.
    """
    start = np.zeros(WEIGHTS) if prior is None else prior.weights
    ridge = np.full(WEIGHTS, _RIDGE)
    ridge[0] = _INTERCEPT_RIDGE
    weights, known = start.copy(), ~_VERIFYING
    weights[known], _ = logistic(rows[:, known], right, start=start[known], ridge=ridge[known], enough=_ENOUGH)
    compared = rows[:, _COMPARED] > 0
    if compared.any():
        before = rows[compared][:, known] @ weights[known]
        weights[_VERIFYING], _ = logistic(
            rows[compared][:, _VERIFYING],
            right[compared],
            start=start[_VERIFYING],
            ridge=ridge[_VERIFYING],
            offset=before,
            enough=_ENOUGH,
        )
    return Likelihood(weights)


def logistic(
    rows: Matrix,
    right: Matrix,
    *,
    start: Matrix,
    ridge: Matrix,
    counts: Matrix | float = 1.0,
    offset: Matrix | float = 0.0,
    enough: float = 1e-9,
) -> tuple[Matrix, Matrix]:
    """The weights that explain ``right`` best, penalised by ``ridge`` for leaving ``start``; and the curvature there.

    ``counts`` is how much each row counts, ``offset`` what is known of it already, in log odds.

    Damped Newton steps on the penalised log-likelihood, which is strictly convex where ``ridge`` is positive: the
    result depends on nothing else. It ends when a step gains less than ``enough``.
    """

    def loss(weights: Matrix) -> tuple[float, Matrix]:
        logits = offset + rows @ weights
        penalty = 0.5 * float(ridge @ (weights - start) ** 2)
        return float(np.sum(counts * (np.logaddexp(0.0, logits) - right * logits))) + penalty, logits

    def curvature(logits: Matrix) -> tuple[Matrix, Matrix]:
        chance = sigmoid(logits)
        return chance, (rows * (counts * chance * (1 - chance))[:, None]).T @ rows + np.diag(ridge)

    weights = start.copy()
    best, logits = loss(weights)
    for _ in range(_STEPS):
        chance, curve = curvature(logits)
        slope = rows.T @ (counts * (chance - right)) + ridge * (weights - start)
        step = np.linalg.solve(curve, slope)
        size = 1.0
        trial, trial_logits = loss(weights - step)
        while trial > best - _SUFFICIENT * size * float(slope @ step) and size > _SMALLEST:
            size /= 2
            trial, trial_logits = loss(weights - size * step)
        if trial >= best:
            break
        weights = weights - size * step
        gained, best, logits = best - trial, trial, trial_logits
        if gained < enough:
            break
    return weights, curvature(logits)[1]


def sigmoid(logits: Matrix) -> Matrix:
    """1 / (1 + exp(-x)), without overflow."""
    clipped = np.clip(logits, -35.0, 35.0)
    chance: Matrix = 1.0 / (1.0 + np.exp(-clipped))
    return chance
