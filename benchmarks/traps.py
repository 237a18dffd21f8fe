"""Pairs that look alike and are not, and pairs that are the same: CheckList's suite, and what users complained about.

Each pair is decided on alone: one question stored, the other one asked. "No verdicts yet" is a fresh proxy with the
prior; "after ..." is one whose rule was learnt on a stream of that domain, at the same budget, and "among ..." has that
domain's questions beside the stored one, as the index has that the rule was learnt on. Both say what becomes of
questions that are unlike any that verdicts came from.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from domains import FILES, read_domain

from cacheproxy.core.features import Key, Veto
from cacheproxy.core.policy import Found, Serve
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
    from cacheproxy.lab.evaluate import Arm
    from cacheproxy.lab.labelled import Pair
    from cacheproxy.lab.offline import Corpus
    from cacheproxy.lab.tally import Tally

BUDGETS = (0.01, 0.02)
NEIGHBORS = 8
STORED = "stored"
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
    domains = {name: read_domain(name, data).part(Part.REPORT) for name in FILES}
    learnt = {
        (name, budget): _learnt(domain, budget, embeddings, prior)
        for name, domain in domains.items()
        for budget in BUDGETS
    }
    for suite, pairs in suites.items():
        texts = [text for pair in pairs for text in (pair.a, pair.b)]
        corpus = corpus_of(texts, embeddings.of(texts))
        told: dict[str, Any] = {}
        for least in (0.9, 0.95):
            for guards in (False, True):
                (tally,) = over_pairs([threshold(least, guards=guards)], pairs, corpus, seed=0)
                told[tally.name] = _told(tally)
        for budget in BUDGETS:
            arm = certified(budget, prior)
            (tally,) = over_pairs([arm], pairs, corpus, seed=0)
            told[f"ours {budget:g}, no verdicts yet"] = _told(tally)
            for name, domain in domains.items():
                rule = learnt[name, budget]
                (tally,) = over_pairs([arm], pairs, corpus, seed=0, rule=rule)
                told[f"ours {budget:g}, after {name}"] = _told(tally)
                told[f"ours {budget:g}, among {name}"] = _among(arm, pairs, corpus, rule, domain, embeddings)
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


def _among(
    arm: Arm, pairs: Sequence[Pair], corpus: Corpus, rule: Rule | None, domain: Domain, embeddings: Embeddings
) -> dict[str, Any]:
    """The stored question among the domain's, each a key of its class's answer. Any answer of theirs is wrong.

    At the worst for guards: verdicts have shown them to be needless at every answer of the domain.
    """
    texts = [text for own in domain.classes.values() for text in own]
    roots = [name for name, own in domain.classes.items() for _ in own]
    others = corpus_of(texts, embeddings.of(texts))
    excusing = None if rule is None else replace(rule, needless=frozenset(product(domain.classes, Veto)))
    near = corpus.vectors[1::2] @ others.vectors.T
    served_same = served_different = served_other = 0
    for place, pair in enumerate(pairs):
        best = np.argsort(-near[place])[: NEIGHBORS - 1].tolist()
        keys = [
            Key(str(other), roots[other], max(float(near[place, other]), 0.0), others.profiles[other]) for other in best
        ]
        own = max(float(corpus.vectors[2 * place] @ corpus.vectors[2 * place + 1]), 0.0)
        keys.append(Key(STORED, STORED, min(own, 1.0), corpus.profiles[2 * place]))
        keys.sort(key=lambda key: -key.similarity)
        decision = arm.policy.decide(Found(corpus.profiles[2 * place + 1], keys, rule=excusing), draw=0.5)
        if isinstance(decision, Serve):
            served_other += decision.key.root != STORED
            served_same += decision.key.root == STORED and pair.same
            served_different += decision.key.root == STORED and not pair.same
    same = sum(pair.same for pair in pairs)
    wrong = served_different + served_other
    return {
        "wrong_per_served": Proportion(wrong, wrong + served_same).to_json(),
        "same_served": Proportion(served_same, same).to_json(),
        "different_served": Proportion(served_different, len(pairs) - same).to_json(),
        "others_served": served_other,
    }


def _learnt(domain: Domain, budget: float, embeddings: Embeddings, prior: Likelihood) -> Rule | None:
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
