"""Token against token: how well each of two questions' tokens is met by one of the other's.

The tokens' vectors come from the embedding model's own forward pass, so the question that is asked costs nothing more.
Source: the MaxSim operator of ColBERT (Khattab and Zaharia 2020), here in both directions.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from cacheproxy.model import Tokens
    from cacheproxy.ports import TokenEmbedder

NAME: Final = "late-interaction"


class LateInteraction:
    """A verifier that needs no model of its own."""

    name = NAME

    def __init__(self, embedder: TokenEmbedder) -> None:
        self._embedder = embedder

    async def compare(self, asked: str, stored: str) -> float:
        """See ``Verifier``."""
        mine, theirs = await asyncio.gather(self._embedder.tokens(asked), self._embedder.tokens(stored))
        return max_sim(mine, theirs)


def max_sim(one: Tokens, other: Tokens) -> float:
    """The mean, over a text's tokens, of the cosine to the nearest token of the other; of both directions the lower.

    0..1, and 0 where a text has no tokens.
    """
    if not len(one) or not len(other):
        return 0.0
    table = one.astype(np.float32) @ other.astype(np.float32).T
    met = min(float(table.max(axis=1).mean()), float(table.max(axis=0).mean()))
    return min(max(met, 0.0), 1.0)
