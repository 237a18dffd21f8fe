"""What every ``Store`` promises about vectors."""

import numpy as np
import pytest
from support.stores import digest, direction, embedded, make_entry

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.model import Selection
from cacheproxy.store.entries import StoreLimits
from cacheproxy.store.vectors import EmbeddingName

# --- vectors


async def test_a_vector_is_kept_beside_its_entry(store):
    await store.put(make_entry("a"))
    await store.put(make_entry("b"))
    await store.set_vector("id-a", direction(1, 2, 3, 4), "id-a")
    rows = await embedded(store)
    assert list(rows) == ["id-a"]
    assert rows["id-a"].scope == digest("scope")
    assert rows["id-a"].vector.dtype == np.float32
    assert float(rows["id-a"].vector @ direction(1, 2, 3, 4)) == pytest.approx(1, abs=1e-4)
    assert float(np.linalg.norm(rows["id-a"].vector)) == pytest.approx(1, abs=1e-6)


async def test_a_vector_is_replaced_and_goes_with_its_entry(store):
    await store.put(make_entry("a"))
    await store.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    await store.set_vector("id-a", direction(0, 1, 0, 0), "id-a")
    rows = await embedded(store)
    assert rows["id-a"].vector.tolist() == [0, 1, 0, 0]
    await store.remove(Selection(ids=["id-a"]))
    assert await embedded(store) == {}


async def test_a_vector_without_an_entry_is_dropped(store):
    await store.set_vector("id-gone", direction(1, 0, 0, 0), "id-gone")
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
        await store.set_vector("id-a", vector, "id-a")
    assert await embedded(store) == {}


async def test_another_model_than_the_stored_one_is_refused_with_the_remedy(world, store):
    await store.put(make_entry("a"))
    await store.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    for other in (EmbeddingName("other-model", 4), EmbeddingName("test-model", 8)):
        with pytest.raises(ConfigError, match="cacheproxy cache re-embed"):
            await world.open(embedding=other)
    assert list(await embedded(await world.open())) == ["id-a"]


async def test_another_model_is_welcome_while_there_are_no_vectors(world, store):
    other = await world.open(embedding=EmbeddingName("other-model", 8))
    await other.put(make_entry("a"))
    await other.set_vector("id-a", np.ones(8, np.float32), "id-a")
    assert list(await embedded(other)) == ["id-a"]


async def test_a_process_that_has_not_followed_to_another_model_cannot_mix_in_its_vectors(world, store):
    await store.put(make_entry("a"))
    await store.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    other = await world.open(embedding=None)
    await other.drop_vectors()
    await other.claim_embedding("other-model", 4)
    await other.set_vector("id-a", direction(0, 0, 0, 1), "id-a")
    with pytest.raises(PortUnavailable):
        await store.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    assert [change for change in await store.changes() if change.row is not None] == []


async def test_without_an_embedding_model_there_are_no_vectors(world):
    store = await world.open(embedding=None)
    await store.put(make_entry("a"))
    with pytest.raises(PortUnavailable):
        await store.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    assert await embedded(store) == {}


# --- roots


async def placed(store, **roots):
    """Entries by their names, each under the root that is named."""
    for name, root in roots.items():
        await store.put(make_entry(name))
        await store.set_vector(f"id-{name}", direction(1, 0, 0, 0), f"id-{root}")


async def test_a_vector_comes_back_with_its_root(store):
    await placed(store, a="a", b="a")
    assert {entry_id: row.root for entry_id, row in (await embedded(store)).items()} == {"id-a": "id-a", "id-b": "id-a"}
    assert await store.roots(["id-b", "id-a"]) == {"id-a": "id-a", "id-b": "id-a"}


async def test_an_entry_that_was_never_placed_has_no_root(store):
    await store.put(make_entry("a"))
    assert await store.roots(["id-a", "id-gone"]) == {}


async def test_a_vector_that_is_set_again_may_have_another_root(store):
    await placed(store, a="a", b="a")
    await placed(store, c="c")
    await store.set_vector("id-b", direction(0, 1, 0, 0), "id-c")
    assert await store.roots(["id-b"]) == {"id-b": "id-c"}
    await store.set_vector("id-b", direction(0, 1, 0, 0), "id-b")
    assert (await embedded(store))["id-b"].root == "id-b"


async def test_aliases_outlive_their_root_and_keep_its_name(store):
    await placed(store, a="a", b="a")
    await store.remove(Selection(ids=["id-a"]))
    assert {entry_id: row.root for entry_id, row in (await embedded(store)).items()} == {"id-b": "id-a"}


@pytest.mark.parametrize("how", ["expired", "evicted"])
async def test_a_root_that_went_by_itself_leaves_its_aliases(world, how):
    store = await world.open(limits=StoreLimits(max_entries=2))
    await store.put(make_entry("a", expires_at=world.now + 10))
    await store.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    await placed(store, b="a")
    if how == "expired":
        await store.sweep(world.now + 10)
    else:
        world.now += 1
        await store.touch({"id-b": 1}, world.now)
        await placed(store, c="c")
    rows = await embedded(store)
    assert "id-a" not in rows
    assert rows["id-b"].root == "id-a"


async def test_a_root_survives_a_restart_and_is_told_to_others(world, store):
    other = await world.open()
    await placed(store, a="a", b="a")
    assert {change.entry_id: change.row.root for change in await other.changes()} == {"id-a": "id-a", "id-b": "id-a"}
    assert (await embedded(await world.open()))["id-b"].root == "id-a"


async def test_roots_stay_when_vectors_are_dropped_for_another_model(world):
    store = await world.open(embedding=None)
    await store.claim_embedding("test-model", 4)
    await placed(store, a="a", b="a")
    await store.drop_vectors()
    await store.claim_embedding("other-model", 8)
    assert await embedded(store) == {}
    assert await store.roots(["id-a", "id-b"]) == {"id-b": "id-a"}


async def test_a_root_can_be_kept_before_its_vector_is_made(store):
    await store.put(make_entry("b"))
    await store.keep_roots({"id-b": "id-a", "id-gone": "id-a"})
    assert await store.roots(["id-b", "id-gone"]) == {"id-b": "id-a"}
    assert await embedded(store) == {}
    await store.set_vector("id-b", direction(1, 0, 0, 0), "id-a")
    assert list(await embedded(store)) == ["id-b"]


async def test_a_root_that_is_kept_late_moves_no_entry(store):
    await placed(store, a="a", b="a")
    await store.keep_roots({"id-a": "id-z", "id-b": "id-z"})
    assert {row.root for row in (await embedded(store)).values()} == {"id-a"}
