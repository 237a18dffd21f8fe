"""Verdicts in Redis: labels, suspended entries, and pairs that must not be served again. All on one slot, and bounded.

A stream tells other processes what was said; see redis_stream.py.
"""

from __future__ import annotations

import base64
import logging
import secrets
import struct
from typing import TYPE_CHECKING, Any, Final

from cacheproxy import jsontext
from cacheproxy.core.features import FEATURE_NAMES, Features
from cacheproxy.core.labels import LABELS_LIVE_S, LABELS_STORED, Label, Source
from cacheproxy.core.likelihood import VERSION
from cacheproxy.ports import News
from cacheproxy.store.redis_layout import bytes_of, counted_once, text_of
from cacheproxy.store.redis_link import Script
from cacheproxy.store.redis_stream import KEPT, Stream
from cacheproxy.store.sqlite_labels import MARKS_KEPT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cacheproxy.store.redis_layout import Layout
    from cacheproxy.store.redis_link import Command, Link

log = logging.getLogger(__name__)

_LONGEST_NOTE: Final = 1_000
_UNSETTLED_S: Final = 3600.0
"""An entry may be judged before it is stored, which takes a while where the store is behind."""
_MARKS_LOOKED_AT: Final = 200
"""Of each kind, drawn by lot at each sweep: whether what they are about is gone."""
_FEATURES: Final = struct.Struct(f"<{len(FEATURE_NAMES)}d")
_SOURCES: Final = frozenset(Source)

_TELL: Final = r"""
local base, call = KEYS[1], redis.call
local function tell(writer, kept, ...) call('XADD', base..':said', 'MAXLEN', '~', kept, '*', 'w', writer, ...) end
"""
_ADD: Final = Script(
    _TELL
    + r"""
local who, batch, remembered, pool, most, writer, kept = unpack(ARGV, 1, 7)
local since = who == writer and tonumber(call('ZSCORE', base..':broken', pool))
local added = base..':added:'..who
if tonumber(call('HGET', added, pool) or 0) >= tonumber(batch) then return 0 end
call('HSET', added, pool, batch)
call('EXPIRE', added, remembered)
local counting = {}
for place = 8, #ARGV do
  if not since or tonumber(string.match(ARGV[place], '^%S+')) >= since then counting[#counting + 1] = ARGV[place] end
end
if #counting == 0 then return 1 end
for _, label in ipairs(counting) do call('RPUSH', base..':labels:'..pool, label) end
call('LTRIM', base..':labels:'..pool, -most, -1)
call('HINCRBY', base..':pools', pool, #counting)
tell(writer, kept, 'k', 'labels', 'p', pool, 'l', table.concat(counting, '\n'))
return 1
"""
)
_FORGET: Final = Script(
    _TELL
    + r"""
local pool, at, writer, kept = unpack(ARGV)
if (tonumber(call('ZSCORE', base..':broken', pool)) or -math.huge) >= tonumber(at) then return 0 end
call('DEL', base..':labels:'..pool)
call('HDEL', base..':pools', pool)
call('ZADD', base..':broken', at, pool)
tell(writer, kept, 'k', 'broken', 'p', pool)
return 1
"""
)
_SUSPEND: Final = Script(
    _TELL
    + r"""
local id, at, note, most, writer, kept = unpack(ARGV)
call('ZADD', base..':suspended', at, id)
call('HSET', base..':notes', id, note)
for _, old in ipairs(call('ZRANGE', base..':suspended', 0, -1 - most)) do
  call('ZREM', base..':suspended', old)
  call('HDEL', base..':notes', old)
end
tell(writer, kept, 'k', 'mark')
return 1
"""
)
_LIFT: Final = Script(
    _TELL
    + r"""
for place = 3, #ARGV do
  call('ZREM', base..':suspended', ARGV[place])
  call('HDEL', base..':notes', ARGV[place])
end
tell(ARGV[1], ARGV[2], 'k', 'mark')
return 1
"""
)
_BLOCK: Final = Script(
    _TELL
    + r"""
local pair, at, most, writer, kept = unpack(ARGV)
call('ZADD', base..':blocked', at, pair)
call('ZREMRANGEBYRANK', base..':blocked', 0, -1 - most)
tell(writer, kept, 'k', 'mark')
return 1
"""
)
_AGE: Final = Script(r"""
local name = KEYS[1]..':labels:'..ARGV[1]
while true do
  local first = redis.call('LINDEX', name, 0)
  if not first then
    redis.call('HDEL', KEYS[1]..':pools', ARGV[1])
    return 1
  end
  if tonumber(string.match(first, '^%S+')) >= tonumber(ARGV[2]) then return 1 end
  redis.call('LPOP', name)
end
""")


class RedisLabels:
    """``Labels`` in Redis."""

    def __init__(self, link: Link, layout: Layout) -> None:
        self.skipped = 0
        """How many labels could not be read, over all readings: other features than this release's, or damage."""
        self._link = link
        self._layout = layout
        self._tag = layout.tag(layout.shard_of_name("labels"))
        self._writer = secrets.token_hex(8)
        self._stream = Stream(link, self._tag, "said", writer=self._writer)

    async def add(self, pool: str, labels: Sequence[Label], *, batch: int | None = None) -> bool:
        """See ``Labels``."""
        if not labels:
            return False
        numbered = counted_once(self._writer, batch)
        kept = (bytes_of(pool), LABELS_STORED, self._writer, KEPT)
        return bool(await self._link.ask(*_ADD(self._tag, *numbered, *kept, *map(_written, labels))))

    async def recent(self, pool: str, limit: int) -> Sequence[Label]:
        """See ``Labels``. What cannot be read is left out and counted."""
        if limit < 1:
            return []
        rows = await self._link.ask("LRANGE", self._key("labels", pool), -limit, -1)
        labels = [_label(row) for row in rows]
        known = [label for label in labels if label is not None]
        if skipped := len(labels) - len(known):
            self.skipped += skipped
            log.warning("%d labels of pool %s are not of this release's features, and count no more", skipped, pool)
        return known

    async def total(self, pool: str) -> int:
        """See ``Labels``."""
        return int(await self._link.ask("HGET", self._key("pools"), bytes_of(pool)) or 0)

    async def pools(self) -> Sequence[str]:
        """See ``Labels``."""
        return sorted(text_of(pool) for pool in await self._link.ask("HKEYS", self._key("pools")))

    async def forget(self, pool: str, at: float) -> None:
        """See ``Labels``."""
        await self._link.ask(*_FORGET(self._tag, bytes_of(pool), repr(at), self._writer, KEPT))

    async def broken(self) -> Collection[str]:
        """See ``Labels``."""
        return sorted(text_of(pool) for pool in await self._link.ask("ZRANGE", self._key("broken"), 0, -1))

    async def suspend(self, entry_id: str, at: float, note: str) -> None:
        """See ``Labels``."""
        said = (bytes_of(entry_id), repr(at), bytes_of(note[:_LONGEST_NOTE]), MARKS_KEPT)
        await self._link.ask(*_SUSPEND(self._tag, *said, self._writer, KEPT))

    async def lift(self, entry_id: str) -> None:
        """See ``Labels``."""
        await self._link.ask(*_LIFT(self._tag, self._writer, KEPT, bytes_of(entry_id)))

    async def suspended(self) -> Mapping[str, str]:
        """See ``Labels``."""
        notes = await self._link.ask("HGETALL", self._key("notes"))
        return {text_of(entry_id): note.decode("utf-8", "replace") for entry_id, note in notes.items()}

    async def block(self, prompt_hash: bytes, root: str, at: float) -> None:
        """See ``Labels``."""
        pair = prompt_hash.hex().encode() + b" " + bytes_of(root)
        await self._link.ask(*_BLOCK(self._tag, pair, repr(at), MARKS_KEPT, self._writer, KEPT))

    async def blocked(self) -> Collection[tuple[bytes, str]]:
        """See ``Labels``."""
        return {_pair(each) for each in await self._link.ask("ZRANGE", self._key("blocked"), 0, -1)}

    async def news(self) -> News:
        """See ``Labels``. Where some of it was missed, every promise that is broken counts as broken anew."""
        told = await self._stream.news()
        if told is None:
            log.warning("missed what other proxies said of pools: similar questions are answered anew by new verdicts")
            return News(broken=tuple(await self.broken()), marks=True)
        broken: list[str] = []
        labels: list[tuple[str, Label]] = []
        marks = False
        for record in told:
            pool = text_of(record.get(b"p", b""))
            match record[b"k"]:
                case b"broken":
                    broken.append(pool)
                    labels = [each for each in labels if each[0] != pool]
                case b"labels":
                    read = map(_label, record[b"l"].split(b"\n"))
                    labels += [(pool, label) for label in read if label is not None]
                case _:
                    marks = True
        return News(tuple(dict.fromkeys(broken)), tuple(labels), marks)

    async def forget_stale(self, now: float) -> None:
        """Delete labels that aged out, and marks on entries that are gone. A root is gone when its last alias is."""
        limit = now - LABELS_LIVE_S
        ages: list[Command] = [_AGE(self._tag, bytes_of(pool), repr(limit)) for pool in await self.pools()]
        await self._link.ask_all([*ages, ("ZREMRANGEBYSCORE", self._key("broken"), "-inf", f"({limit!r}")])
        settled = now - _UNSETTLED_S
        suspended = await self._older("suspended", settled)
        gone = [each for each in suspended if not await self._exists(text_of(each), aliases=False)]
        if gone:
            await self._link.ask(*_LIFT(self._tag, self._writer, KEPT, *gone))
        blocked = await self._older("blocked", settled)
        loose = [each for each in blocked if not await self._exists(_pair(each)[1], aliases=True)]
        if loose:
            await self._link.ask("ZREM", self._key("blocked"), *loose)

    async def _older(self, kind: str, than: float) -> list[bytes]:
        drawn = await self._link.ask("ZRANDMEMBER", self._key(kind), _MARKS_LOOKED_AT, "WITHSCORES")
        return [drawn[at] for at in range(0, len(drawn), 2) if float(drawn[at + 1]) < than]

    async def _exists(self, entry_id: str, *, aliases: bool) -> bool:
        """Whether an entry is there, or an alias of it."""
        commands: list[Command] = [
            ("EXISTS", self._layout.key(shard, "e", entry_id)) for shard in self._layout.shards_of_id(entry_id)
        ]
        if aliases:
            commands += [("EXISTS", self._layout.key(shard, "g", entry_id)) for shard in range(self._layout.shards)]
        return any(await self._link.ask_all(commands))

    def _key(self, *parts: str) -> bytes:
        return bytes_of(":".join((self._tag, *parts)))


def _pair(member: bytes) -> tuple[bytes, str]:
    prompt_hash, _, root = member.partition(b" ")
    return bytes.fromhex(prompt_hash.decode()), text_of(root)


def _written(label: Label) -> bytes:
    """When, for scripts, and everything for us. Whole doubles: the same labels must lead to the same rule elsewhere."""
    features = base64.b64encode(_FEATURES.pack(*label.features)).decode()
    said = [VERSION, label.at, label.root, features, label.right, label.source.value, label.inclusion, label.principal]
    return f"{label.at!r} ".encode() + jsontext.dump(said)


def _label(row: bytes) -> Label | None:
    """A label read; None for one that is not of this release's features, or damaged."""
    try:
        values: list[Any] = jsontext.parse(row.partition(b" ")[2])
        version, at, root, packed, right, source, inclusion, principal = values
        features = base64.b64decode(packed)
        if version != VERSION or len(features) != _FEATURES.size or source not in _SOURCES or not 0 < inclusion <= 1:
            return None
    except (TypeError, ValueError):
        return None
    return Label(at, root, Features(*_FEATURES.unpack(features)), right, Source(source), inclusion, principal)
