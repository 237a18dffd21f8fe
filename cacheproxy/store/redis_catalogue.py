"""Which entries a Redis store has, in the order of their ids, and which of them a selection means.

Ids lie in order in each shard; a page is merged from all of them. What can be told from ids, a tag or a root is read
from sets; for the rest each entry's meta is looked at. For people and commands: no request waits for it.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cacheproxy.errors import BadRequest
from cacheproxy.store import codec
from cacheproxy.store.redis_layout import bytes_of, decode_meta, tag_name, text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from cacheproxy.model import Selection
    from cacheproxy.store.redis_layout import Layout, Meta
    from cacheproxy.store.redis_link import Link

_AT_ONCE: Final = 500
_HEX_DIGITS: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry that is there."""

    entry_id: str
    shard: int
    meta: Meta | None
    """None where a later release wrote it."""
    expires_at: float
    hits: int
    vector: bytes | None
    root: str
    """Empty where it was never placed."""


class Page(NamedTuple):
    """Entries of a shard, in the order of their ids."""

    listed: Sequence[Listed]
    last: bytes | None
    """Where the page ends; None where there was nothing to read any more."""


class Catalogue:
    """Reads the entries' ids and what is known of them."""

    def __init__(self, link: Link, layout: Layout) -> None:
        self._link = link
        self._layout = layout

    async def selected(self, selection: Selection, *, after: str = "") -> AsyncIterator[Sequence[Listed]]:
        """The selected entries from behind an id, in the order of their ids, in blocks.

        Raises ``BadRequest`` for a scope that is not hexadecimal, and ``PortUnavailable``.
        """
        if not _HEX_DIGITS.issuperset(selection.scope_prefix.lower()):
            raise BadRequest(f"a scope is written in hexadecimal digits, which {selection.scope_prefix!r} is not")
        pages = self._pages(after) if (few := await self._few(selection)) is None else _cut(few, after)
        async for page in pages:
            listed = await self.listed(page)
            asked = [("HGET", self._layout.key(each.shard, "e", each.entry_id), "p") for each in listed]
            payloads = await self._link.ask_all(asked) if selection.text else [None] * len(listed)
            yield [
                each
                for each, payload in zip(listed, payloads, strict=True)
                if _matches(selection, each) and (not selection.text or _speaks_of(selection.text, payload))
            ]

    async def of_shard(self, shard: int) -> AsyncIterator[Sequence[Listed]]:
        """The entries of one shard, in blocks."""
        page = await self.page(shard)
        while page.last is not None:
            yield page.listed
            page = await self.page(shard, page.last)

    async def page(self, shard: int, after: bytes | None = None) -> Page:
        """Some entries of one shard, from the first one or behind the last one of another page."""
        rows = await self._rows(shard, b"-" if after is None else b"(" + after)
        return Page(await self.listed([(_id_of(row), shard) for row in rows]), rows[-1] if rows else None)

    async def listed(self, places: Sequence[tuple[str, int]]) -> Sequence[Listed]:
        """These entries, by id and shard, leaving out what is not there."""
        commands = [
            ("HMGET", self._layout.key(shard, "e", entry_id), "m", "x", "h", "v", "r") for entry_id, shard in places
        ]
        found = []
        for (entry_id, shard), told in zip(places, await self._link.ask_all(commands), strict=True):
            if told[0] is not None:
                found.append(_listed(entry_id, shard, *told))
        return found

    async def _few(self, selection: Selection) -> list[tuple[str, int]] | None:
        """The entries that may be meant, in order, where a set tells; None where all may be."""
        shards = range(self._layout.shards)
        if selection.ids:
            ids = dict.fromkeys(selection.ids)
            return sorted((entry_id, shard) for entry_id in ids for shard in self._layout.shards_of_id(entry_id))
        if selection.tag:
            names = [("t", tag_name(selection.tag))]
        elif selection.root:
            names = [("g", selection.root)]
        else:
            return None
        commands = [("SMEMBERS", self._layout.key(shard, *name)) for shard in shards for name in names]
        answers = await self._link.ask_all(commands)
        places = {(text_of(each), shard) for shard, ids in zip(shards, answers, strict=True) for each in ids}
        if selection.root and not selection.tag:
            places |= {(selection.root, shard) for shard in self._layout.shards_of_id(selection.root)}
        return sorted(places)

    async def _pages(self, after: str) -> AsyncIterator[Sequence[tuple[str, int]]]:
        """Every id with its shard, in the order of the ids."""
        shards = range(self._layout.shards)
        start = b"(" + bytes_of(after) + b"\x02" if after else b"-"
        while True:
            commands = [self._rows_after(shard, start) for shard in shards]
            rows = await self._link.ask_all(commands)
            merged = heapq.merge(*([(row, shard) for row in of_shard] for shard, of_shard in enumerate(rows)))
            page = [place for place, _ in zip(merged, range(_AT_ONCE), strict=False)]
            if not page:
                return
            yield [(_id_of(row), shard) for row, shard in page]
            start = b"(" + page[-1][0]

    async def _rows(self, shard: int, start: bytes) -> list[bytes]:
        rows: list[bytes] = await self._link.ask(*self._rows_after(shard, start))
        return rows

    def _rows_after(self, shard: int, start: bytes) -> tuple[Any, ...]:
        return ("ZRANGEBYLEX", self._layout.key(shard, "c"), start, "+", "LIMIT", 0, _AT_ONCE)


def _id_of(row: bytes) -> str:
    return text_of(row.rpartition(b"\x01")[0].rpartition(b"\x01")[0])


async def _cut(places: list[tuple[str, int]], after: str) -> AsyncIterator[Sequence[tuple[str, int]]]:
    left = [place for place in places if place[0] > after]
    for start in range(0, len(left), _AT_ONCE):
        yield left[start : start + _AT_ONCE]


def _listed(entry_id: str, shard: int, *told: Any) -> Listed:
    text, other_expiry, hits, vector, root = told
    meta = decode_meta(text)
    expires_at = math.inf if meta is None else meta.expires_at
    return Listed(
        entry_id,
        shard,
        meta,
        expires_at if other_expiry is None else float(other_expiry),
        int(hits or 0),
        vector or None,
        text_of(root or b""),
    )


def _matches(selection: Selection, listed: Listed) -> bool:
    meta = listed.meta
    if meta is None:
        # What a later release wrote is selected by its id alone, or with everything.
        return not any((selection.scope_prefix, selection.tag, selection.text, selection.model, selection.tenant)) and (
            selection.namespace is None and selection.older_than is None and not selection.root
        )
    return (
        meta.scope.hex().startswith(selection.scope_prefix.lower())
        and (not selection.tag or selection.tag in meta.tags)
        and (selection.namespace is None or meta.namespace == selection.namespace)
        and (selection.older_than is None or meta.created_at < selection.older_than)
        and listed.hits >= selection.min_hits
        and (not selection.model or meta.model == selection.model)
        and (not selection.tenant or meta.tenant == selection.tenant)
        and (not selection.root or selection.root in (listed.entry_id, listed.root))
    )


def _speaks_of(text: str, payload: bytes | None) -> bool:
    try:
        return payload is not None and codec.folded(text) in codec.folded(codec.decode(payload).prompt)
    except (codec.CorruptEntry, codec.NewerEntry):
        return False
