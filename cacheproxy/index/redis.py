"""Nearest vectors by Redis 8 vector sets: for what no longer fits one machine's memory.

One vector set for each scope, with the scope as its hash tag, so that scopes spread over a cluster and what belongs to
one lies on one shard. All proxies share it: what one adds, the others find, and nothing is filled at start.

Members are entries' ids. Attributes hold when an entry expires and, where that is another entry, its root. What has
expired is not told, and is removed when it is met: by a search, or by one of a few random looks that each ``add``
takes, as Redis itself expires keys. A set that nobody adds to goes with its last entry.

Redis computes similarities, in float32 and, unless not quantised, from vectors of 8-bit numbers; see docs/scaling.md.
From 8.2 on it tells the attributes with what a search found; Redis 8.0 is asked for them in a second round trip.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from cacheproxy import jsontext
from cacheproxy.errors import ConfigError, PortUnavailable, translating
from cacheproxy.index.flat import unit
from cacheproxy.model import Neighbor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis, RedisCluster

    from cacheproxy.errors import ProxyError
    from cacheproxy.model import IndexRow, Vector

EXPLORED: Final = 256
"""Candidates that a search keeps while it walks the graph (EF). Redis's own 100 finds fewer of the nearest."""
BUILT: Final = 64
"""Candidates that an addition keeps while it looks for a vector's neighbours. With Redis's own 200 it takes Redis's one
thread twice as long, and searches find no more of the nearest; docs/scaling.md has it measured."""
_SPARE: Final = 8
"""Neighbours asked for beyond ``k``: equals are put in the order of their ids, and some may have expired."""
_LOOKS: Final = 3
"""Random members that each addition checks. Where as many come as go, that keeps the expired at about a third: Redis
draws by walking its graph, and comes by some twice as often as by others."""
_NEVER: Final = 253_402_300_799
"""The end of the year 9999 stands for an entry that does not expire: each has a time, and each set."""
_KNOWN_SCOPES: Final = 65_536
_UNAVAILABLE: Final[Mapping[type[BaseException], type[ProxyError]]] = {
    RedisError: PortUnavailable,
    RedisClusterException: PortUnavailable,
    OSError: PortUnavailable,
}
_ON_ITS_WAY: Final = (ClusterDownError, ReadOnlyError, TryAgainError)
"""What a server answers that can be expected to answer otherwise soon."""

_FORGET: Final = """
local function forget(id)
    local attributes = redis.call('VGETATTR', KEYS[1], id)
    if not attributes then return end
    local root = cjson.decode(attributes).root
    redis.call('VREM', KEYS[1], id)  -- before what takes memory, which a full Redis lets a script do only after a write
    if root and redis.call('HINCRBY', KEYS[2], root, -1) <= 0 then redis.call('HDEL', KEYS[2], root) end
end
"""
_REMOVE: Final = _FORGET + "for _, id in ipairs(ARGV) do forget(id) end return 1"
_ADD: Final = (
    _FORGET
    + """
local id, vector, attributes, root, expires, now, quantisation, built, looks = unpack(ARGV)
forget(id)
redis.call('VADD', KEYS[1], 'FP32', vector, id, quantisation, 'EF', built, 'SETATTR', attributes)
if root ~= id then redis.call('HINCRBY', KEYS[2], root, 1) end
for _, key in ipairs(KEYS) do
    redis.call('EXPIREAT', key, expires, 'NX')
    redis.call('EXPIREAT', key, expires, 'GT')
end
for _, member in ipairs(redis.call('VRANDMEMBER', KEYS[1], looks)) do
    local seen = redis.call('VGETATTR', KEYS[1], member)
    if seen and cjson.decode(seen).expires <= tonumber(now) then forget(member) end
end
return 1
"""
)
_TELL: Final = """
local attributes = {}
for at, id in ipairs(ARGV) do attributes[at] = redis.call('VGETATTR', KEYS[1], id) end
return attributes
"""
_TRY: Final = """
redis.call('DEL', KEYS[1])  -- a full Redis lets a script take memory after a write
redis.call('VADD', KEYS[1], 'VALUES', 2, 1, 0, 'a', 'SETATTR', '{}')
local found = redis.pcall('VSIM', KEYS[1], 'VALUES', 2, 1, 0, 'WITHSCORES', 'WITHATTRIBS')
redis.call('DEL', KEYS[1])
return found.err and 0 or 1
"""


@dataclass(frozen=True, slots=True)
class _Found:
    entry_id: str
    similarity: float
    root: str
    expires: float


class RedisIndex:
    """A ``VectorIndex`` in Redis. The first vector sets the dimension if none is given.

    ``model`` names the embeddings: those of another model lie apart. ``now`` tells the time, in seconds.
    """

    shared: Final = True

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        now: Callable[[], float],
        model: str = "",
        dimension: int | None = None,
        quantised: bool = True,
        prefix: str = "cacheproxy",
    ) -> None:
        self._client = client
        self._now = now
        self._dimension = dimension
        self._quantisation = "Q8" if quantised else "NOQUANT"
        self._prefix = prefix
        # Neither other embeddings nor another precision may share a set.
        self._name = f"{hashlib.sha256(model.encode()).hexdigest()[:12]}:{self._quantisation.lower()}"
        self._filled_key = f"{prefix}:near:{self._name}:filled"
        self._not_empty: dict[bytes, None] = {}
        self._tells_attributes = True

    async def prepare(self) -> None:
        """Find out what this Redis's vector sets can do.

        Raises ``ConfigError`` when it has none, else as ``add``.
        """
        key = f"{self._prefix}:{{vector-sets}}:tried:{self._name}"
        with translating(_UNAVAILABLE, doing="try the vector sets"):
            try:
                self._tells_attributes = bool(await self._client.eval(_TRY, 1, key))
            except _ON_ITS_WAY:
                raise
            except ResponseError as error:
                raise ConfigError(
                    "index redis needs the vector sets of Redis 8.0 or newer, which this server does not have "
                    f"({str(error).strip()}): upgrade it, or set index to faiss"
                ) from None

    async def is_filled(self) -> bool:
        """Whether somebody has put in what the store held before. Raises ``PortUnavailable``."""
        with translating(_UNAVAILABLE, doing="ask whether the index is filled"):
            return await self._client.get(self._filled_key) is not None

    async def mark_filled(self) -> None:
        """That is done. Raises ``PortUnavailable``."""
        with translating(_UNAVAILABLE, doing="say that the index is filled"):
            await self._client.set(self._filled_key, 1)

    async def add(self, row: IndexRow) -> None:
        """See ``VectorIndex``. Raises ``PortUnavailable`` for a vector that cannot be indexed."""
        dimension = row.vector.size if self._dimension is None else self._dimension
        vector = unit(row.vector, dimension)
        self._dimension = dimension
        expires = min(math.ceil(row.expires_at), _NEVER) if row.expires_at < _NEVER else _NEVER
        attributes = {"expires": expires} | ({} if row.root == row.entry_id else {"root": row.root})
        await self._run(
            _ADD,
            row.scope,
            row.entry_id,
            vector.astype("<f4").tobytes(),
            jsontext.dump(attributes),
            row.root,
            expires,
            math.floor(self._now()),
            self._quantisation,
            BUILT,
            _LOOKS,
        )

    async def remove(self, entry_id: str, scope: bytes) -> None:
        """See ``VectorIndex``. Where the scope is not known any more, the entry is left to be met when it expired."""
        if scope:
            await self._run(_REMOVE, scope, entry_id)

    async def is_empty(self, scope: bytes) -> bool:
        """See ``VectorIndex``. One that was found to have entries is not asked for again: that costs a round trip."""
        if scope in self._not_empty:
            return False
        with translating(_UNAVAILABLE, doing="ask the index"):
            empty = not await self._client.execute_command("VCARD", self._keys(scope)[0])
        if not empty:
            self._remember(scope)
        return empty

    async def nearest(self, scope: bytes, vector: Vector, k: int) -> Sequence[Neighbor]:
        """At most ``k`` entries of the scope, most similar first, equals in the order of their ids.

        A search is one round trip, or two on Redis 8.0. So much of what is near may have expired that it hides what
        has not: then it is searched for once more.
        """
        query = unit(vector, self._dimension or vector.size).astype("<f4").tobytes()
        if k < 1:
            return []
        found = await self._search(scope, query, k)
        now = self._now()
        gone = [each.entry_id for each in found if each.expires <= now]
        if gone and len(found) - len(gone) < k and len(found) >= k + _SPARE:
            found = await self._search(scope, query, k, "FILTER", f".expires > {math.floor(now)}")
        if gone:
            await self._run(_REMOVE, scope, *gone)
        if not found:
            self._not_empty.pop(scope, None)
        living = [each for each in found if each.expires > now]
        living.sort(key=lambda each: (-each.similarity, each.entry_id))
        return [Neighbor(each.entry_id, each.similarity, each.root) for each in living[:k]]

    async def keys_of(self, scope: bytes, root: str) -> int:
        """See ``VectorIndex``. Two look-ups at once."""
        members, aliases = self._keys(scope)
        with translating(_UNAVAILABLE, doing="count an answer's keys"):
            attributes, others = await asyncio.gather(
                self._client.execute_command("VGETATTR", members, root), self._client.hget(aliases, root)
            )
        leads_to_itself = attributes is not None and "root" not in jsontext.parse(attributes)
        return leads_to_itself + int(others or 0)

    def _keys(self, scope: bytes) -> tuple[str, str]:
        """Where a scope's members are, and how many of them are aliases of each root. On one shard."""
        tagged = f"{self._prefix}:{{{scope.hex()}}}"
        return f"{tagged}:near:{self._name}", f"{tagged}:aliases:{self._name}"

    async def _search(self, scope: bytes, query: bytes, k: int, *only: str) -> list[_Found]:
        told = ("WITHSCORES", "WITHATTRIBS") if self._tells_attributes else ("WITHSCORES",)
        with translating(_UNAVAILABLE, doing="search the index"):
            reply = await self._client.execute_command(
                "VSIM", self._keys(scope)[0], "FP32", query, *told, "COUNT", k + _SPARE, "EF", EXPLORED, *only
            )
        width = 1 + len(told)
        members, scores = reply[::width], reply[1::width]
        if self._tells_attributes:
            attributes = reply[2::width]
        else:
            attributes = await self._run(_TELL, scope, *members) if members else []
        rows = zip(members, scores, attributes, strict=True)
        return [_found(*row) for row in rows if row[-1] is not None]  # None: removed since the search

    async def _run(self, script: str, scope: bytes, *arguments: str | bytes | int) -> Any:
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()  # the name that Redis gives a script
        keys = self._keys(scope)
        with translating(_UNAVAILABLE, doing="run a script of the index"):
            try:
                return await self._client.evalsha(digest, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._client.eval(script, len(keys), *keys, *arguments)

    def _remember(self, scope: bytes) -> None:
        if len(self._not_empty) >= _KNOWN_SCOPES:
            del self._not_empty[next(iter(self._not_empty))]
        self._not_empty[scope] = None


def _found(member: bytes, score: bytes, attributes: bytes) -> _Found:
    entry_id = member.decode()
    known = jsontext.parse(attributes)
    cosine = 2.0 * float(score) - 1.0  # Redis scores from 0, opposite, to 1
    return _Found(entry_id, float(np.clip(cosine, 0.0, 1.0)), known.get("root", entry_id), known["expires"])
