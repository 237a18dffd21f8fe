"""The embedder that needs no model: the same everywhere, and near for similar texts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import TurnTooLong


async def similarity(one, other):
    embedder = HashedEmbedder()
    return float(await embedder.embed(one) @ await embedder.embed(other))


async def test_similar_texts_are_nearer_than_others():
    question = "How do I reset my card PIN?"
    assert await similarity(question, "how can I reset my card pin?") > 0.8
    assert await similarity(question, "What is the weather in Lisbon") < 0.5


async def test_words_of_a_text_may_be_spaced_and_cased_in_any_way():
    assert await similarity("Reset my PIN", "  reset\tMY\npin ") == pytest.approx(1)


async def test_vectors_do_not_depend_on_the_process():
    vector = await HashedEmbedder(8).embed("abc")
    assert vector == pytest.approx(np.array([0, 2, 1, 0, 0, 1, 0, 0]) / 6**0.5)


@given(st.text(alphabet=st.characters(), max_size=60))
@settings(deadline=None)
async def test_any_text_has_a_unit_vector(text):
    vector = await HashedEmbedder().embed(text)
    assert vector.shape == (256,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("text", ["word " * 257, "x" * 5_000_000], ids=["words", "characters"])
async def test_a_text_over_the_window_is_refused(text):
    with pytest.raises(TurnTooLong):
        await HashedEmbedder().embed(text)


async def test_a_text_that_fills_the_window_is_read():
    assert (await HashedEmbedder().embed("word " * 256)).any()
