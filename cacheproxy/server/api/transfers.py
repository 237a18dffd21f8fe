"""Entries out of the store and into it, as JSON lines, while the proxy runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy import transfer
from cacheproxy.server.api.entries import selection
from cacheproxy.server.api.entry_shapes import ImportTold
from cacheproxy.server.api.operations import JSON_LINES
from cacheproxy.server.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aiohttp import StreamReader

    from cacheproxy.flow.recall import Recall
    from cacheproxy.flow.upkeep import Upkeep
    from cacheproxy.model import Entry
    from cacheproxy.server.api.calls import Call, Handler

LONGEST_LINE: Final = 64 << 20
_READ_AT_ONCE: Final = 256 << 10
_EMBEDDED_AT_ONCE: Final = 64


class TransfersPage:
    """``samples`` entries stay under each key; ``now`` tells the time. Without an embedder nothing is embedded."""

    def __init__(
        self,
        *,
        store: transfer.RootKeeper,
        recall: Recall,
        upkeep: Upkeep,
        samples: int,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._recall = recall
        self._upkeep = upkeep
        self._samples = samples
        self._now = now

    def handlers(self) -> Mapping[str, Handler]:
        """By operation."""
        return {"export": self.export, "import": self.take}

    async def export(self, call: Call) -> web.StreamResponse:
        """The selected entries, a line each, as they are read."""
        headers = {"Content-Type": JSON_LINES, "Content-Disposition": 'attachment; filename="entries.jsonl"'}
        response = web.StreamResponse(headers=headers)
        await self._store.count(wanted := selection(call.query))  # what is wrong with it is told while it still can be
        await response.prepare(call.request)
        async for line in transfer.export_entries(self._store, wanted):
            await response.write(line)
        return response

    async def take(self, call: Call) -> ImportTold:
        """Store what an export wrote, and embed its questions, so that similar ones find it at once."""
        waiting: list[tuple[Entry, str]] = []
        embedded = 0

        async def place_all() -> None:
            nonlocal embedded
            embedded += sum(await asyncio.gather(*(self._place(*each) for each in waiting)))
            waiting.clear()

        async def stored(entry: Entry, root: str) -> None:
            if entry.semantic:
                waiting.append((entry, root))
            if len(waiting) >= _EMBEDDED_AT_ONCE:
                await place_all()

        lines = lines_of(call.request.content)
        now = self._now()
        imported = await transfer.import_entries(self._store, lines, now=now, samples=self._samples, stored=stored)
        await place_all()
        await self._upkeep.follow()
        return ImportTold(
            entries=imported.entries,
            expired=imported.expired,
            embedded=embedded,
            to_embed=imported.to_embed - embedded,
        )

    async def _place(self, entry: Entry, root: str) -> bool:
        vector = await self._recall.place(entry, None, root)
        if vector is not None:
            await self._store.set_vector(entry.id, vector, root)
        return vector is not None


async def lines_of(content: StreamReader) -> AsyncIterator[bytes]:
    """The lines of a body, as it comes. Raises ``Refused`` for one that is too long to be an entry."""
    rest = b""
    async for chunk in content.iter_chunked(_READ_AT_ONCE):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > LONGEST_LINE:
            raise Refused(413, f"a line is over {LONGEST_LINE >> 20} MiB")
    if rest:
        yield rest
