"""A vector index in a Redis that knows vector sets: fakeredis, since Debian's server does not know them."""

from fakeredis import FakeAsyncRedis

from cacheproxy.index.redis import RedisIndex


def redis_index(client=None, *, now=lambda: 0.0, quantised=False, **options):
    return RedisIndex(client or FakeAsyncRedis(), now=now, quantised=quantised, **options)
