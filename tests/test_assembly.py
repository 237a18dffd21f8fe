"""The flow put together: names that sort, what is watched, and observers that are all told."""

from __future__ import annotations

from random import Random

import pytest

from cacheproxy import derive
from cacheproxy.assembly import World, assemble
from cacheproxy.core.breaker import BreakerState
from cacheproxy.core.pricing import GenaiPrices
from cacheproxy.flow.routing import Routes
from cacheproxy.flow.spending import Spending
from cacheproxy.index.flat import FlatIndex
from cacheproxy.judge.equality import EqualityJudge
from cacheproxy.server.metrics import Metrics
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.store.sqlite_ledger import SqliteLedger
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.scripted import ScriptedUpstream

NOW = 1_800_000_000.0


@pytest.fixture
async def assembled(tmp_path):
    """``assembled(**settings)``: a flow over real adapters, without an embedder, and its metrics as text."""

    async def build(**given):
        settings = Settings(upstream_url="https://llm.example/v1", data_dir=tmp_path, **given)
        metrics = Metrics()
        flow = assemble(
            settings,
            store=store,
            ledger=SqliteLedger(store.database),
            labels=SqliteLabels(store.database),
            index=FlatIndex(),
            embedder=None,
            verifier=None,
            judge=EqualityJudge(),
            prices=GenaiPrices(clock=lambda: NOW),
            spending=Spending(0.05),
            upstream=ScriptedUpstream([]),
            local=ScriptedUpstream([]),
            shared_flights=None,
            metrics=metrics,
            tasks=tasks,
            routes=Routes(derive.targets(settings)),
            prior=None,
            secret=b"s" * 32,
            world=World(lambda: NOW, lambda: NOW, Random(0)),
        )
        return flow, metrics.render().decode()

    async with open_sqlite(tmp_path / "cache.db", clock=lambda: NOW) as store, TaskSet("test") as tasks:
        yield build


def test_later_names_sort_behind_earlier_ones_and_none_comes_twice():
    world = World(lambda: NOW, lambda: NOW, Random(0))
    names = [world.new_id(NOW + number / 1000, b"key") for number in range(1000)]
    assert sorted(names) == names
    assert len({*names, *(world.new_id(NOW, b"key") for _ in range(1000))}) == 2000
    assert len({world.token() for _ in range(1000)}) == 1000


async def test_every_port_has_a_breaker_that_is_watched(assembled):
    flow, metrics = await assembled()
    ports = [shelter.port for shelter in flow.shelters]
    assert ports == ["store", "store-writes", "index", "embedder", "judge"]
    assert {shelter.state for shelter in flow.shelters} == {BreakerState.CLOSED}
    for port in ports:
        assert f'cacheproxy_breaker_state{{port="{port}"}} 0.0' in metrics


async def test_pools_with_a_budget_of_their_own_are_there_from_the_start(assembled):
    flow, metrics = await assembled(max_wrong_per_hit=0.01, namespaces={"legal": {"max_wrong_per_hit": 0.002}})
    assert {pool.name: pool.budget for pool in flow.pools} == {"default": 0.01, "legal": 0.002}
    assert 'cacheproxy_wrong_per_hit{bound="budget",scope="legal"} 0.002' in metrics


@pytest.mark.parametrize("policy", ["threshold", "vcache"])
async def test_a_policy_that_promises_nothing_has_no_promise_to_watch(assembled, policy):
    _, metrics = await assembled(policy=policy)
    assert "cacheproxy_wrong_per_hit{" not in metrics
    assert "cacheproxy_promise{" not in metrics
