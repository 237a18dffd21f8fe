"""The entries page: what is stored, found by text or meaning; removed, pinned, ended everywhere at once."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cacheproxy import jsontext
from cacheproxy.errors import Overloaded, PortUnavailable, UnknownEntry
from cacheproxy.model import EVERYTHING, Selection
from cacheproxy.server.api.entry_shapes import (
    AliasTold,
    EntriesAsked,
    EntryBrief,
    EntryList,
    EntryTold,
    EntryVerdicts,
    ExpiryAsked,
    ExpiryTold,
    PurgeAsked,
    PurgeTold,
    Removed,
    UsageTold,
)
from cacheproxy.server.refusal import Refused
from cacheproxy.wire.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cacheproxy.flow.feedback import Withdrawn
    from cacheproxy.flow.pools import LivePool
    from cacheproxy.flow.upkeep import Upkeep
    from cacheproxy.model import Entry, Uses, Vector
    from cacheproxy.ports import Embedder, Labels, Store
    from cacheproxy.server.api.calls import Call, Handler
    from cacheproxy.server.api.entry_shapes import Conditions

LONGEST_PROMPT: Final = 1_000
MOST_ALIASES: Final = 100
SAMPLE: Final = 20
NEAREST: Final = 1_000
"""So many of the nearest in meaning are held against the other conditions."""
SEARCH_S: Final = 30.0
"""How long a search by meaning may take: it looks at every vector that there is."""
TURN_S: Final = 5.0
"""How long one waits for others, which have the memory for one at a time."""
_DIALECTS: Final = {dialect.name: dialect for dialect in DIALECTS.values()}


class EntriesPage:
    """``now`` tells the time. Without an embedder nothing is found by meaning."""

    def __init__(
        self,
        *,
        store: Store,
        labels: Labels,
        embedder: Embedder | None,
        upkeep: Upkeep,
        withdrawn: Withdrawn,
        pools: Iterable[LivePool],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._labels = labels
        self._embedder = embedder
        self._upkeep = upkeep
        self._withdrawn = withdrawn
        self._pools = pools
        self._now = now
        self._searching = asyncio.Semaphore(1)

    def handlers(self) -> Mapping[str, Handler]:
        """By operation."""
        return {
            "entries": self.entries,
            "entry": self.entry,
            "remove": self.remove,
            "expiry": self.expiry,
            "purge": self.purge,
        }

    async def entries(self, call: Call) -> EntryList:
        """A page of what is selected, or the nearest in meaning."""
        asked: EntriesAsked = call.query
        if asked.meaning:
            return await self._nearest(asked)
        found = await self._store.browse(selection(asked), limit=asked.limit + 1, after=asked.after)
        page = found[: asked.limit]
        return EntryList(
            entries=await self._briefs(page),
            next=page[-1].id if len(found) > len(page) else None,
            stored=await self._store.count(),
        )

    async def entry(self, call: Call) -> EntryTold:
        """One entry with its answer, its group and what was said of it."""
        entry = await self._load(call.id)
        (brief,) = await self._briefs([entry])
        root = (await self._store.roots([entry.id])).get(entry.id)
        aliases = await self._aliases(entry.id, root)
        answer = jsontext.parse(entry.answer)
        return EntryTold(
            **brief.model_dump() | {"prompt": entry.prompt},
            key=entry.key.hex(),
            root=root,
            answer=answer,
            answer_text=_text(entry, answer),
            usage=UsageTold.model_validate(entry.usage, from_attributes=True),
            latency_ms=entry.latency_ms,
            aliases=aliases,
            verdicts=await self._verdicts(entry.id, root),
        )

    async def remove(self, call: Call) -> Removed:
        """Remove an entry from the store, the index and memory."""
        removed = await self._upkeep.purge(Selection(ids=(call.id,)))
        if not removed:
            raise _unknown(call.id)
        return Removed(removed=removed)

    async def expiry(self, call: Call) -> ExpiryTold:
        """Pin an entry, or give it another time to expire."""
        asked: ExpiryAsked = call.body
        at = math.inf if asked.at is None else asked.at
        if not await self._upkeep.expire(call.id, at):
            raise _unknown(call.id)
        return ExpiryTold(entry=call.id, expires_at=asked.at, pinned=asked.at is None)

    async def purge(self, call: Call) -> PurgeTold:
        """Tell what is selected, and remove it unless that is a dry run."""
        asked: PurgeAsked = call.body
        selected = selection(asked, ids=asked.ids)
        if selected == EVERYTHING and not (asked.everything or asked.dry_run):
            raise Refused(409, 'that is every entry: name a condition, or say "everything": true')
        sample = await self._briefs(await self._store.browse(selected, limit=SAMPLE))
        count = await self._store.count(selected)
        removed = 0 if asked.dry_run else await self._upkeep.purge(selected)
        return PurgeTold(dry_run=asked.dry_run, selected=count, removed=removed, sample=sample)

    async def _nearest(self, asked: EntriesAsked) -> EntryList:
        if self._embedder is None:
            raise PortUnavailable("there is no embedding model here: search by text")
        try:
            async with asyncio.timeout(TURN_S):
                await self._searching.acquire()
        except TimeoutError:
            raise Overloaded("other searches by meaning are under way: try again", retry_after_s=1) from None
        try:
            async with asyncio.timeout(SEARCH_S):
                similar = await nearest(self._store, await self._embedder.embed(asked.meaning), NEAREST)
        except TimeoutError:
            raise PortUnavailable(f"the search took over {SEARCH_S:.0f} s") from None
        finally:
            self._searching.release()
        among = selection(asked, ids=tuple(similar))
        found = await self._store.browse(among, limit=NEAREST) if similar else ()
        best = sorted(found, key=lambda entry: (-similar[entry.id], entry.id))[: asked.limit]
        return EntryList(entries=await self._briefs(best, similar), next=None, stored=await self._store.count())

    async def _briefs(self, entries: Sequence[Entry], similar: Mapping[str, float] | None = None) -> list[EntryBrief]:
        uses = await self._store.uses([entry.id for entry in entries])
        return [self._brief(entry, uses.get(entry.id), (similar or {}).get(entry.id)) for entry in entries]

    def _brief(self, entry: Entry, uses: Uses | None, similarity: float | None) -> EntryBrief:
        hits = uses.hits if uses else 0
        pinned = math.isinf(entry.expires_at)
        return EntryBrief(
            id=entry.id,
            prompt=entry.prompt[:LONGEST_PROMPT],
            model=entry.model,
            tenant=entry.tenant,
            dialect=entry.dialect,
            upstream=entry.upstream,
            namespace=entry.namespace,
            tags=list(entry.tags),
            scope=entry.scope.hex(),
            created_at=entry.created_at,
            expires_at=None if pinned else entry.expires_at,
            pinned=pinned,
            expired=entry.expires_at <= self._now(),
            semantic=entry.semantic,
            size=entry.size,
            cost_usd=entry.cost_usd,
            hits=hits,
            last_used=uses.last_used if uses else entry.created_at,
            saved_usd=None if entry.cost_usd is None else hits * entry.cost_usd,
            suspended=self._withdrawn.holds(entry.id),
            similarity=similarity,
        )

    async def _load(self, entry_id: str) -> Entry:
        loaded = await self._store.load([entry_id])
        if not loaded:
            raise _unknown(entry_id)
        return loaded[0]

    async def _aliases(self, entry_id: str, root: str | None) -> list[AliasTold]:
        if root is None:
            return []
        found = await self._store.browse(Selection(root=root), limit=MOST_ALIASES + 1)
        others = [entry for entry in found if entry.id != entry_id][:MOST_ALIASES]
        uses = await self._store.uses([entry.id for entry in others])
        return [
            AliasTold(
                id=entry.id,
                prompt=entry.prompt[:LONGEST_PROMPT],
                created_at=entry.created_at,
                hits=uses[entry.id].hits if entry.id in uses else 0,
            )
            for entry in others
        ]

    async def _verdicts(self, entry_id: str, root: str | None) -> EntryVerdicts:
        notes = await self._labels.suspended()
        records = [pool.records[root] for pool in self._pools if root in pool.records] if root else []
        return EntryVerdicts(
            suspended=self._withdrawn.holds(entry_id),
            note=notes.get(entry_id, ""),
            right=sum(record.right for record in records),
            wrong=sum(record.wrong for record in records),
            blocked_pairs=sum(blocked == root for _, blocked in await self._labels.blocked()),
        )


async def nearest(store: Store, vector: Vector, most: int) -> dict[str, float]:
    """The ids of the entries whose questions are nearest in meaning, whatever their scope, with their similarities.

    Looks at every vector, block by block; the event loop goes on in between.
    """
    best: list[tuple[float, str]] = []
    async for rows in store.vectors():
        scores = np.stack([row.vector for row in rows]) @ vector
        least = best[-1][0] if len(best) == most else -1.0
        best += [(float(scores[place]), rows[place].entry_id) for place in np.flatnonzero(scores > least).tolist()]
        best = sorted(best, key=lambda each: (-each[0], each[1]))[:most]
    return {entry_id: min(max(score, 0.0), 1.0) for score, entry_id in best}


def selection(asked: Conditions, ids: Sequence[str] = ()) -> Selection:
    """What conditions select."""
    return Selection(
        ids=tuple(ids),
        scope_prefix=asked.scope.lower(),
        tag=asked.tag,
        namespace=asked.namespace,
        older_than=asked.older_than,
        text=asked.text,
        model=asked.model,
        tenant=asked.tenant,
        root=asked.root,
    )


def _text(entry: Entry, answer: Any) -> str:
    """The answer's plain text; empty where it has none that can be read."""
    dialect = _DIALECTS.get(entry.dialect)
    try:
        return "" if dialect is None else dialect.read(answer).text
    except ValueError:
        return ""


def _unknown(entry_id: str) -> UnknownEntry:
    return UnknownEntry(f"there is no entry {entry_id!r}: it may have expired or been removed")
