"""A prior is refused where its weights mean nothing."""

from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest

from cacheproxy.core.features import FEATURE_NAMES, Features, matrix
from cacheproxy.core.likelihood import VETO, WEIGHTS, Likelihood
from cacheproxy.core.prior import TrainedOn, dump_prior, load_prior, shipped_prior, train
from cacheproxy.embed.local import DEFAULT_MODEL
from cacheproxy.errors import ConfigError

MODEL = "an/embedding-model"
PLAIN = Features(
    **dict.fromkeys(FEATURE_NAMES, 0.0)
    | {"similarity": 0.8, "similarity_3": 0.8, "share": 0.8, "keys": 2.0, "groups": 2.0, "farthest": 0.4, "length": 2.0}
)


def candidate(**changed):
    return PLAIN._replace(**changed)


def document(**changed):
    text = dump_prior(Likelihood(np.zeros(WEIGHTS)), embedding_model=MODEL, trained_on=[TrainedOn("faq", 10, 3)])
    return json.dumps(json.loads(text) | changed)


def verdicts(count=200):
    """The nearer, the likelier; nothing of it has to do with guards."""
    dice = Random(1)
    return [
        (candidate(similarity=near, similarity_3=near), dice.random() < near)
        for near in (dice.random() for _ in range(count))
    ]


def test_what_is_written_is_read_again():
    model = train(verdicts())
    text = dump_prior(model, embedding_model=MODEL, trained_on=[])
    assert np.allclose(load_prior(text, embedding_model=MODEL).weights, model.weights, atol=1e-6)


def test_it_says_what_it_was_trained_on():
    assert json.loads(document())["trained_on"] == [{"name": "faq", "labels": 10, "wrong": 3}]


def test_it_learns_from_verdicts():
    near, far = train(verdicts()).logits(matrix([candidate(similarity=0.95), candidate(similarity=0.1)]))
    assert near > far


def test_it_believes_guards_though_no_verdict_spoke_of_them():
    free, vetoed = train(verdicts()).logits(matrix([candidate(), candidate(objected=1.0, vetoed_amount=1.0)]))
    assert vetoed <= free + VETO + 1e-9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{", "not JSON", id="broken"),
        pytest.param("[]", "no prior", id="list"),
        pytest.param("{}", "no prior", id="something-else"),
        pytest.param(document(version=0), "version 0", id="version"),
        pytest.param(document(features=["similarity"]), "features", id="features"),
        pytest.param(document(embedding_model="another"), "another", id="embedding-model"),
        pytest.param(document(weights=[0.0]), "damaged", id="too-few-weights"),
        pytest.param(document(weights=[0.0] * (WEIGHTS - 1) + ["x"]), "damaged", id="no-number"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(text, said):
    with pytest.raises(ConfigError, match=said) as refused:
        load_prior(text, embedding_model=MODEL)
    assert "calibrate --train" in refused.value.message


def test_the_prior_that_ships_is_for_the_default_model():
    prior = shipped_prior(embedding_model=DEFAULT_MODEL)
    assert prior is not None
    near, far, vetoed = prior.logits(
        matrix(
            [
                candidate(similarity=0.98, similarity_3=0.98, share=1.0, overlap=1.0),
                candidate(similarity=0.4, similarity_3=0.4, share=0.3, uncovered=1.0, uncovered_words=3.0),
                candidate(similarity=0.98, similarity_3=0.98, share=1.0, overlap=1.0, objected=1.0, vetoed_sense=1.0),
            ]
        )
    )
    assert near > 2
    assert far < 0
    assert vetoed < near - 3


def test_another_model_gets_none():
    assert shipped_prior(embedding_model=MODEL) is None


def test_a_prior_made_with_another_verifier_is_refused():
    text = dump_prior(Likelihood(np.zeros(WEIGHTS)), embedding_model=MODEL, trained_on=[], verifier="late-interaction")
    assert load_prior(text, embedding_model=MODEL, verifier="late-interaction")
    for other in ("none", "some/cross-encoder"):
        with pytest.raises(ConfigError, match=f"made with the verifier late-interaction, decision.verifier is {other}"):
            load_prior(text, embedding_model=MODEL, verifier=other)


def test_a_prior_made_without_a_verifier_goes_with_any():
    text = dump_prior(Likelihood(np.zeros(WEIGHTS)), embedding_model=MODEL, trained_on=[])
    assert load_prior(text, embedding_model=MODEL, verifier="some/cross-encoder")
