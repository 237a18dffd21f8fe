"""Virtual keys in the embedded database; what they promise is in tests/contracts/test_keys.py."""

import math

from cacheproxy.core.keys import VirtualKey, digest_of
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_keys import SqliteKeys

NOW = 1_800_000_000.0
KEY = "cpk_" + "s3cret" * 8


async def test_the_file_holds_no_key(tmp_path):
    async with open_sqlite(tmp_path / "cache.db", clock=lambda: NOW) as store:
        keys = SqliteKeys(store.database)
        assert await keys.add(VirtualKey("alice", "alice", digest_of(KEY), KEY[:9], NOW, math.inf))
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert digest_of(KEY) in held
    assert b"s3crets3cret" not in held


async def test_emptying_the_cache_leaves_the_keys(tmp_path):
    async with open_sqlite(tmp_path / "cache.db", clock=lambda: NOW) as store:
        keys = SqliteKeys(store.database)
        await keys.add(VirtualKey("alice", "alice", digest_of(KEY), KEY[:9], NOW, NOW - 1))
        await store.sweep(NOW + 1e9)
        assert [key.name for key in await keys.every()] == ["alice"]
