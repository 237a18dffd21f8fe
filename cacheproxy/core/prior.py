"""What is believed before a pool's own verdicts: a model fitted on other questions, kept as a small JSON document.

Its weights mean something for one embedding model and one version of the features only. Anything else is refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cacheproxy import jsontext
from cacheproxy.core.features import FEATURE_NAMES, matrix
from cacheproxy.core.likelihood import VERSION, WEIGHTS, Likelihood, believing_guards, bent, fit
from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.core.features import Features

FORMAT: Final = "cacheproxy-prior"
NO_VERIFIER: Final = "none"
_REMEDY: Final = "make one with `cacheproxy calibrate --train`"
_SHIPPED: Final = resources.files("cacheproxy") / "data" / "prior.json"


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """Where verdicts came from."""

    name: str
    labels: int
    wrong: int


def train(verdicts: Sequence[tuple[Features, bool]]) -> Likelihood:
    """The prior that verdicts lead to: candidates as they were before, and whether they were right."""
    rows = bent(matrix([features for features, _ in verdicts]))
    return believing_guards(fit(rows, np.array([right for _, right in verdicts], dtype=np.float64)))


def dump_prior(
    model: Likelihood, *, embedding_model: str, trained_on: Sequence[TrainedOn], verifier: str = NO_VERIFIER
) -> str:
    """The document, readable by people. ``verifier`` names the one whose scores the model was fitted with."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "embedding_model": embedding_model,
        "verifier": verifier,
        "features": list(FEATURE_NAMES),
        "trained_on": [asdict(each) for each in trained_on],
        "weights": [round(float(weight), 6) for weight in model.weights],
    }
    return "{\n" + ",\n".join(f" {_text(name)}: {_text(value)}" for name, value in document.items()) + "\n}\n"


def load_prior(text: str, *, embedding_model: str, verifier: str = NO_VERIFIER) -> Likelihood:
    """The model of a document. Raises ``ConfigError`` when it is none, or was made for other features or models.

    One that knows no verifier goes with any: what a verifier says means nothing to it, until verdicts do.
    """
    try:
        document = jsontext.parse(text.encode())
    except ValueError as error:
        raise ConfigError(f"the prior is not JSON ({error}); {_REMEDY}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ConfigError(f'this is no prior: it lacks "format": "{FORMAT}"; {_REMEDY}')
    if document.get("version") != VERSION or document.get("features") != list(FEATURE_NAMES):
        raise ConfigError(
            f"the prior was made for version {document.get('version')} of the features, this is {VERSION}; {_REMEDY}"
        )
    if document.get("embedding_model") != embedding_model:
        raise ConfigError(
            f"the prior was made for {document.get('embedding_model')}, the embedding model is {embedding_model}; "
            f"{_REMEDY}"
        )
    known = document.get("verifier", NO_VERIFIER)
    if known not in (NO_VERIFIER, verifier):
        raise ConfigError(f"the prior was made with the verifier {known}, decision.verifier is {verifier}; {_REMEDY}")
    weights = document.get("weights")
    if not isinstance(weights, list) or len(weights) != WEIGHTS or not all(map(_is_number, weights)):
        raise ConfigError(f"the prior is damaged: it should have {WEIGHTS} weights; {_REMEDY}")
    return Likelihood(np.array(weights, dtype=np.float64))


def shipped_prior(*, embedding_model: str) -> Likelihood | None:
    """The prior that comes with the package; None where it was made for another embedding model."""
    text = _SHIPPED.read_text(encoding="utf-8")
    if jsontext.parse(text.encode())["embedding_model"] != embedding_model:
        return None
    return load_prior(text, embedding_model=embedding_model)


def _text(value: Any) -> str:
    return jsontext.dump(value).decode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
