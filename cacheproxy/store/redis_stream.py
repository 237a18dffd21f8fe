"""A stream of what processes have to tell each other, beside the log of the entries: verdicts, marks, credentials.

Followed as the log is: the record at a process's place is read again with those behind it, and where it is no longer
the first, some were missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cacheproxy.store.redis_link import Script

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cacheproxy.store.redis_link import Link

KEPT: Final = 10_000
"""Records, near enough."""
_AT_ONCE: Final = 1000

_BEGIN: Final = Script(r"""
local name = KEYS[1]..':'..ARGV[1]
if redis.call('EXISTS', name) == 0 then redis.call('XADD', name, '*', 'w', '', 'k', 'begun') end
return redis.call('XREVRANGE', name, '+', '-', 'COUNT', 1)[1][1]
""")


class Stream:
    """A stream's records since a place. ``tag`` is the hash tag that it lies under."""

    def __init__(self, link: Link, tag: str, name: str, *, writer: str) -> None:
        self._link = link
        self._tag = tag
        self._name = name
        self._writer = writer.encode()
        self._place: bytes | None = None

    async def news(self) -> Sequence[Mapping[bytes, bytes]] | None:
        """What other processes told since the last call; None when some of it was missed.

        The first call tells nothing: it says where to begin. Nothing is lost when a caller leaves before the answer.
        """
        if self._place is None:
            self._place = await self._end()
            return ()
        records: list[Any] = await self._link.ask(
            "XRANGE", f"{self._tag}:{self._name}", self._place, "+", "COUNT", _AT_ONCE
        )
        if not records or records[0][0] != self._place:
            self._place = await self._end()
            return None
        self._place = records[-1][0]
        return [told for _, told in records[1:] if told[b"w"] != self._writer]

    async def _end(self) -> bytes:
        place: bytes = await self._link.ask(*_BEGIN(self._tag, self._name))
        return place
