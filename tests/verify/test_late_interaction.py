"""Token against token: alike when every token is met, in both directions."""

import numpy as np
import pytest

from cacheproxy.verify.late_interaction import LateInteraction, max_sim


def tokens(*rows):
    return np.array(rows, dtype=np.float16).reshape(len(rows), 2)


EAST, NORTH, BETWEEN = (1, 0), (0, 1), (0.6, 0.8)


@pytest.mark.parametrize(
    ("one", "other", "met"),
    [
        pytest.param((EAST, NORTH), (EAST, NORTH), 1.0, id="equal"),
        pytest.param((EAST, NORTH), (NORTH, EAST), 1.0, id="in-another-order"),
        pytest.param((EAST,), (NORTH,), 0.0, id="nothing-in-common"),
        pytest.param((EAST,), (BETWEEN,), 0.6, id="near"),
        pytest.param((EAST,), (EAST, NORTH), 0.5, id="one-asks-for-more"),
        pytest.param((EAST,), ((-1, 0),), 0.0, id="opposite"),
        pytest.param((EAST,), (), 0.0, id="no-tokens"),
    ],
)
def test_the_worse_met_text_decides(one, other, met):
    assert max_sim(tokens(*one), tokens(*other)) == pytest.approx(met, abs=1e-3)
    assert max_sim(tokens(*other), tokens(*one)) == max_sim(tokens(*one), tokens(*other))


async def test_it_compares_what_the_embedding_model_reads():
    class Embedder:
        async def tokens(self, text):
            return tokens(*({"e": EAST, "n": NORTH, "b": BETWEEN}[letter] for letter in text))

    verifier = LateInteraction(Embedder())
    assert await verifier.compare("en", "en") == pytest.approx(1.0, abs=1e-3)
    assert await verifier.compare("e", "b") == pytest.approx(0.6, abs=1e-3)
