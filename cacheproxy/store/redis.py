"""The shared store: entries, vectors and proven credentials in a Redis that many proxies use, one server or a cluster.

An entry is written by one script on one slot, and so is there whole or not at all. Looking one up takes one round trip.
redis_layout.py tells which keys there are, redis_log.py how processes learn what the others did.

What does not decode is deleted, counted and logged, and otherwise as if it were absent; what a later release wrote is
absent, too, and stays.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.model import EVERYTHING, Uses
from cacheproxy.store import codec
from cacheproxy.store import redis_scripts as scripts
from cacheproxy.store.redis_catalogue import Catalogue
from cacheproxy.store.redis_layout import (
    bytes_of,
    counted_once,
    encode_meta,
    life_ms,
    name_of,
    named,
    tags_text,
    text_of,
)
from cacheproxy.store.redis_log import Follower
from cacheproxy.store.redis_room import Room
from cacheproxy.store.vectors import EmbeddingName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from cacheproxy.model import Change, Entry, IndexRow, Selection, Vector
    from cacheproxy.store.entries import StoreLimits
    from cacheproxy.store.redis_credentials import RedisCredentials
    from cacheproxy.store.redis_labels import RedisLabels
    from cacheproxy.store.redis_layout import Layout
    from cacheproxy.store.redis_link import Command, Link

log = logging.getLogger(__name__)

_SWEPT_AT_ONCE: Final = 500
"""Expired entries of a shard: a script holds up everybody else on its server."""
_DROPPED_AT_ONCE: Final = 200
_LARGE: Final = 64 * 1024
"""Bytes from which an entry is encoded and decoded beside the event loop."""


class RedisStore:
    """A ``Store`` in Redis. Made by ``redis_opening.open_redis``."""

    def __init__(
        self,
        link: Link,
        layout: Layout,
        *,
        limits: StoreLimits,
        credentials: RedisCredentials,
        labels: RedisLabels,
        clock: Callable[[], float],
        log_entries: int,
    ) -> None:
        self.corrupt_rows = 0
        """How many entries did not decode since the store was opened."""
        self._link = link
        self._layout = layout
        self._limits = limits
        self._credentials = credentials
        self._labels = labels
        self._clock = clock
        self._writing = (secrets.token_hex(8), log_entries)
        self._follower = Follower(link, layout, writer=self._writing[0])
        self._catalogue = Catalogue(link, layout)
        self._room = Room(link, layout, limits=limits, writing=self._writing)
        self._embedding: EmbeddingName | None = None

    async def begin(self) -> None:
        """Follow what happens from here on. Raises ``PortUnavailable``."""
        await self._follower.begin()

    # --- entries

    def may_hold(self, key: bytes) -> bool:
        """See ``Store``. Always: other processes store, too, and Redis is asked in one round trip."""
        return len(key) > 0

    async def find(self, key: bytes) -> Sequence[Entry]:
        """See ``Store``. One round trip."""
        shard = self._layout.shard_of(key)
        with self._follower.readers.reading() as reading:
            found = await self._link.ask(*scripts.FIND(self._layout.tag(shard), key.hex()))
            rows = [(shard, text_of(found[at]), found[at + 1], found[at + 2]) for at in range(0, len(found), 3)]
            return reading.usable(await self._decoded(rows))

    async def load(self, ids: Sequence[str]) -> Sequence[Entry]:
        """See ``Store``. One round trip."""
        places = [(entry_id, shard) for entry_id in ids for shard in self._layout.shards_of_id(entry_id)]
        with self._follower.readers.reading() as reading:
            told = await self._link.ask_all(
                [("HMGET", self._layout.key(shard, "e", entry_id), "p", "x") for entry_id, shard in places]
            )
            rows = [
                (shard, entry_id, payload, other_expiry)
                for (entry_id, shard), (payload, other_expiry) in zip(places, told, strict=True)
                if payload is not None
            ]
            return reading.usable(await self._decoded(rows))

    async def put(self, *given: Entry, samples: int = 1) -> None:
        """See ``Store``. One round trip for all; past the limits, what was not used for longest makes room."""
        now = self._clock()
        fitting = [entry for entry in given if entry.size <= self._limits.max_bytes]
        puts = [await self._putting(entry, samples, now) for entry in fitting]
        answers = await self._link.ask_each([*puts, *self._older_selves(fitting)])
        for entry, answer in zip(fitting, answers, strict=False):
            if not isinstance(answer, BaseException):
                self._room.told(self._layout.shard_of(entry.key), answer)
        await self._room.make(now, spared=[entry.id for entry in fitting])
        if failed := next((answer for answer in answers if isinstance(answer, BaseException)), None):
            raise failed
        if len(fitting) < len(given):
            raise PortUnavailable(f"an entry is more than the {self._limits.max_bytes} bytes that the store may hold")

    async def touch(self, hits: Mapping[str, int], at: float, *, batch: int | None = None) -> bool:
        """See ``Store``. Shards that have counted the batch do not count it again."""
        of_shards: dict[int, list[Any]] = defaultdict(list)
        for entry_id, count in hits.items():
            for shard in self._layout.shards_of_id(entry_id):
                of_shards[shard] += [bytes_of(entry_id), count]
        numbered = counted_once(self._writing[0], batch)
        told = await self._link.ask_all(
            [scripts.TOUCH(self._layout.tag(shard), *numbered, repr(at), *of) for shard, of in of_shards.items()]
        )
        return any(told)

    async def uses(self, ids: Sequence[str]) -> Mapping[str, Uses]:
        """See ``Store``."""
        places = [(entry_id, shard) for entry_id in ids for shard in self._layout.shards_of_id(entry_id)]
        commands: list[Command] = []
        for entry_id, shard in places:
            commands.append(("HMGET", self._layout.key(shard, "e", entry_id), "m", "h"))
            commands += [("ZSCORE", self._layout.key(shard, name), bytes_of(entry_id)) for name in ("u", "w")]
        told = await self._link.ask_all(commands)
        used: dict[str, Uses] = {}
        for number, (entry_id, _) in enumerate(places):
            (meta, hits), *scores = told[3 * number : 3 * number + 3]
            if meta is not None:
                last = next((float(score) for score in scores if score is not None), 0.0)
                used[entry_id] = Uses(int(hits or 0), last)
        return used

    async def expire_at(self, entry_id: str, at: float) -> bool:
        """See ``Store``."""
        life = life_ms(at, self._clock())
        told = await self._link.ask_all(
            [
                scripts.EXPIRE(self._layout.tag(shard), bytes_of(entry_id), _score(at), life, *self._writing)
                for shard in self._layout.shards_of_id(entry_id)
            ]
        )
        return any(told)

    async def remove(self, selection: Selection) -> int:
        """See ``Store``."""
        removed = 0
        async for page in self._catalogue.selected(selection):
            of_shards: dict[int, list[bytes]] = defaultdict(list)
            for each in page:
                of_shards[each.shard].append(bytes_of(each.entry_id))
            drops = [
                scripts.DROP(self._layout.tag(shard), *self._writing, *ids[start : start + _DROPPED_AT_ONCE])
                for shard, ids in of_shards.items()
                for start in range(0, len(ids), _DROPPED_AT_ONCE)
            ]
            removed += sum(await self._link.ask_all(drops))
        return removed

    async def sweep(self, now: float) -> int:
        """See ``Store``. Also forgets verdicts that went stale."""
        swept = 0
        shards = list(range(self._layout.shards))
        while shards:
            dropped = await self._link.ask_all(
                [scripts.SWEEP(self._layout.tag(shard), *self._writing, repr(now), _SWEPT_AT_ONCE) for shard in shards]
            )
            swept += sum(dropped)
            shards = [shard for shard, gone in zip(shards, dropped, strict=True) if gone == _SWEPT_AT_ONCE]
        await self._room.look()
        evicted = await self._room.make(now)
        await self._labels.forget_stale(now)
        return swept + evicted

    async def browse(self, selection: Selection, *, limit: int, after: str = "") -> Sequence[Entry]:
        """See ``Store``."""
        entries: list[Entry] = []
        if limit < 1:
            return entries
        async for page in self._catalogue.selected(selection, after=after):
            for start in range(0, len(page), limit):
                entries += await self.load([each.entry_id for each in page[start : start + limit]])
                if len(entries) >= limit:
                    return entries[:limit]
        return entries

    async def count(self, selection: Selection = EVERYTHING) -> int:
        """See ``Store``. Everything is counted without looking at it; what expired since the last sweep is in it."""
        if selection == EVERYTHING:
            return (await self._room.look()).entries
        return sum([len(page) async for page in self._catalogue.selected(selection)])

    async def index_is_shared(self) -> None:
        """All processes have one index: from here on ``changes`` need not tell of vectors that came.

        To be called before anything is held in memory. Raises ``PortUnavailable``.
        """
        await self._follower.begin(tells_of_new=False)

    async def changes(self) -> Sequence[Change]:
        """See ``Store``. One round trip where nothing happened."""
        return await self._follower.changes(self._embedding, now=self._clock())

    # --- vectors

    async def claim_embedding(self, model: str, dimension: int) -> None:
        """Say which embeddings this process stores, before ``set_vector``, ``vectors`` and ``changes`` deal in any.

        Raises ``ConfigError`` when the store holds vectors of another model or dimension.
        """
        claimed = EmbeddingName(model, dimension)
        stored = await self._link.ask_all(
            [("HGET", self._layout.key(shard, "meta"), "embedding") for shard in range(self._layout.shards)]
        )
        others = [name for each in stored if each is not None and (name := named(each)) != claimed]
        if others and await self._holds_vectors():
            raise ConfigError(
                f"the store holds embeddings of {others[0]}, the settings name {claimed}: "
                "set the stored model, or run `cacheproxy cache re-embed`"
            )
        metas = [self._layout.key(shard, "meta") for shard in range(self._layout.shards)]
        await self._link.ask_all([("HSET", meta, "embedding", name_of(claimed)) for meta in metas])
        self._embedding = claimed

    async def stored_embedding(self) -> EmbeddingName | None:
        """Which embeddings the store holds, whoever stored them."""
        told = await self._link.ask("HGET", self._layout.key(0, "meta"), "embedding")
        return None if told is None else named(told)

    async def drop_vectors(self) -> None:
        """Delete every vector and forget which embeddings they were; claim the new ones next. Roots are kept."""
        shards = range(self._layout.shards)
        await self._link.ask_all([("HDEL", self._layout.key(shard, "meta"), "embedding") for shard in shards])
        self._embedding = None
        for shard in shards:
            async for block in self._catalogue.of_shard(shard):
                ids = [bytes_of(each.entry_id) for each in block]
                await self._link.ask(*scripts.FORGET_VECTORS(self._layout.tag(shard), *ids))

    async def keep_roots(self, roots: Mapping[str, str]) -> None:
        """Keep the roots, by id, of entries whose vectors are still to be made."""
        await self._link.ask_all(
            [
                scripts.KEEP_ROOT(self._layout.tag(shard), bytes_of(entry_id), bytes_of(root))
                for entry_id, root in roots.items()
                for shard in self._layout.shards_of_id(entry_id)
            ]
        )

    async def roots(self, ids: Sequence[str]) -> Mapping[str, str]:
        """See ``Store``."""
        places = [(entry_id, shard) for entry_id in ids for shard in self._layout.shards_of_id(entry_id)]
        told = await self._link.ask_all(
            [("HGET", self._layout.key(shard, "e", entry_id), "r") for entry_id, shard in places]
        )
        return {entry_id: text_of(root) for (entry_id, _), root in zip(places, told, strict=True) if root is not None}

    async def set_vector(self, entry_id: str, vector: Vector, root: str) -> None:
        """See ``Store``. Refuses a vector that is not of the claimed embeddings, with ``PortUnavailable``."""
        embedding = self._embedding
        if embedding is None or vector.shape != (embedding.dimension,):
            raise PortUnavailable(f"a vector of shape {vector.shape} does not belong to the embeddings {embedding}")
        try:
            encoded = codec.encode_vector(vector)
        except ValueError as error:
            raise PortUnavailable(f"keep a vector: {error}") from error
        shards = self._layout.shards_of_id(entry_id)
        arguments = (bytes_of(entry_id), encoded, bytes_of(root), name_of(embedding), *self._writing)
        told = await self._link.ask_all([scripts.PLACE(self._layout.tag(shard), *arguments) for shard in shards])
        for shard, done in zip(shards, told, strict=True):
            if isinstance(done, bytes):
                stored = named(done) if done else None
                raise PortUnavailable(f"the store has changed to the embeddings {stored}: restart to follow")
            if done:
                self._follower.placed(shard, entry_id)

    async def vectors(self) -> AsyncIterator[Sequence[IndexRow]]:
        """See ``Store``. Nothing before embeddings are claimed."""
        if self._embedding is not None:
            async for rows in self._follower.rows(dimension=self._embedding.dimension, now=self._clock()):
                if rows:
                    yield rows

    # --- credentials

    async def proven_at(self, credential: str) -> float | None:
        """See ``Store``."""
        return await self._credentials.proven_at(credential)

    async def prove(self, credential: str, at: float) -> None:
        """See ``Store``."""
        await self._credentials.prove(credential, at)

    async def revoke(self, credential: str) -> None:
        """See ``Store``."""
        await self._credentials.revoke(credential)

    async def proofs(self) -> Mapping[str, float]:
        """See ``Store``."""
        return await self._credentials.proofs()

    # --- details

    def _older_selves(self, entries: Sequence[Entry]) -> list[Command]:
        """What deletes entries of these ids under other keys. An id of ours tells its key, so there are none of it."""
        return [
            scripts.DROP(self._layout.tag(shard), *self._writing, bytes_of(entry.id))
            for entry in entries
            for shard in self._layout.shards_of_id(entry.id)
            if shard != self._layout.shard_of(entry.key)
        ]

    async def _putting(self, entry: Entry, samples: int, now: float) -> Command:
        payload = await asyncio.to_thread(codec.encode, entry) if entry.size > _LARGE else codec.encode(entry)
        return scripts.PUT(
            self._layout.tag(self._layout.shard_of(entry.key)),
            bytes_of(entry.id),
            entry.key.hex(),
            payload,
            encode_meta(entry),
            b" ".join((entry.scope.hex().encode(), tags_text(entry.tags))),
            entry.size,
            _score(entry.expires_at),
            life_ms(entry.expires_at, now),
            repr(entry.created_at),
            repr(now),
            max(samples, 1),
            *self._writing,
        )

    async def _decoded(self, rows: Sequence[tuple[int, str, bytes, bytes | None]]) -> Sequence[Entry]:
        """The entries that decode, each with the time to expire that it has now."""
        sound: list[Entry] = []
        for shard, entry_id, payload, other_expiry in rows:
            entry: Entry | None = None
            try:
                large = len(payload) > _LARGE
                entry = await asyncio.to_thread(codec.decode, payload) if large else codec.decode(payload)
            except codec.NewerEntry:
                continue
            except codec.CorruptEntry:
                pass
            if entry is None or entry.id != entry_id:
                await self._delete_damaged(shard, entry_id, payload)
            else:
                sound.append(replace(entry, expires_at=float(other_expiry)) if other_expiry else entry)
        return sound

    async def _delete_damaged(self, shard: int, entry_id: str, payload: bytes) -> None:
        self.corrupt_rows += 1
        log.error("deleting a corrupt entry: %s", entry_id)
        try:
            await self._link.ask(
                *scripts.DROP_DAMAGED(self._layout.tag(shard), *self._writing, bytes_of(entry_id), payload)
            )
        except PortUnavailable as error:
            log.warning("%s", error)

    async def _holds_vectors(self) -> bool:
        for shard in range(self._layout.shards):
            async for block in self._catalogue.of_shard(shard):
                if any(each.vector for each in block):
                    return True
        return False


def _score(at: float) -> str:
    return "inf" if math.isinf(at) else repr(at)
