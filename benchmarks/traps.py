"""Pairs that look alike and are not, and pairs that are the same: CheckList's suite, and what users complained about.

Each pair is decided on alone: one question stored, the other one asked. "No verdicts yet" is a fresh proxy with the
prior; "after ..." is one whose rule was learnt on a stream of that domain, at the same budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from domains import FILES, read_domain

from cacheproxy.core.pool import Pool
from cacheproxy.lab import offline
from cacheproxy.lab.corpus import corpus_of
from cacheproxy.lab.evaluate import certified, over_pairs, threshold
from cacheproxy.lab.labelled import read_labelled
from cacheproxy.lab.lookalikes import LOOKALIKES
from cacheproxy.lab.streams import Domain, Part
from cacheproxy.lab.tally import Proportion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from domains import Embeddings

    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.core.pool import Rule
    from cacheproxy.lab.labelled import Pair
    from cacheproxy.lab.tally import Tally

BUDGETS = (0.01, 0.02)
REQUESTS = 6_000


def measure(data: Path, embeddings: Embeddings, prior: Likelihood) -> dict[str, Any]:
    """Both suites under each rule."""
    read = read_labelled(data / "checklist_qqp.jsonl.gz")
    assert not isinstance(read, Domain)
    suites: dict[str, Sequence[Pair]] = {
        "CheckList": [pair for pair in read if pair.a.strip() != pair.b.strip()],
        "look-alikes": LOOKALIKES,
    }
    results: dict[str, Any] = {}
    learnt = {(name, budget): _learnt(name, budget, data, embeddings, prior) for name in FILES for budget in BUDGETS}
    for suite, pairs in suites.items():
        texts = [text for pair in pairs for text in (pair.a, pair.b)]
        corpus = corpus_of(texts, embeddings.of(texts))
        told: dict[str, Any] = {}
        for least in (0.9, 0.95):
            for guards in (False, True):
                (tally,) = over_pairs([threshold(least, guards=guards)], pairs, corpus, seed=0)
                told[tally.name] = _told(tally)
        for budget in BUDGETS:
            for name, rule in {"": None, **{name: learnt[name, budget] for name in FILES}}.items():
                (tally,) = over_pairs([certified(budget, prior)], pairs, corpus, seed=0, rule=rule)
                told[f"ours {budget:g}, {f'after {name}' if name else 'no verdicts yet'}"] = _told(tally)
        results[suite] = told
        print(f"{suite}: {len(pairs):,} pairs, {sum(pair.same for pair in pairs):,} of them the same")
        for name, row in told.items():
            wrong, kept, fooled = row["wrong_per_served"], row["same_served"], row["different_served"]
            print(
                f"  {name:34} wrong per served {wrong['count']:>4}/{wrong['of']:<5} {wrong['rate']:6.2%}"
                f" [{wrong['low']:.2%}, {wrong['high']:.2%}]  same served {kept['rate']:6.1%}"
                f"  different served {fooled['rate']:6.2%}"
            )
    return results


def _told(tally: Tally) -> dict[str, Any]:
    (run,) = tally.runs
    different = ~run.candidate_right
    served = run.outcome == offline.SEMANTIC
    return {
        "wrong_per_served": tally.wrong.to_json(),
        "same_served": tally.recall.to_json(),
        "different_served": Proportion(int((served & different).sum()), int(different.sum())).to_json(),
    }


def _learnt(name: str, budget: float, data: Path, embeddings: Embeddings, prior: Likelihood) -> Rule | None:
    domain = read_domain(name, data).part(Part.REPORT)
    arm, pool = certified(budget, prior), Pool(budget=budget, prior=prior)
    stream = domain.stream(REQUESTS, np.random.default_rng(0))
    offline.run(
        corpus_of(domain.texts, embeddings.of(domain.texts)),
        stream.questions.tolist(),
        stream.classes.tolist(),
        arm.policy,
        pool=pool,
        chance=np.random.default_rng(1),
    )
    return pool.rule
