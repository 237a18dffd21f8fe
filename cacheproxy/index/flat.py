"""Nearest vectors by looking at every one: exact, and the oracle that other indexes are checked against.

``Rows`` holds one scope in one array that grows by a quarter at a time. What every index here agrees on stands beside
it: which vectors are refused (``unit``), and how neighbours are scored and ordered (``settle``, ``rank``).
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

from cacheproxy.errors import PortUnavailable
from cacheproxy.index.roots import Roots
from cacheproxy.model import Neighbor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from cacheproxy.model import IndexRow, Vector

SLACK: Final = 1e-5
"""How far a float32 score of two unit vectors may be off; scores nearer to each other are settled in float64."""


class Near(NamedTuple):
    """A neighbour as its scope knows it. Roots are kept beside the scopes (roots.py)."""

    entry_id: str
    similarity: float


class Scope(Protocol):
    """The vectors of one scope, all of unit length."""

    key: bytes

    def __len__(self) -> int:
        """How many there are."""

    def put(self, entry_id: str, vector: Vector) -> None:
        """Add a vector, or replace it."""

    def drop(self, entry_id: str) -> None:
        """Forget a vector that is here."""

    def nearest(self, query: Vector, k: int) -> list[Near]:
        """The ``k`` most similar entries, equals in the order of their ids."""


def unit(vector: Vector, dimension: int) -> Vector:
    """The vector in unit length. Raises ``PortUnavailable`` for another dimension, and for one without a direction."""
    if vector.shape != (dimension,):
        raise PortUnavailable(f"the index holds vectors of {dimension} dimensions, this one has shape {vector.shape}")
    exact = vector.astype(np.float64)
    norm = np.linalg.norm(exact)
    if not np.isfinite(norm) or norm == 0:
        raise PortUnavailable("the vector has no direction: it is zero or not finite")
    return (exact / norm).astype(np.float32)


def rank(ids: Iterable[str], vectors: NDArray[np.float32], query: Vector, k: int) -> list[Near]:
    """The ``k`` most similar of these rows, equals in the order of their ids.

    Scored row by row in float64: equal vectors get equal similarities wherever they stand, which a blocked matrix
    product does not promise.
    """
    cosines = (vectors * query.astype(np.float64)).sum(axis=1)
    similarities = cosines.clip(0.0, 1.0).tolist()
    found = [Near(entry_id, similarity) for entry_id, similarity in zip(ids, similarities, strict=True)]
    return nsmallest(k, found, key=_in_order)


def settle(
    scores: NDArray[np.float32],
    rows_at: Callable[[NDArray[np.intp]], NDArray[np.float32]],
    ids: Sequence[str],
    query: Vector,
    k: int,
) -> list[Near]:
    """The ``k`` most similar of all rows of a scope, given each row's float32 score."""
    kth = np.partition(scores, len(scores) - k)[len(scores) - k] if len(scores) > k else -1.0
    # Everything below zero counts as zero, so a k-th score down there is shared by all of them.
    close = np.flatnonzero(scores >= max(kth, 0.0) - SLACK)
    found = rank([ids[position] for position in close.tolist()], rows_at(close), query, k)
    if kth > SLACK:
        return found
    unlike = (ids[position] for position in np.flatnonzero(scores < -SLACK).tolist())
    return nsmallest(k, [*found, *(Near(entry_id, 0.0) for entry_id in nsmallest(k, unlike))], key=_in_order)


def grown(vectors: NDArray[np.float32], most: int | None = None) -> NDArray[np.float32]:
    """A copy with room for a quarter more rows, at least one, at most ``most`` in all."""
    count, dimension = vectors.shape
    room = count + max(1, count // 4)
    larger = np.empty((room if most is None else min(room, most), dimension), np.float32)
    larger[:count] = vectors
    return larger


def _in_order(near: Near) -> tuple[float, str]:
    return -near.similarity, near.entry_id


class Rows:
    """The vectors of one scope, in no order. There may be a million scopes of one vector each, so it is small."""

    __slots__ = ("ids", "key", "vectors")

    def __init__(self, key: bytes, dimension: int) -> None:
        self.key = key
        self.ids: list[str] = []
        self.vectors: NDArray[np.float32] = np.empty((0, dimension), np.float32)
        """The first ``len(ids)`` rows are in use."""

    def __len__(self) -> int:
        return len(self.ids)

    def put(self, entry_id: str, vector: Vector) -> None:
        """Add a vector of unit length, or replace it."""
        if entry_id in self.ids:
            self.vectors[self.ids.index(entry_id)] = vector
            return
        count = len(self.ids)
        if count == len(self.vectors):
            self.vectors = grown(self.vectors)
        self.vectors[count] = vector
        self.ids.append(entry_id)

    def drop(self, entry_id: str) -> None:
        """Forget a vector that is here: the last row takes its place."""
        position = self.ids.index(entry_id)
        self.vectors[position] = self.vectors[len(self.ids) - 1]
        last = self.ids.pop()
        if position < len(self.ids):
            self.ids[position] = last

    def nearest(self, query: Vector, k: int) -> list[Near]:
        """The ``k`` most similar entries to a vector of unit length."""
        vectors = self.vectors[: len(self.ids)]
        return settle(vectors @ query, vectors.__getitem__, self.ids, query, k)


class FlatIndex:
    """Every scope one array, every search over all of it. The first vector sets the dimension if none is given."""

    shared: Final = False

    def __init__(self, dimension: int | None = None) -> None:
        self._dimension = dimension
        self._scopes: dict[bytes, Scope] = {}
        self._scope_of: dict[str, bytes] = {}
        self._roots = Roots()

    def __len__(self) -> int:
        """How many entries are indexed."""
        return len(self._scope_of)

    @property
    def scopes(self) -> int:
        """How many scopes have entries."""
        return len(self._scopes)

    async def add(self, row: IndexRow) -> None:
        """See ``VectorIndex``. Raises ``PortUnavailable`` for a vector that cannot be indexed."""
        dimension = row.vector.size if self._dimension is None else self._dimension
        vector = unit(row.vector, dimension)
        self._dimension = dimension
        if self._scope_of.get(row.entry_id, row.scope) != row.scope:
            self._forget(row.entry_id)
        scope = self._scopes.get(row.scope)
        if scope is None:
            scope = self._scopes[row.scope] = Rows(row.scope, dimension)
        scope.put(row.entry_id, vector)
        self._roots.put(scope.key, row.entry_id, row.root)
        self._scope_of[row.entry_id] = scope.key  # one object for all of its entries

    async def remove(self, entry_id: str, scope: bytes) -> None:  # noqa: ARG002 - a replica knows every entry's scope
        """See ``VectorIndex``."""
        self._forget(entry_id)

    def _forget(self, entry_id: str) -> None:
        key = self._scope_of.pop(entry_id, None)
        if key is None:
            return
        self._roots.drop(key, entry_id)
        scope = self._scopes[key]
        scope.drop(entry_id)
        if len(scope) == 0:
            del self._scopes[key]

    async def is_empty(self, scope: bytes) -> bool:
        """Whether a scope has no entries."""
        return scope not in self._scopes

    async def nearest(self, scope: bytes, vector: Vector, k: int) -> Sequence[Neighbor]:
        """At most ``k`` entries of the scope, most similar first, equals in the order of their ids."""
        if self._dimension is None or k < 1:
            return []
        query = unit(vector, self._dimension)
        rows = self._scopes.get(scope)
        return self._with_roots(rows.nearest(query, k)) if rows else []

    async def keys_of(self, scope: bytes, root: str) -> int:
        """See ``VectorIndex``. Two look-ups."""
        leads_to_itself = self._scope_of.get(root) == scope and self._roots.of(root) == root
        return leads_to_itself + self._roots.aliases(scope, root)

    def _with_roots(self, found: Sequence[Near]) -> Sequence[Neighbor]:
        return [Neighbor(entry_id, similarity, self._roots.of(entry_id)) for entry_id, similarity in found]
