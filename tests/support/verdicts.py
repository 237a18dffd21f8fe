"""Made-up verdicts: the nearer a candidate, the likelier it is right."""

from __future__ import annotations

from random import Random

from cacheproxy.core.features import FEATURE_NAMES, Features
from cacheproxy.core.labels import Label, Source

FAR = Features(**dict.fromkeys(FEATURE_NAMES, 0.0) | {"keys": 1.0, "groups": 2.0, "length": 2.0, "farthest": 0.3})


def made_up_labels(count: int, *, audits: int = 0, audits_right: bool = True, seed: int = 1) -> list[Label]:
    """Misses over all similarities, of which those above .7 are right, then audits of near ones."""
    dice = Random(seed)
    labels = []
    for number in range(count):
        near = dice.random()
        features = FAR._replace(similarity=near, similarity_3=near, share=near, margin=near / 4)
        labels.append(Label(float(number), f"root {number % 97}", features, near > 0.7, Source.MISS))
    sure = FAR._replace(similarity=0.99, similarity_3=0.99, share=1.0, margin=0.3)
    return labels + [
        Label(float(count + number), f"root {number % 97}", sure, audits_right, Source.AUDIT, 0.05)
        for number in range(audits)
    ]
