"""Another embedding model, while proxies serve: over every kind of store."""

from contextlib import AsyncExitStack

import numpy as np
import pytest
from support.redis_stores import RedisWorld
from support.stores import NOW, SqliteWorld, direction, make_entry

from cacheproxy.errors import PortUnavailable, TurnTooLong
from cacheproxy.model import Selection
from cacheproxy.reembedding import Embedded, embed_anew
from cacheproxy.store.shelf import open_shelf


class Lengths:
    """An embedder of two numbers, which reads no more than forty letters, and fails when it is told to."""

    model = "lengths"
    dimension = 2

    def __init__(self, fails_after=10_000):
        self.embedded = []
        self.fails_after = fails_after

    async def embed(self, text):
        if len(text) > 40:
            raise TurnTooLong("too long")
        if len(self.embedded) >= self.fails_after:
            raise PortUnavailable("the model went away")
        self.embedded.append(text)
        return direction(1, len(text))


@pytest.fixture(params=["sqlite", "fakeredis", "redis"])
async def world(request, tmp_path):
    async with AsyncExitStack() as stack:
        url = request.getfixturevalue("redis_server").url if request.param == "redis" else None
        yield SqliteWorld(tmp_path, stack) if request.param == "sqlite" else RedisWorld(stack, url, shards=2)


@pytest.fixture
async def store(world):
    """Holds a, b, c under another model, a and b under one root; c is too long for the new one, d is exact only."""
    store = (await world.kept()).store
    await store.claim_embedding("old", 3)
    given = [make_entry("a"), make_entry("b"), make_entry("c", prompt="x" * 41), make_entry("d", semantic=False)]
    await store.put(*given)
    for entry in given[:3]:
        await store.set_vector(entry.id, direction(1, 0, 0), "id-a")
    return store


@pytest.fixture
async def shelf(tmp_path):
    async with open_shelf(tmp_path / "shelf", store="store", model="lengths") as shelf:
        yield shelf


async def rows_of(store):
    return {row.entry_id: (row.root, row.vector.shape) async for rows in store.vectors() for row in rows}


async def test_every_vector_is_replaced_and_roots_stay(store, shelf):
    seen = []
    assert await embed_anew(store, Lengths(), shelf, seen.append) == Embedded(entries=2, too_long=1)
    assert await rows_of(store) == {"id-a": ("id-a", (2,)), "id-b": ("id-a", (2,))}
    assert (await store.roots(["id-c"]))["id-c"] == "id-a"
    assert sum(seen) == 4


async def test_proxies_see_nothing_of_it_before_all_vectors_are_there(world, store, shelf):
    proxy = (await world.kept()).store
    await proxy.claim_embedding("old", 3)
    with pytest.raises(PortUnavailable):
        await embed_anew(store, Lengths(fails_after=1), shelf)
    await proxy.put(make_entry("e"))
    await proxy.set_vector("id-e", direction(0, 1, 0), "id-e")
    assert sorted(await rows_of(proxy)) == ["id-a", "id-b", "id-c", "id-e"]


async def test_an_interrupted_run_goes_on_where_it_stopped(store, tmp_path):
    await store.put(*[make_entry(f"more-{number:03}") for number in range(300)])
    for fails_after in (200, 10_000):
        async with open_shelf(tmp_path / "shelf", store="store", model="lengths") as shelf:
            embedder = Lengths(fails_after)
            if fails_after == 200:
                with pytest.raises(PortUnavailable):
                    await embed_anew(store, embedder, shelf)
                continue
            done = await embed_anew(store, embedder, shelf)
    assert done.resumed == 0  # the first page had not been embedded whole
    assert done.entries == 302
    assert len(await rows_of(store)) == 302


async def test_whole_pages_that_were_embedded_are_not_embedded_again(store, tmp_path):
    await store.put(*[make_entry(f"more-{number:03}") for number in range(500)])
    async with open_shelf(tmp_path / "shelf", store="store", model="lengths") as shelf:
        with pytest.raises(PortUnavailable):
            await embed_anew(store, Lengths(fails_after=400), shelf)
    async with open_shelf(tmp_path / "shelf", store="store", model="lengths") as shelf:
        done = await embed_anew(store, Lengths(), shelf)
    assert done.resumed > 200
    assert done.resumed + done.entries + done.too_long == 503
    assert len(await rows_of(store)) == 502
    assert list((tmp_path / "shelf").iterdir()) == []


async def test_what_is_stored_meanwhile_is_caught_up(store, shelf):
    class Busy(Lengths):
        async def embed(self, text):
            if not self.embedded:
                await store.put(make_entry("late", created_at=NOW))
            return await super().embed(text)

    await embed_anew(store, Busy(), shelf)
    assert "id-late" in await rows_of(store)


async def test_run_again_it_embeds_only_what_has_no_vector(store, shelf):
    await embed_anew(store, Lengths(), shelf)
    await store.put(make_entry("new"))
    embedder = Lengths()
    assert (await embed_anew(store, embedder, shelf)).entries == 1
    assert embedder.embedded == ["What is new?"]
    assert sorted(await rows_of(store)) == ["id-a", "id-b", "id-new"]


async def test_a_proxy_that_cannot_follow_so_fast_keeps_the_vectors_that_it_has(world, store, shelf):
    """Re-embedding many entries trims the log past whoever follows: that all vectors were told to be gone ended similar
    hits until a restart."""
    many = [make_entry(f"more-{number:03}") for number in range(600)]
    await store.put(*many)
    for entry in many:
        await store.set_vector(entry.id, direction(1, 0, 0), entry.id)
    proxy = (await world.kept()).store
    await proxy.claim_embedding("old", 3)
    searched = set(await rows_of(proxy))
    await embed_anew(store, Lengths(), shelf)
    await world.trim_logs()
    await store.remove(Selection(ids=["id-b"]))
    while changes := await proxy.changes():
        assert all(change.row is None for change in changes)
        searched -= {change.entry_id for change in changes}
    assert searched == {"id-a", "id-c", *(entry.id for entry in many)}


async def test_a_proxy_under_the_old_model_stores_no_vector_after_the_switch(world, store, shelf):
    proxy = (await world.kept()).store
    await proxy.claim_embedding("old", 3)
    await embed_anew(store, Lengths(), shelf)
    await proxy.put(make_entry("e"))
    with pytest.raises(PortUnavailable):
        await proxy.set_vector("id-e", np.array([0, 1, 0], np.float32), "id-e")
