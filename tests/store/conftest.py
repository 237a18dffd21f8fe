"""Redis stores for what is particular to them."""

from contextlib import AsyncExitStack

import pytest
from support.redis_server import needs_redis, running_server
from support.redis_stores import RedisWorld


@pytest.fixture
async def redis_world(redis_server):
    """Stores under a prefix of their own on the server that all tests share."""
    async with AsyncExitStack() as stack:
        yield RedisWorld(stack, redis_server.url)


@pytest.fixture
def own_redis(tmp_path):
    """A server that the test may break."""
    needs_redis()
    with running_server(tmp_path) as server:
        yield server


@pytest.fixture
async def own_world(own_redis):
    async with AsyncExitStack() as stack:
        yield RedisWorld(stack, own_redis.url)
