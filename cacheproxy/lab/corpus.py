"""Texts as the decision sees them: their vectors, and their words once somebody asks for these."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np

from cacheproxy.core.features import Verified, verifier_number
from cacheproxy.core.profile import profile
from cacheproxy.errors import TurnTooLong
from cacheproxy.lab.offline import Corpus

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from numpy.typing import NDArray

    from cacheproxy.core.profile import Profile
    from cacheproxy.ports import Embedder, Verifier

    Compare = Callable[[int, int], Verified]

AT_ONCE: Final = 256


class Profiles(Sequence["Profile"]):
    """The profile of each text, made when it is first asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._made: dict[int, Profile] = {}

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: int) -> Profile: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Profile]: ...
    def __getitem__(self, place: int | slice) -> Profile | Sequence[Profile]:
        if isinstance(place, slice):
            return Profiles(self._texts[place])
        made = self._made.get(place)
        if made is None:
            made = self._made[place] = profile(self._texts[place])
        return made


async def embed_all(
    embedder: Embedder, texts: Sequence[str], on_progress: Callable[[int], None] = lambda _: None
) -> NDArray[np.float32]:
    """The texts' vectors, one a row. A text that the model cannot read whole is near to nothing: its row is zero."""

    async def embed(text: str) -> NDArray[np.float32]:
        try:
            return await embedder.embed(text)
        except TurnTooLong:
            return np.zeros(embedder.dimension, np.float32)

    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), AT_ONCE):
        batch = texts[start : start + AT_ONCE]
        rows += await asyncio.gather(*map(embed, batch))
        on_progress(len(batch))
    return np.stack(rows)


def corpus_of(texts: Sequence[str], vectors: NDArray[np.float32], compare: Compare | None = None) -> Corpus:
    """The texts for ``offline.run``."""
    return Corpus(Profiles(texts), vectors, compare)


def comparing(verifier: Verifier, texts: Sequence[str], wait: Callable[[Coroutine[Any, Any, float]], float]) -> Compare:
    """What a verifier says of two of the texts, by their places. ``wait`` runs its event loop.

    A text that it cannot read whole is like nothing.
    """
    number = verifier_number(verifier.name)

    async def score(asked: str, stored: str) -> float:
        try:
            return await verifier.compare(asked, stored)
        except TurnTooLong:
            return 0.0

    return lambda asked, stored: Verified("", number, wait(score(texts[asked], texts[stored])))
