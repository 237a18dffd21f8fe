"""Streams of requests made of classified questions: the same few things are asked often, in ever other words.

A class stands for one answer. Classes come as often as Zipf's law says, a share of the requests repeats an earlier one
word for word, a share belongs to no class at all, and everything else is a question that was not asked before. Pure:
chance is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.intp]

ZIPF: Final = 0.7
"""The class of rank r is asked as often as r to the power of minus this."""
REPEATS: Final = 0.1
"""Share of requests that are an earlier one again."""
_NOTHING_LEFT: Final = 1e-12


class Part(StrEnum):
    """Which classes: what is tuned on one half is reported on the other."""

    TUNE = "tune"
    REPORT = "report"
    ALL = "all"

    def has(self, name: str) -> bool:
        """Whether the class of this name belongs to it: by a hash, so that no file's order decides."""
        if self is Part.ALL:
            return True
        return (sha256(name.encode()).digest()[0] % 2 == 0) == (self is Part.TUNE)


class Stream(NamedTuple):
    """One request after the other. Arrays have shape (requests,)."""

    questions: Numbers
    """Which of the domain's texts is asked."""
    classes: Numbers
    """What it belongs to; negative and unlike any other where it belongs to no class."""


@dataclass(frozen=True)
class Domain:
    """Questions by the name of their class, and those that belong to none."""

    classes: Mapping[str, Sequence[str]]
    filler: Sequence[str] = ()
    filler_share: float = 0.0
    """Of the requests, as long as there is filler."""

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Every text once, in an order that depends on nothing else."""
        return tuple(sorted({*self.filler, *(text for texts in self.classes.values() for text in texts)}))

    @cached_property
    def _place(self) -> dict[str, int]:
        return {text: place for place, text in enumerate(self.texts)}

    def part(self, part: Part) -> Domain:
        """These classes and this filler, as far as they belong to that part."""
        return Domain(
            {name: texts for name, texts in self.classes.items() if part.has(name)},
            [text for text in self.filler if part.has(text)],
            self.filler_share,
        )

    def samples(self, count: int, chance: np.random.Generator) -> list[Domain]:
        """Cut into so many parts that share no class and no filler."""
        names, filler = sorted(self.classes), sorted(self.filler)
        names = [names[place] for place in chance.permutation(len(names))]
        filler = [filler[place] for place in chance.permutation(len(filler))]
        return [
            Domain({name: self.classes[name] for name in names[part::count]}, filler[part::count], self.filler_share)
            for part in range(count)
        ]

    def stream(
        self, requests: int, chance: np.random.Generator, *, zipf: float = ZIPF, repeats: float = REPEATS
    ) -> Stream:
        """So many requests. Of more than half as many classes some are drawn, else hardly any would come twice.

        A class whose questions were all asked drops out; when all have, what is left are repeats.
        """
        names = sorted(self.classes)
        if len(names) > requests // 2:
            names = [names[place] for place in sorted(chance.permutation(len(names))[: requests // 2])]
        decks = [self._shuffled(sorted(set(self.classes[name])), chance) for name in names]
        filler = self._shuffled(self.filler, chance)
        weights = np.zeros(len(names))
        weights[chance.permutation(len(names))] = np.arange(1, len(names) + 1, dtype=np.float64) ** -zipf
        heights = np.cumsum(weights)
        asked: list[tuple[int, int]] = []
        nobodys = 0
        while len(asked) < requests:
            used_up = not len(heights) or heights[-1] <= _NOTHING_LEFT
            if asked and (chance.random() < repeats or used_up):
                asked.append(asked[chance.integers(len(asked))])
            elif filler and (chance.random() < self.filler_share or used_up):
                nobodys += 1
                asked.append((filler.pop(), -nobodys))
            elif used_up:
                raise ValueError("there is no question to ask")
            else:
                drawn = np.searchsorted(heights, chance.random() * heights[-1], side="right")
                kind = min(int(drawn), int(np.flatnonzero(weights)[-1]))
                asked.append((decks[kind].pop(), kind))
                if not decks[kind]:
                    weights[kind] = 0.0
                    heights = np.cumsum(weights)
        questions, classes = np.array(asked, dtype=np.intp).reshape(-1, 2).T
        return Stream(questions, classes)

    def _shuffled(self, texts: Sequence[str], chance: np.random.Generator) -> list[int]:
        return [self._place[texts[place]] for place in chance.permutation(len(texts))]
