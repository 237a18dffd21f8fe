"""Verdicts to fit a prior on, from labelled questions: what a proxy in shadow mode would have learnt from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.core.features import Key, describe, with_verified
from cacheproxy.core.policy import CertifiedPolicy
from cacheproxy.core.pool import Pool
from cacheproxy.lab import offline
from cacheproxy.lab.corpus import corpus_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cacheproxy.core.features import Features, Verified
    from cacheproxy.core.labels import Label
    from cacheproxy.core.profile import Profile
    from cacheproxy.lab.labelled import Pair
    from cacheproxy.lab.streams import Domain

    Verdict = tuple[Features, bool]
    Compare = Callable[[int, int], Verified]

_BUDGET: Final = 0.01
"""Decides nothing where nothing is served."""


def verdicts_on_pairs(
    pairs: Sequence[Pair],
    profiles: Sequence[Profile],
    vectors: NDArray[np.float32],
    compare: Compare | None = None,
) -> list[Verdict]:
    """Each pair is a verdict: its second question asked where the first one alone is stored.

    ``profiles`` and ``vectors`` are of the first pair's two texts, then of the second's, and so on, which are the
    places that ``compare``, a verifier, is given.
    """
    similarities = np.clip(np.einsum("nd,nd->n", vectors[0::2], vectors[1::2]), 0.0, 1.0)
    verdicts = []
    for at, (pair, similarity) in enumerate(zip(pairs, similarities, strict=True)):
        groups = describe(profiles[2 * at + 1], [Key("0", "0", float(similarity), profiles[2 * at])], {})
        if compare is not None:
            groups = with_verified(groups, compare(2 * at + 1, 2 * at)._replace(root="0"))
        verdicts.append((groups[0].features, pair.same))
    return verdicts


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
    compare: Compare | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Verdict]:
    """Every miss with a candidate is a verdict. ``vectors`` are those of ``domain.texts``.

    ``compare`` is a verifier, asked where the decision is close.
    """
    stream = domain.stream(requests, np.random.default_rng(seed))
    listener = _Listener()
    offline.run(
        corpus_of(domain.texts, vectors, compare),
        stream.questions.tolist(),
        stream.classes.tolist(),
        CertifiedPolicy(_BUDGET),
        pool=listener,
        chance=np.random.default_rng(seed),
        rules=offline.Rules(shadow=requests, verify=compare is not None),
        on_progress=on_progress,
    )
    return listener.heard
