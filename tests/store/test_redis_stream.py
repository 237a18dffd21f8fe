from __future__ import annotations

from support.redis_server import new_prefix

from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_link import Link
from cacheproxy.store.redis_stream import Stream
from cacheproxy.store.redis_url import read_url
from cacheproxy.tasks import TaskSet


async def test_what_was_missed_is_told_as_such_and_what_comes_after_is_told(redis_server):
    tag = f"{{{new_prefix()}}}"
    async with open_client(read_url(redis_server.url)) as client, TaskSet("test") as tasks:
        link = Link(client, lanes=1, tasks=tasks)
        stream = Stream(link, tag, "said", writer="me")
        assert list(await stream.news()) == []
        for writer in ("me", "another"):
            await client.xadd(f"{tag}:said", {"w": writer, "k": "mark"})
        assert [told[b"w"] for told in await stream.news()] == [b"another"]
        await client.xadd(f"{tag}:said", {"w": "another", "k": "mark"})
        await client.xtrim(f"{tag}:said", maxlen=1, approximate=False)
        assert await stream.news() is None
        assert list(await stream.news()) == []
        await client.delete(f"{tag}:said")
        assert await stream.news() is None
