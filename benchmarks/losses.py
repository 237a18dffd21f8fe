"""Where hits are lost: what became of each request of a stream whose right answer had been given before.

    python benchmarks/losses.py --data DIR --cache DIR [--domains clinc150,banking77] [--part all] [--prior FILE]

Streams and arms are those of ``benchmarks/decision.py``, at one budget. Shares are of all requests.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from domains import FILES, Embeddings, add_options, read_domain, split

from cacheproxy.core.policy import Serve
from cacheproxy.core.pool import Stage
from cacheproxy.core.prior import load_prior, shipped_prior
from cacheproxy.embed.local import DEFAULT_MODEL
from cacheproxy.lab.corpus import corpus_of
from cacheproxy.lab.evaluate import certified
from cacheproxy.lab.streams import Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cacheproxy.core.policy import Decision, Found, Policy


@dataclass
class Watched:
    """A policy that is looked over the shoulder by somebody who knows the right answer."""

    policy: Policy
    budget: float
    kinds: Mapping[str, int]
    """The class of each text that is asked."""
    became: Counter[str] = field(default_factory=Counter)
    seen: set[int] = field(default_factory=set)
    keeps_budgets: bool = True
    learns: bool = True

    def decide(self, found: Found, *, draw: float) -> Decision:
        """As the policy does."""
        decision = self.policy.decide(found, draw=draw)
        kind = self.kinds[found.asked.text]
        self.became[self._outcome(found, decision, kind) if kind in self.seen else "first of its kind"] += 1
        self.seen.add(kind)
        return decision

    def _outcome(self, found: Found, decision: Decision, kind: int) -> str:
        assessed = decision.assessed
        if isinstance(decision, Serve):
            return "served"
        if found.tripped:
            return "promise broken"
        if found.rule is None or found.rule.stage(self.budget) is Stage.BOOTSTRAP:
            return "no rule yet"
        if assessed is None or all(self.kinds[key.profile.text] != kind for key in found.keys):
            return "right answer not among the nearest"
        if self.kinds[assessed.group.keys[0].profile.text] != kind:
            return "another answer thought likelier"
        if assessed.logit < assessed.threshold:
            return "right answer not sure enough"
        return "guard alone" if assessed.group.objection is not None else "too far"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--domains", type=partial(split, known=FILES), default=["clinc150", "banking77"])
    parser.add_argument("--part", type=Part, choices=list(Part), default=Part.REPORT)
    parser.add_argument("--budget", type=float, default=0.01)
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--orderings", type=int, default=3)
    parser.add_argument("--prior", type=Path, metavar="FILE", help="instead of the one that ships")
    asked = parser.parse_args()
    prior = (
        shipped_prior(embedding_model=DEFAULT_MODEL)
        if asked.prior is None
        else load_prior(asked.prior.read_text(), embedding_model=DEFAULT_MODEL)
    )
    embeddings = Embeddings(asked.cache)
    for name in asked.domains:
        domain = read_domain(name, asked.data).part(asked.part)
        corpus = corpus_of(domain.texts, embeddings.of(domain.texts))
        became: Counter[str] = Counter()
        for seed in range(asked.orderings):
            stream = domain.stream(asked.requests, np.random.default_rng(seed))
            texts = [corpus.profiles[question].text for question in stream.questions.tolist()]
            arm = certified(asked.budget, prior)
            watched = Watched(arm.policy, asked.budget, dict(zip(texts, stream.classes.tolist(), strict=True)))
            replace(arm, policy=watched).run(corpus, stream, seed=seed)
            became += watched.became
        requests = asked.orderings * asked.requests
        became["answered before, word for word"] = requests - became.total()
        print(f"{name}, {asked.part}: {asked.orderings} x {asked.requests:,}, budget {asked.budget:g}")
        for outcome, count in became.most_common():
            print(f"  {outcome:36} {count / requests:6.1%}")


if __name__ == "__main__":
    main()
