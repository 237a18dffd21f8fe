"""Vector indexes in Redis as several processes would open them: on fakeredis, on a server, or on a cluster."""

from contextlib import asynccontextmanager

from fakeredis import FakeAsyncRedis, FakeServer
from support.redis_server import new_prefix

from cacheproxy.index.redis import RedisIndex
from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_url import read_url

REDISES = {"fakeredis": None, "redis8": "redis8_server", "redis8-cluster": "redis8_cluster"}
"""Redises that have vector sets, each with the fixture that runs it."""


class RedisIndexes:
    """Indexes under one prefix, by one client."""

    def __init__(self, client):
        self.client = client
        self.prefix = new_prefix()

    async def open(self, *, now=lambda: 0.0, quantised=False, **options):
        index = RedisIndex(self.client, now=now, quantised=quantised, prefix=self.prefix, **options)
        await index.prepare()
        return index


@asynccontextmanager
async def indexes_in(redis, request):
    """Indexes in one of the Redises above, which the test's request starts."""
    fixture = REDISES[redis]
    opening = (
        FakeAsyncRedis(server=FakeServer(), protocol=2)
        if fixture is None
        else open_client(read_url(request.getfixturevalue(fixture).url))
    )
    async with opening as client:
        yield RedisIndexes(client)
