"""Candidates as the decision sees them: keys near a prompt, models of known behaviour, labels, rules."""

import numpy as np

from cacheproxy.core.features import FEATURE_NAMES, Features, Key
from cacheproxy.core.labels import Label, Source
from cacheproxy.core.likelihood import WEIGHTS, Likelihood
from cacheproxy.core.pool import Rule, Threshold
from cacheproxy.core.profile import profile


def key(prompt, similarity=0.99, root=None):
    return Key(f"id of {prompt}", root or f"root of {prompt}", similarity, profile(prompt))


def features(**known):
    return Features(**{**dict.fromkeys(FEATURE_NAMES, 0.0), **known})


def always(logit):
    """A model to which every candidate is equally likely."""
    weights = np.zeros(WEIGHTS)
    weights[0] = logit
    return Likelihood(weights)


def rule(logit, **thresholds):
    """A rule whose model always says ``logit``. Thresholds are named by their budget in 1/10,000: ``b100`` is 1%."""
    known = {int(name[1:]) / 10_000: Threshold(*scores) for name, scores in thresholds.items()}
    return Rule(always(logit), known, labels=100)


def label(at, *, right, similarity=None, root=None, source=Source.MISS, principal=""):
    """A verdict. By default on an answer of its own, nearer when it was right."""
    near = (0.95 if right else 0.6) if similarity is None else similarity
    return Label(
        float(at),
        root or f"root {at}",
        features(similarity=near, share=near, keys=1),
        right,
        source,
        principal=principal,
    )
