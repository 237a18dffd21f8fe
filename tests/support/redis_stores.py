"""Redis stores as several processes would open them: on fakeredis, a server, or a cluster."""

from fakeredis import FakeAsyncRedis, FakeServer
from support.redis_server import new_prefix
from support.stores import EMBEDDING, NOW

from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_layout import Layout
from cacheproxy.store.redis_opening import kept_in
from cacheproxy.store.redis_url import Dialled, read_url


class RedisWorld:
    """Stores under one prefix. Without a URL they are in a fakeredis of their own."""

    def __init__(self, stack, url=None, *, shards=16):
        self.now = NOW
        self.prefix = new_prefix()
        self._stack = stack
        self._url = url
        self._shards = shards
        self._client = None

    def shards_of(self, key):
        """The number of the shard that an exact key belongs to."""
        return Layout(self.prefix, self._shards).shard_of(key)

    async def client(self):
        """One client for all of them: connecting is most of what a test of a cluster costs."""
        if self._client is None:
            opening = (
                FakeAsyncRedis(server=FakeServer(), protocol=2)
                if self._url is None
                else open_client(read_url(self._url), Dialled(connections=64))
            )
            self._client = await self._stack.enter_async_context(opening)
        return self._client

    async def trim_logs(self):
        """Leave little of the logs, as where much was written."""
        client = await self.client()
        async for log in client.scan_iter(f"{{{self.prefix}:*}}:log"):
            await client.xtrim(log, maxlen=1, approximate=False)

    async def kept(self, limits=None, **options):
        """All that a process opens."""
        opening = kept_in(
            await self.client(),
            name="redis",
            clock=lambda: self.now,
            limits=limits,
            prefix=self.prefix,
            **{"shards": self._shards, **options},
        )
        return await self._stack.enter_async_context(opening)

    async def open(self, limits=None, embedding=EMBEDDING, **options):
        store = (await self.kept(limits, **options)).store
        if embedding is not None:
            await store.claim_embedding(embedding.model, embedding.dimension)
        return store
