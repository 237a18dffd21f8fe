"""Servers that tests all over the tree share."""

import pytest
from hypothesis import settings
from support.redis_server import needs_redis, needs_redis8, running_cluster, running_sentinels, running_server

# No test asserts how long something took, and one commit has one verdict.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """One redis-server that everybody uses: take a prefix of your own, and do it no harm."""
    needs_redis()
    with running_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory):
    """Three masters and three replicas, likewise shared."""
    needs_redis()
    with running_cluster(tmp_path_factory.mktemp("redis-cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis8_server(tmp_path_factory):
    """One that has vector sets, likewise shared."""
    path = needs_redis8()
    with running_server(tmp_path_factory.mktemp("redis8"), path=path) as server:
        yield server


@pytest.fixture(scope="session")
def redis8_cluster(tmp_path_factory):
    """A cluster that has them, likewise."""
    path = needs_redis8()
    with running_cluster(tmp_path_factory.mktemp("redis8-cluster"), path) as cluster:
        yield cluster


@pytest.fixture
def redis_sentinels(tmp_path):
    """A master, a replica and three Sentinels for one test, which may break them."""
    needs_redis()
    with running_sentinels(tmp_path) as trio:
        yield trio
