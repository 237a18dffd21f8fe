"""Virtual keys in Redis. All on one slot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from cacheproxy import jsontext
from cacheproxy.core.keys import VirtualKey
from cacheproxy.store.redis_link import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.store.redis_layout import Layout
    from cacheproxy.store.redis_link import Link

_ADD: Final = Script(r"""
local added = redis.call('HSETNX', KEYS[1]..':keys', ARGV[1], ARGV[2])
if added == 1 then redis.call('INCR', KEYS[1]..':keys-version') end
return added
""")
_REVOKE: Final = Script(r"""
local gone = redis.call('HDEL', KEYS[1]..':keys', ARGV[1])
if gone == 1 then redis.call('INCR', KEYS[1]..':keys-version') end
return gone
""")


class RedisKeys:
    """``Keys`` in Redis."""

    def __init__(self, link: Link, layout: Layout) -> None:
        self._link = link
        self._tag = layout.tag(layout.shard_of_name("keys"))

    async def add(self, key: VirtualKey) -> bool:
        """See ``Keys``."""
        expires_at = None if math.isinf(key.expires_at) else key.expires_at
        kept = jsontext.dump([key.tenant, key.digest.hex(), key.hint, key.created_at, expires_at])
        return bool(await self._link.ask(*_ADD(self._tag, key.name, kept)))

    async def revoke(self, name: str) -> bool:
        """See ``Keys``."""
        return bool(await self._link.ask(*_REVOKE(self._tag, name)))

    async def every(self) -> Sequence[VirtualKey]:
        """See ``Keys``."""
        kept: dict[bytes, Any] = await self._link.ask("HGETALL", f"{self._tag}:keys")
        return sorted((_read(name.decode(), row) for name, row in kept.items()), key=lambda key: key.name)

    async def version(self) -> int:
        """See ``Keys``."""
        return int(await self._link.ask("GET", f"{self._tag}:keys-version") or 0)


def _read(name: str, row: bytes) -> VirtualKey:
    tenant, digest, hint, created_at, expires_at = jsontext.parse(row)
    return VirtualKey(
        name, tenant, bytes.fromhex(digest), hint, created_at, math.inf if expires_at is None else expires_at
    )
