"""When credentials were last accepted, in Redis: by their hashes, never themselves. Forgotten after a month unused."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from cacheproxy.store.redis_link import Script
from cacheproxy.store.redis_stream import KEPT, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cacheproxy.store.redis_layout import Layout
    from cacheproxy.store.redis_link import Link

_KEPT_S: Final = 30 * 86_400
"""Far longer than any proof is good for."""
_STREAM: Final = "proofs"

_PROVE: Final = Script(r"""
local credential, at, life, writer, kept = unpack(ARGV)
local name = KEYS[1]..':proof:'..credential
local before = redis.call('GET', name)
if before and tonumber(before) > tonumber(at) then at = before end
redis.call('SET', name, at, 'EX', life)
redis.call('XADD', KEYS[1]..':proofs', 'MAXLEN', '~', kept, '*', 'w', writer, 'c', credential, 'a', at)
return 1
""")
_REVOKE: Final = Script(r"""
local credential, writer, kept = unpack(ARGV)
if redis.call('DEL', KEYS[1]..':proof:'..credential) == 1 then
  redis.call('XADD', KEYS[1]..':proofs', 'MAXLEN', '~', kept, '*', 'w', writer, 'c', credential, 'a', '0.0')
end
return 1
""")


class RedisCredentials:
    """The part of ``Store`` that is about credentials."""

    def __init__(self, link: Link, layout: Layout) -> None:
        self._link = link
        self._tag = layout.tag(layout.shard_of_name("credentials"))
        self._writer = secrets.token_hex(8)
        self._stream = Stream(link, self._tag, _STREAM, writer=self._writer)

    async def proven_at(self, credential: str) -> float | None:
        """See ``Store``."""
        told = await self._link.ask("GET", f"{self._tag}:proof:{credential}")
        return None if told is None else float(told)

    async def prove(self, credential: str, at: float) -> None:
        """See ``Store``."""
        await self._link.ask(*_PROVE(self._tag, credential, repr(at), _KEPT_S, self._writer, KEPT))

    async def revoke(self, credential: str) -> None:
        """See ``Store``. One that was never proven leaves no trace: made-up keys are many."""
        await self._link.ask(*_REVOKE(self._tag, credential, self._writer, KEPT))

    async def proofs(self) -> Mapping[str, float]:
        """See ``Store``. Where some of it was missed, a process finds out by its own requests."""
        return {told[b"c"].decode(): float(told[b"a"]) for told in await self._stream.news() or ()}
