"""Policies tried off line: each arm over the same streams, or over the same pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from threadpoolctl import threadpool_limits

from cacheproxy.core.features import Key
from cacheproxy.core.guards import GUARDS
from cacheproxy.core.policy import CertifiedPolicy, Found, Serve, ThresholdPolicy
from cacheproxy.core.pool import Pool, Rule
from cacheproxy.core.vcache import VCachePolicy
from cacheproxy.lab import offline
from cacheproxy.lab.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.core.policy import Policy
    from cacheproxy.lab.labelled import Pair
    from cacheproxy.lab.offline import Corpus, Run
    from cacheproxy.lab.streams import Domain, Stream

NO_GUARDS: Final = frozenset(guard.reason for guard in GUARDS)
_OTHER_DICE: Final = 1_000_003
"""Orderings and the coins of a run come from seeds that never meet."""
_STORED: Final = "stored"
"""The one entry of a pair: no rule that was learnt on a stream knows its answer."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A policy under a name, with how it is run."""

    name: str
    policy: Policy
    budget: float = 0.01
    prior: Likelihood | None = None
    rules: offline.Rules = offline.Rules()  # noqa: RUF009 - frozen
    scored: bool = False
    """Whether the policy computes a chance of being right."""

    def run(
        self, corpus: Corpus, stream: Stream, *, seed: int, on_progress: Callable[[int], None] = lambda _: None
    ) -> Run:
        """Once over a stream."""
        with threadpool_limits(1, "blas"):  # a look-up is too small for threads: they waited for each other
            return offline.run(
                corpus,
                stream.questions.tolist(),
                stream.classes.tolist(),
                self.policy,
                pool=Pool(budget=self.budget, prior=self.prior, guards_final=self.policy.guards_final),
                chance=np.random.default_rng(seed + _OTHER_DICE),
                rules=self.rules,
                on_progress=on_progress,
            )


def certified(
    budget: float,
    prior: Likelihood | None,
    *,
    name: str = "",
    guards: bool = True,
    guards_final: bool = True,
    certified_only: bool = False,
    rules: offline.Rules = offline.Rules(),  # noqa: B008 - frozen
) -> Arm:
    """Ours."""
    policy = CertifiedPolicy(
        budget,
        frozenset() if guards else NO_GUARDS,
        prior=None if prior is None else Rule(prior),
        certified_only=certified_only,
        guards_final=guards_final,
    )
    return Arm(name or f"certified {budget:g}", policy, budget, prior, rules, scored=True)


def threshold(least: float, *, guards: bool = True) -> Arm:
    """Similar enough, with guards or without."""
    name = f"threshold {least:g}" if guards else f"threshold {least:g}, no guards"
    return Arm(name, ThresholdPolicy(least, frozenset() if guards else NO_GUARDS))


def vcache(delta: float, rules: offline.Rules = offline.Rules()) -> Arm:  # noqa: B008 - frozen
    """The published one. It knows neither aliases nor further candidates: it looks at the nearest entry alone."""
    return Arm(f"vcache {delta:g}", VCachePolicy(delta), rules=replace(rules, neighbors=1, judged=1, aliases=0))


def over_streams(
    arms: Sequence[Arm],
    domain: Domain,
    corpus: Corpus,
    *,
    requests: int,
    orderings: int,
    seed: int,
    on_progress: Callable[[str, int], None] = lambda _name, _request: None,
) -> list[Tally]:
    """Each arm over the same orderings. ``corpus`` is of ``domain.texts``."""
    streams = [domain.stream(requests, np.random.default_rng(seed + each)) for each in range(orderings)]
    return [
        Tally(
            arm.name,
            [
                arm.run(corpus, stream, seed=seed + each, on_progress=partial(on_progress, arm.name))
                for each, stream in enumerate(streams)
            ],
            arm.scored,
        )
        for arm in arms
    ]


def over_pairs(
    arms: Sequence[Arm],
    pairs: Sequence[Pair],
    corpus: Corpus,
    *,
    seed: int,
    rule: Rule | None = None,
    on_progress: Callable[[str, int], None] = lambda _name, _request: None,
) -> list[Tally]:
    """Each arm on each pair alone: its first question is all that is stored when the second is asked.

    Pairs of one text are exact hits.

    ``corpus`` is of the first pair's two texts, then of the second's, and so on. Nothing is learnt; what a pool had
    learnt before is its ``rule``.
    """
    return [
        Tally(arm.name, [_decided(arm, pairs, corpus, rule, seed, partial(on_progress, arm.name))], arm.scored)
        for arm in arms
    ]


def _decided(
    arm: Arm,
    pairs: Sequence[Pair],
    corpus: Corpus,
    rule: Rule | None,
    seed: int,
    on_progress: Callable[[int], None],
) -> Run:
    count = len(pairs)
    run = offline.Run(
        np.zeros(count, np.int8),
        np.zeros(count, np.bool_),
        [None] * count,
        np.clip(np.einsum("nd,nd->n", corpus.vectors[0::2], corpus.vectors[1::2]).astype(np.float64), 0.0, 1.0),
        np.zeros(count),
        np.array([pair.same for pair in pairs], np.bool_),
    )
    dice = np.random.default_rng(seed + _OTHER_DICE)
    for place, pair in enumerate(pairs):
        on_progress(place)
        if pair.a.strip() == pair.b.strip():
            run.outcome[place], run.similarity[place], run.candidate_right[place] = offline.EXACT, 0.0, False
            continue
        key = Key(_STORED, _STORED, float(run.similarity[place]), corpus.profiles[2 * place])
        found = Found(corpus.profiles[2 * place + 1], [key], rule=rule)
        compare = corpus.compare if arm.rules.verify else None
        closer = None if compare is None else lambda _, at=place, compare=compare: compare(2 * at + 1, 2 * at)
        decision = offline.decided(arm.policy, found, dice.random(), closer)
        if decision.assessed is not None:
            run.chance[place] = decision.assessed.chance
        if isinstance(decision, Serve):
            run.outcome[place] = offline.SEMANTIC
            run.wrong[place] = not pair.same
            run.stage[place] = decision.stage
    return run
