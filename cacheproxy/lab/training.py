"""Verdicts to fit a prior on, from labelled questions: what a proxy in shadow mode would have learnt from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.core.features import Key, describe
from cacheproxy.core.policy import CertifiedPolicy
from cacheproxy.core.pool import Pool
from cacheproxy.lab import offline
from cacheproxy.lab.corpus import corpus_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cacheproxy.core.features import Features
    from cacheproxy.core.pool import Label
    from cacheproxy.core.profile import Profile
    from cacheproxy.lab.labelled import Pair
    from cacheproxy.lab.streams import Domain

    Verdict = tuple[Features, bool]

_BUDGET: Final = 0.01
"""Decides nothing where nothing is served."""


def verdicts_on_pairs(
    pairs: Sequence[Pair], profiles: Sequence[Profile], vectors: NDArray[np.float32]
) -> list[Verdict]:
    """Each pair is a verdict: its second question asked where the first one alone is stored.

    ``profiles`` and ``vectors`` are of the first pair's two texts, then of the second's, and so on.
    """
    similarities = np.clip(np.einsum("nd,nd->n", vectors[0::2], vectors[1::2]), 0.0, 1.0)
    return [
        (describe(asked, [Key("0", "0", float(similarity), stored)], {})[0].features, pair.same)
        for pair, stored, asked, similarity in zip(pairs, profiles[0::2], profiles[1::2], similarities, strict=True)
    ]


class _Listener(Pool):
    """A pool that remembers every verdict and draws no conclusion."""

    def __init__(self) -> None:
        super().__init__(budget=_BUDGET, prior=None)
        self.heard: list[Verdict] = []

    def add(self, label: Label) -> None:
        self.heard.append((label.features, label.right))
        super().add(label)

    @property
    def due(self) -> bool:
        return False


def verdicts_on_stream(
    domain: Domain,
    vectors: NDArray[np.float32],
    *,
    requests: int,
    seed: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Verdict]:
    """Every miss with a candidate is a verdict. ``vectors`` are those of ``domain.texts``."""
    stream = domain.stream(requests, np.random.default_rng(seed))
    listener = _Listener()
    offline.run(
        corpus_of(domain.texts, vectors),
        stream.questions.tolist(),
        stream.classes.tolist(),
        CertifiedPolicy(_BUDGET),
        pool=listener,
        chance=np.random.default_rng(seed),
        rules=offline.Rules(shadow=True),
        on_progress=on_progress,
    )
    return listener.heard
