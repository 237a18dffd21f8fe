"""Stores of every kind that there is."""

from contextlib import AsyncExitStack

import pytest
from support.redis_stores import RedisWorld
from support.stores import SqliteWorld

REDISES = {"fakeredis": None, "redis": "redis_server", "redis-cluster": "redis_cluster"}
"""Where Redis stores are, each with the fixture that runs it."""


@pytest.fixture(params=["sqlite", *REDISES])
async def world(request, tmp_path):
    fixture = REDISES.get(request.param)
    url = request.getfixturevalue(fixture).url if fixture else None
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            yield SqliteWorld(tmp_path, stack)
        else:
            yield RedisWorld(stack, url, shards=4 if url is None else 16)


@pytest.fixture
async def store(world):
    return await world.open()
