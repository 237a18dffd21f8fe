"""Opening the store: one secret for all, a layout that is understood, and what is told when there is none."""

from __future__ import annotations

import pytest
from support.redis_server import free_port
from support.stores import NOW

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.store.redis_opening import open_redis
from cacheproxy.store.redis_url import Dialled, read_url


async def test_all_proxies_of_a_store_hash_with_the_secret_of_the_first(redis_world):
    one, other = await redis_world.kept(), await redis_world.kept()
    assert (len(one.secret), one.secret) == (32, other.secret)


async def test_how_many_shards_there_are_is_settled_by_the_first(redis_world):
    await redis_world.kept(shards=4)
    assert (await redis_world.kept(shards=32)).layout.shards == 4


async def test_a_store_of_a_later_release_is_refused(redis_world):
    await redis_world.kept()
    client = await redis_world.client()
    await client.hset(f"{{{redis_world.prefix}}}:store", "version", 99)
    with pytest.raises(ConfigError, match="upgrade cacheproxy"):
        await redis_world.kept()


@pytest.mark.parametrize("scheme", ["redis://{}", "redis+cluster://{}", "redis+sentinel://{}/main"])
async def test_a_store_that_is_not_there_is_told_by_its_name_without_its_password(scheme):
    url = read_url(scheme.format(f"user:hush@127.0.0.1:{free_port()}"))
    with pytest.raises(PortUnavailable, match=r"cannot use the store at redis.*127\.0\.0\.1") as refused:
        async with open_redis(url, clock=lambda: NOW, how=Dialled(retries=0, connect_s=0.5)):
            pass
    assert "hush" not in str(refused.value)


async def test_a_wrong_password_is_told(own_redis):
    own_redis.client.config_set("requirepass", "hush")
    own_redis.client.auth("hush")
    for login, opens in (("", False), (":wrong@", False), (":hush@", True)):
        url = read_url(own_redis.url.replace("//", f"//{login}"))
        if opens:
            async with open_redis(url, clock=lambda: NOW) as kept:
                assert await kept.store.count() == 0
            continue
        with pytest.raises(ConfigError):
            async with open_redis(url, clock=lambda: NOW, how=Dialled(retries=0)):
                pass
