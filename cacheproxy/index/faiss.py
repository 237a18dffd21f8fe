"""Nearest vectors with FAISS: exact, for scopes of any size, in little memory.

A scope is a plain array (``flat.Rows``) until it holds 2,000 vectors: for so few, a FAISS object costs more than it
gives, and there may be a million scopes. A larger scope keeps its vectors in blocks that ``faiss.knn`` searches where
they lie. That is the search of ``IndexFlatIP``; the storage stays ours because FAISS doubles its own when it grows,
and moves every later vector when one is removed.

A search that takes over about a millisecond runs in a thread, on a snapshot: changes never wait, and copy the block
that they touch while a snapshot is being searched.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from cacheproxy.index.flat import SLACK, FlatIndex, Rows, grown, rank, settle, unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cacheproxy.index.flat import Near
    from cacheproxy.model import IndexRow, Neighbor, Vector

PLAIN_BELOW: Final = 2_000
IN_THREAD_FROM: Final = 16_384
"""About 1 ms with 384 dimensions on one core."""

_BLOCK: Final = 1_024
_SPARE: Final = 8
"""Neighbours asked for beyond ``k``, so that equals at the end of the list can be put in the order of their ids."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What one search reads: ``ids`` in the order of the rows in ``blocks``. Safe in any thread."""

    ids: Sequence[str]
    blocks: tuple[NDArray[np.float32], ...]

    def nearest(self, query: Vector, k: int) -> list[Near]:
        """The ``k`` most similar entries to a vector of unit length. Blocking."""
        if k >= len(self.ids):
            return self._nearest_of_all(query, k)
        tops = [_top(block, query, k + _SPARE) for block in self._used()]
        scores = np.concatenate([scores for scores, _ in tops])
        floor = np.partition(scores, len(scores) - k)[len(scores) - k] - SLACK
        cut = any(len(top) == k + _SPARE and top[-1] >= floor for top, _ in tops)
        if cut or floor <= 0:  # equals were left out, or reach below zero where all are equal
            return self._nearest_of_all(query, k)
        positions = np.concatenate([places + number * _BLOCK for number, (_, places) in enumerate(tops)])
        close = positions[scores >= floor]
        return rank([self.ids[position] for position in close.tolist()], self._rows_at(close), query, k)

    def _nearest_of_all(self, query: Vector, k: int) -> list[Near]:
        scores = np.concatenate([block @ query for block in self._used()])
        return settle(scores, self._rows_at, self.ids, query, k)

    def _used(self) -> Iterator[NDArray[np.float32]]:
        for number, block in enumerate(self.blocks):
            yield block[: len(self.ids) - number * _BLOCK]

    def _rows_at(self, positions: NDArray[np.intp]) -> NDArray[np.float32]:
        rows = [self.blocks[position // _BLOCK][position % _BLOCK] for position in positions]
        return np.stack(rows) if rows else self.blocks[0][:0]


class Blocks:
    """The vectors of one large scope, in no order: full blocks and a last one that grows."""

    __slots__ = ("_blocks", "_ids", "_positions", "_searched", "key")

    def __init__(self, rows: Rows) -> None:
        self.key = rows.key
        self._ids = rows.ids
        self._positions = {entry_id: position for position, entry_id in enumerate(rows.ids)}
        self._blocks = [rows.vectors[start : start + _BLOCK].copy() for start in range(0, len(rows), _BLOCK)]
        self._searched: WeakSet[Snapshot] = WeakSet()

    def __len__(self) -> int:
        return len(self._ids)

    def put(self, entry_id: str, vector: Vector) -> None:
        """Add a vector of unit length, or replace it."""
        position = self._positions.setdefault(entry_id, len(self._ids))
        if position == len(self._ids):
            self._ids.append(entry_id)
            self._make_room(position)
        self._write(position, vector)

    def drop(self, entry_id: str) -> None:
        """Forget a vector that is here: the last row takes its place."""
        position = self._positions.pop(entry_id)
        last = self._ids.pop()
        end = len(self._ids)
        if position < end:
            self._ids[position] = last
            self._positions[last] = position
            self._write(position, self._blocks[end // _BLOCK][end % _BLOCK])
        if end % _BLOCK == 0:
            del self._blocks[end // _BLOCK :]

    def nearest(self, query: Vector, k: int) -> list[Near]:
        """The ``k`` most similar entries to a vector of unit length. Blocking, and only between changes."""
        return Snapshot(self._ids, tuple(self._blocks)).nearest(query, k)

    def snapshot(self) -> Snapshot:
        """The scope as it is now, for a search that changes may overtake."""
        snapshot = Snapshot(self._ids.copy(), tuple(self._blocks))
        self._searched.add(snapshot)
        return snapshot

    def _make_room(self, position: int) -> None:
        number, place = divmod(position, _BLOCK)
        if number == len(self._blocks):
            dimension = self._blocks[0].shape[1]
            self._blocks.append(np.empty((_BLOCK // 4, dimension), np.float32))
        elif place == len(self._blocks[number]):
            self._blocks[number] = grown(self._blocks[number], _BLOCK)

    def _write(self, position: int, vector: Vector) -> None:
        number, place = divmod(position, _BLOCK)
        block = self._blocks[number]
        if any(block is held for snapshot in self._searched for held in snapshot.blocks):
            block = self._blocks[number] = block.copy()
        block[place] = vector


class FaissIndex(FlatIndex):
    """An index over many scopes, small and large. The first vector sets the dimension if none is given."""

    async def add(self, row: IndexRow) -> None:
        """See ``VectorIndex``. Raises ``PortUnavailable`` for a vector that cannot be indexed."""
        await super().add(row)
        scope = self._scopes[row.scope]
        if isinstance(scope, Rows) and len(scope) >= PLAIN_BELOW:
            self._scopes[scope.key] = Blocks(scope)

    async def nearest(self, scope: bytes, vector: Vector, k: int) -> Sequence[Neighbor]:
        """At most ``k`` entries of the scope, most similar first, equals in the order of their ids."""
        found = self._scopes.get(scope)
        if self._dimension is None or k < 1 or not isinstance(found, Blocks) or len(found) < IN_THREAD_FROM:
            return await super().nearest(scope, vector, k)
        near = await asyncio.to_thread(found.snapshot().nearest, unit(vector, self._dimension), k)
        return self._with_roots(near)


def search_on_one_thread() -> None:
    """Keep FAISS and numpy's BLAS, in this whole process, from starting teams of threads.

    A team makes no search here faster, and while its threads wait for the next one they spin, on the cores that the
    embedding model needs: with 1,400 questions in a scope, on two cores, that made an embedding seven times slower.
    """
    faiss.omp_set_num_threads(1)
    threadpool_limits(limits=1, user_api="blas")


def _top(block: NDArray[np.float32], query: Vector, k: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The ``k`` best scores of a block's rows, best first, and which rows they are; all if there are fewer."""
    scores, places = faiss.knn(query[None], block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
    return scores[0], places[0]
