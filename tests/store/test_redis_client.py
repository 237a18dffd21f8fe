from __future__ import annotations

import pytest
from support.redis_server import new_prefix

from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_url import read_url


@pytest.mark.parametrize("which", ["redis_server", "redis_cluster", "redis_sentinels"])
async def test_a_client_speaks_to_what_the_url_names(which, request):
    url = request.getfixturevalue(which).url
    async with open_client(read_url(url)) as client:
        key = f"{new_prefix()}:{{s0}}"
        await client.set(key, b"\xff")
        assert await client.get(key) == b"\xff"
