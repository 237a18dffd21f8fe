"""What a decision adds to a question's embedding: everything from the neighbours found to the verdict, in one process.

    python benchmarks/deciding.py

The eight nearest of the bundled BANKING77 questions are grouped, described, guarded and scored for each of them, by the
certified policy with a rule. ``search`` is the look-up of the eight before that, in a plain array; ``late interaction``
what a close decision takes more, with the stored question's tokens at hand.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from load import questions

from cacheproxy.core.features import Key
from cacheproxy.core.policy import CertifiedPolicy, Found
from cacheproxy.core.pool import Rule, Threshold
from cacheproxy.core.prior import shipped_prior
from cacheproxy.core.profile import profile
from cacheproxy.embed.local import DEFAULT_MODEL, open_local
from cacheproxy.index.flat import FlatIndex
from cacheproxy.model import IndexRow
from cacheproxy.verify.late_interaction import LateInteraction

NEIGHBORS = 8
TOKEN_BYTES = 64 * 1024 * 1024
QUESTIONS = 300
SCOPE = b"scope"


async def measure() -> dict[str, Any]:
    """Median and 99th percentile of each part, in ms."""
    prior = shipped_prior(embedding_model=DEFAULT_MODEL)
    assert prior is not None
    rule = Rule(prior, {0.01: Threshold(estimated=4.0, certified=6.0)}, labels=1_000)
    policy = CertifiedPolicy(0.01, prior=rule)
    embedder = await open_local(DEFAULT_MODEL, token_bytes=TOKEN_BYTES)
    verifier = LateInteraction(embedder)
    index = FlatIndex()
    texts = questions()[:QUESTIONS]
    try:
        vectors = [await embedder.embed(text) for text in texts]
        for place, vector in enumerate(vectors):
            await index.add(IndexRow(str(place), SCOPE, vector, str(place // 4)))
        profiles = [profile(text) for text in texts]
        took: dict[str, list[float]] = {"search": [], "decision": [], "late_interaction": []}
        for _ in range(2):  # the first time profiles are read, which a proxy remembers
            for measured in took.values():
                measured.clear()
            for text, vector in zip(texts, vectors, strict=True):
                began = time.perf_counter()
                near = await index.nearest(SCOPE, vector, NEIGHBORS + 1)
                found = time.perf_counter()
                keys = [
                    Key(each.entry_id, each.root, each.similarity, profiles[int(each.entry_id)]) for each in near[1:]
                ]
                policy.decide(Found(profile(text), keys, rule=rule), draw=0.5)
                decided = time.perf_counter()
                await verifier.compare(text, texts[int(near[1].entry_id)])
                compared = time.perf_counter()
                for measured, seconds in zip(
                    took.values(), (found - began, decided - found, compared - decided), strict=True
                ):
                    measured.append(seconds * 1000)
    finally:
        await embedder.aclose()
    return {
        f"{name}_ms": {"p50": round(statistics.median(each), 3), "p99": round(statistics.quantiles(each, n=100)[98], 3)}
        for name, each in took.items()
    }


if __name__ == "__main__":
    for name, figures in asyncio.run(measure()).items():
        print(f"{name:24}{figures}")
