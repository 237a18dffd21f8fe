"""Vectors from hashed words and letters: deterministic, without a model, for tests.

Texts that share words and letter triples are near each other. It knows nothing of meaning, so nothing that serves
real callers should decide with it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.errors import TurnTooLong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cacheproxy.model import Vector

_MAX_CHARS_PER_WORD: Final = 16
"""On average over a text: the window bounds characters too, as a real tokenizer's does."""


class HashedEmbedder:
    """An embedder that needs nothing. Its window is ``window`` words."""

    def __init__(self, dimension: int = 256, *, window: int = 256) -> None:
        self.dimension = dimension
        self.model = f"hashed-{dimension}"
        self._window = window

    async def embed(self, text: str) -> Vector:
        """The text's vector: shape (dimension,), unit length. Raises ``TurnTooLong``."""
        words = text.casefold().split() if len(text) <= self._window * _MAX_CHARS_PER_WORD else None
        if words is None or len(words) > self._window:
            raise TurnTooLong(f"the text is over the window of {self._window} words")
        # Counts are never negative, so that no two features cancel out and no text is the zero vector.
        counts = np.zeros(self.dimension, np.float32)
        for feature in _features(words):
            digest = blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            counts[int.from_bytes(digest) % self.dimension] += 1
        unit: Vector = counts / np.linalg.norm(counts)
        return unit


def _features(words: list[str]) -> Iterator[str]:
    """Each word, and each three letters in a row with the word's borders; an empty text is one empty word."""
    for word in words or [""]:
        yield word
        bordered = f" {word} "
        yield from (bordered[start : start + 3] for start in range(len(word)))
