"""Every stored question under another embedding model, while proxies serve under the one before.

The new vectors wait on a shelf, a file beside, until there are all of them: an interrupted run goes on where it
stopped, and proxies see nothing of it. Then they take the old ones' place, which takes as long as writing them does.
Running proxies keep searching the vectors that they have, store no more, and follow at their next start. What they
answered in between is caught up by running it again: under the model that the store has by then, only what has no
vector is embedded.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from cacheproxy.errors import TurnTooLong
from cacheproxy.transfer import MovableStore, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from cacheproxy.model import Entry, Vector
    from cacheproxy.ports import Embedder

_ROUNDS: Final = 10
"""Through all entries; each one after the first finds what was stored during the one before."""


class Reembeddable(MovableStore, Protocol):
    """A store whose vectors can be replaced by those of another model."""

    async def drop_vectors(self) -> None:
        """Delete every vector, and keep the roots."""


class Shelf(Protocol):
    """Vectors of one model that wait. None stands for a text that the model cannot read whole."""

    async def known(self, ids: Collection[str]) -> Collection[str]:
        """Those of these entries that are on it."""

    async def keep(self, vectors: Mapping[str, Vector | None]) -> None:
        """Put vectors on it, by entry."""

    async def take(self, ids: Collection[str]) -> Mapping[str, Vector | None]:
        """The vectors of these entries, as far as they are on it."""

    async def clear(self) -> None:
        """Leave nothing behind."""


@dataclass(slots=True)
class Embedded:
    """What was done. ``resumed`` counts what an earlier run had embedded."""

    entries: int = 0
    too_long: int = 0
    resumed: int = 0


async def embed_anew(
    store: Reembeddable, embedder: Embedder, shelf: Shelf, progress: Callable[[int], None] = lambda _: None
) -> Embedded:
    """Give every entry the vector that this embedder makes. ``progress`` is told of entries as they are done."""
    stored = await store.stored_embedding()
    done = Embedded()
    if stored is not None and (stored.model, stored.dimension) == (embedder.model, embedder.dimension):
        await store.claim_embedding(embedder.model, embedder.dimension)
        there = {row.entry_id async for rows in store.vectors() for row in rows}
        async for page in pages(store):
            missing = [entry for entry in page if entry.semantic and entry.id not in there]
            await _place(store, missing, await _embedded(embedder, missing, done))
            progress(len(page))
        return done
    for round_number in range(_ROUNDS):
        if not await _shelve(store, embedder, shelf, done, progress, first=round_number == 0):
            break
    await store.drop_vectors()
    await store.claim_embedding(embedder.model, embedder.dimension)
    async for page in pages(store):
        vectors = dict(await shelf.take([entry.id for entry in page]))
        late = [entry for entry in page if entry.semantic and entry.id not in vectors]
        await _place(store, page, vectors | await _embedded(embedder, late, done))
    await shelf.clear()
    return done


async def _shelve(
    store: Reembeddable,
    embedder: Embedder,
    shelf: Shelf,
    done: Embedded,
    progress: Callable[[int], None],
    *,
    first: bool,
) -> bool:
    """Embed what is not on the shelf; whether there was anything."""
    found = False
    async for page in pages(store):
        semantic = [entry for entry in page if entry.semantic]
        known = await shelf.known([entry.id for entry in semantic])
        missing = [entry for entry in semantic if entry.id not in known]
        if missing:
            found = True
            await shelf.keep(await _embedded(embedder, missing, done))
        if first:
            done.resumed += len(known)
            progress(len(page))
    return found


async def _embedded(embedder: Embedder, entries: Sequence[Entry], done: Embedded) -> dict[str, Vector | None]:
    vectors = await asyncio.gather(*(_embed(embedder, entry.prompt) for entry in entries))
    done.too_long += sum(vector is None for vector in vectors)
    done.entries += sum(vector is not None for vector in vectors)
    return {entry.id: vector for entry, vector in zip(entries, vectors, strict=True)}


async def _place(store: Reembeddable, entries: Sequence[Entry], vectors: Mapping[str, Vector | None]) -> None:
    roots = await store.roots([entry.id for entry in entries])
    given = [(entry.id, vector) for entry in entries if (vector := vectors.get(entry.id)) is not None]
    await asyncio.gather(
        *(store.set_vector(entry_id, vector, roots.get(entry_id, entry_id)) for entry_id, vector in given)
    )


async def _embed(embedder: Embedder, text: str) -> Vector | None:
    try:
        return await embedder.embed(text)
    except TurnTooLong:
        return None
