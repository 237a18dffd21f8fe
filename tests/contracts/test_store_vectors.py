"""What every ``Store`` promises about vectors."""

import numpy as np
import pytest
from support.stores import digest, direction, embedded, make_entry

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.model import Selection
from cacheproxy.store.sqlite import EmbeddingName

# --- vectors


async def test_a_vector_is_kept_beside_its_entry(store):
    await store.put(make_entry("a"))
    await store.put(make_entry("b"))
    await store.set_vector("id-a", direction(1, 2, 3, 4))
    rows = await embedded(store)
    assert list(rows) == ["id-a"]
    assert rows["id-a"].scope == digest("scope")
    assert rows["id-a"].vector.dtype == np.float32
    assert float(rows["id-a"].vector @ direction(1, 2, 3, 4)) == pytest.approx(1, abs=1e-4)
    assert float(np.linalg.norm(rows["id-a"].vector)) == pytest.approx(1, abs=1e-6)


async def test_a_vector_is_replaced_and_goes_with_its_entry(store):
    await store.put(make_entry("a"))
    await store.set_vector("id-a", direction(1, 0, 0, 0))
    await store.set_vector("id-a", direction(0, 1, 0, 0))
    rows = await embedded(store)
    assert rows["id-a"].vector.tolist() == [0, 1, 0, 0]
    await store.remove(Selection(ids=["id-a"]))
    assert await embedded(store) == {}


async def test_a_vector_without_an_entry_is_dropped(store):
    await store.set_vector("id-gone", direction(1, 0, 0, 0))
    assert await embedded(store) == {}


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(np.ones(3, np.float32), id="too short"),
        pytest.param(np.ones(5, np.float32), id="too long"),
        pytest.param(np.ones((1, 4), np.float32), id="a matrix"),
        pytest.param(np.zeros(4, np.float32), id="of no direction"),
        pytest.param(np.array([np.nan, 0, 0, 1], np.float32), id="not a number"),
        pytest.param(np.array([np.inf, 0, 0, 1], np.float32), id="infinite"),
    ],
)
async def test_a_vector_that_cannot_be_right_is_refused(store, vector):
    await store.put(make_entry("a"))
    with pytest.raises(PortUnavailable):
        await store.set_vector("id-a", vector)
    assert await embedded(store) == {}


async def test_another_model_than_the_stored_one_is_refused_with_the_remedy(world, store):
    await store.put(make_entry("a"))
    await store.set_vector("id-a", direction(1, 0, 0, 0))
    for other in (EmbeddingName("other-model", 4), EmbeddingName("test-model", 8)):
        with pytest.raises(ConfigError, match="cacheproxy cache re-embed"):
            await world.open(embedding=other)
    assert list(await embedded(await world.open())) == ["id-a"]


async def test_another_model_is_welcome_while_there_are_no_vectors(world, store):
    other = await world.open(embedding=EmbeddingName("other-model", 8))
    await other.put(make_entry("a"))
    await other.set_vector("id-a", np.ones(8, np.float32))
    assert list(await embedded(other)) == ["id-a"]


async def test_a_process_that_has_not_followed_to_another_model_cannot_mix_in_its_vectors(world, store):
    await store.put(make_entry("a"))
    await store.set_vector("id-a", direction(1, 0, 0, 0))
    other = await world.open(embedding=None)
    await other.drop_vectors()
    await other.claim_embedding("other-model", 4)
    await other.set_vector("id-a", direction(0, 0, 0, 1))
    with pytest.raises(PortUnavailable):
        await store.set_vector("id-a", direction(1, 0, 0, 0))
    assert [change for change in await store.changes() if change.row is not None] == []


async def test_without_an_embedding_model_there_are_no_vectors(world):
    store = await world.open(embedding=None)
    await store.put(make_entry("a"))
    with pytest.raises(PortUnavailable):
        await store.set_vector("id-a", direction(1, 0, 0, 0))
    assert await embedded(store) == {}
