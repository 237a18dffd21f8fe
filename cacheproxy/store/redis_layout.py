"""Which keys a Redis store has, and what an entry looks like in them.

Entries are spread over shards by their exact key. All that belongs to a shard has its hash tag, and so lies on one slot
of a cluster: one script changes an entry, what finds it, the sums and the log, or nothing. Under the tag of a shard::

    :e:ID      hash    the entry: p its bytes (codec.py), m what selects it, t its tags, h how often it was served,
                       v its vector, r its root, x another time to expire than the one in its bytes
    :k:KEY     zset    ids of the entries under an exact key, by when they were made
    :c         zset    every id with its size and key, in the order of the ids
    :u         zset    ids by last use, for eviction        :w  the same of pinned entries, which are not evicted
    :x         zset    ids by expiry
    :t:TAG     set     ids with a tag                       :g:ROOT  ids of a root's aliases
    :meta      hash    how many entries and bytes there are, and which embeddings
    :log       stream  what came and went, for other processes
    :went      stream  what went alone, for those of one index; written once somebody follows it
    :done:WHO, :added:WHO   which batch of hits was counted last, and of each pool's labels, so that none counts twice

A shard is chosen by the exact key and not by the scope: a scope that is busy is spread over the whole cluster, and a
look-up needs nothing but the key. Ids end in how their key begins (``World.new_id``); those that do not, from before
or elsewhere, are looked for in every shard, in the same round trip.
"""

from __future__ import annotations

import math
import re
import secrets
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cacheproxy import jsontext
from cacheproxy.store.batches import REMEMBERED_S
from cacheproxy.store.vectors import EmbeddingName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.model import Entry

VERSION: Final = 1
"""Of this layout. A store of a later one is refused."""
META_VERSION: Final = 1
GRACE_S: Final = 600.0
"""An entry is swept when it expires, which is told to everybody. So much later it goes by itself, proxies or not."""
_HINT: Final = re.compile(r"z([0-9a-f]{4})\Z")
_ENDLESS_S: Final = 10 * 365 * 86_400.0
_SURROGATES: Final = "surrogatepass"
_ONE_KNOWN_S: Final = 600


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys under one prefix, over so many shards."""

    prefix: str
    shards: int

    def tag(self, shard: int) -> str:
        """The hash tag of a shard, and the key that scripts are told."""
        return f"{{{self.prefix}:{shard}}}"

    def key(self, shard: int, *parts: str) -> bytes:
        """A key of a shard."""
        return ":".join((self.tag(shard), *parts)).encode("utf-8", _SURROGATES)

    def shard_of(self, key: bytes) -> int:
        """Where the entries under an exact key are."""
        return int.from_bytes(key[:2], "big") % self.shards

    def shards_of_id(self, entry_id: str) -> Sequence[int]:
        """Where an entry may be: in one shard, unless its id is not one of ours."""
        hint = _HINT.search(entry_id)
        return range(self.shards) if hint is None else (int(hint[1], 16) % self.shards,)

    def shard_of_name(self, name: str) -> int:
        """A shard for what belongs to no entry."""
        return zlib.crc32(name.encode("utf-8", _SURROGATES)) % self.shards


@dataclass(frozen=True, slots=True)
class Meta:
    """What selects an entry, without its answer."""

    key: bytes
    scope: bytes
    namespace: str
    created_at: float
    expires_at: float
    model: str
    tenant: str
    tags: tuple[str, ...]


def encode_meta(entry: Entry) -> bytes:
    """What selects an entry, as it is stored."""
    return jsontext.dump(
        [
            META_VERSION,
            entry.key.hex(),
            entry.scope.hex(),
            entry.namespace,
            entry.created_at,
            None if math.isinf(entry.expires_at) else entry.expires_at,
            entry.model,
            entry.tenant,
            entry.tags,
        ]
    )


def decode_meta(text: bytes | None) -> Meta | None:
    """The same read; None for what is gone, and for what a later release wrote."""
    if text is None:
        return None
    try:
        version, key, scope, namespace, created_at, expires_at, model, tenant, tags, *_ = jsontext.parse(text)
        if version > META_VERSION:
            return None
        expires_at = math.inf if expires_at is None else expires_at
        return Meta(
            bytes.fromhex(key), bytes.fromhex(scope), namespace, created_at, expires_at, model, tenant, tuple(tags)
        )
    except (TypeError, ValueError):
        return None


def life_ms(expires_at: float, now: float) -> int:
    """How long Redis keeps an entry that nobody sweeps; 0: for ever."""
    if math.isinf(expires_at):
        return 0
    return int((min(max(expires_at - now, 0.0), _ENDLESS_S) + GRACE_S) * 1000)


def counted_once(writer: str, batch: int | None) -> tuple[str, int, int]:
    """What scripts take to do something once: who did it, the batch's number, and for how many seconds to know it.

    One without a number arrives twice at the most, when a connection broke: it is somebody's only one.
    """
    return (secrets.token_hex(8), 1, _ONE_KNOWN_S) if batch is None else (writer, batch, int(REMEMBERED_S))


def tags_text(tags: Sequence[str]) -> bytes:
    """An entry's tags in letters that scripts need not understand."""
    return b" ".join(tag.encode("utf-8", _SURROGATES).hex().encode() for tag in dict.fromkeys(tags) if tag)


def tag_name(tag: str) -> str:
    """A tag in such letters."""
    return tag.encode("utf-8", _SURROGATES).hex()


def text_of(value: Any) -> str:
    """A text as it was given to Redis."""
    return value.decode("utf-8", _SURROGATES) if isinstance(value, bytes) else str(value)


def bytes_of(text: str) -> bytes:
    """A text as Redis is given it."""
    return text.encode("utf-8", _SURROGATES)


def name_of(embedding: EmbeddingName) -> bytes:
    """Which embeddings there are, as it is stored."""
    return f"{embedding.dimension} {embedding.model}".encode()


def named(name: bytes) -> EmbeddingName:
    """The same read."""
    dimension, _, model = name.decode().partition(" ")
    return EmbeddingName(model, int(dimension))
