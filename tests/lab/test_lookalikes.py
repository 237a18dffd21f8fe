"""What users complained about is never served by the rule that a fresh proxy has, whatever the similarity."""

import pytest

from cacheproxy.core.features import Key
from cacheproxy.core.policy import CertifiedPolicy, Forward, Found, ThresholdPolicy
from cacheproxy.core.pool import Rule
from cacheproxy.core.prior import shipped_prior
from cacheproxy.core.profile import profile
from cacheproxy.embed.local import DEFAULT_MODEL
from cacheproxy.lab.lookalikes import LOOKALIKES

PRIOR = shipped_prior(embedding_model=DEFAULT_MODEL)
POLICIES = [
    pytest.param(ThresholdPolicy(0.0), id="threshold"),
    pytest.param(CertifiedPolicy(0.05, prior=Rule(PRIOR)), id="certified"),
    pytest.param(CertifiedPolicy(0.05), id="cold"),
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("pair", LOOKALIKES, ids=lambda pair: pair.a)
def test_no_lookalike_is_served(pair, policy):
    for stored, asked in ((pair.a, pair.b), (pair.b, pair.a)):
        found = Found(profile(asked), [Key("1", "1", 0.9999, profile(stored))])
        assert isinstance(policy.decide(found, draw=0.0), Forward)
