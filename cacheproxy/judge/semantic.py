"""The judge that reads: answers agree when they are near in meaning both ways and state the same facts.

Equality speaks first. Then the answers are compared as embeddings, whole where they fit the model's window and sentence
by sentence, each with its best match in the other answer, in both directions; and their numbers, dates, units, ids,
code and names are held against each other. A number of its own in each of two short answers makes them different
however near they are, and so does an objection of a lexical guard between two sentences that are near copies. Facts in
common let the words differ more.

What the thresholds rest on: 68 pairs written by hand (``tests/judge/answer_pairs.jsonl``), of which they were chosen on
the even lines. There right answers reworded came to a similarity of 0.78 and more, and answers to the neighbouring
question to 0.57 and less where no fact or guard told them apart already. On the odd lines, at first sight, 32 of 34
were judged right: one was not told, and one failed for a spelling of degrees that ``plain`` has learnt since. These are
short answers in English, of one to four sentences, and no answers of a real model: measure your own noise on A/A pairs
(``core.judge_noise``) before a certificate leans on it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.core.agreement import Facts, facts, objection, plain, sentences, weight
from cacheproxy.errors import ProxyError, TurnTooLong
from cacheproxy.judge.equality import equality
from cacheproxy.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cacheproxy.model import Vector
    from cacheproxy.ports import Embedder
    from cacheproxy.tracing import Trace

NAME: Final = "semantic"
REMEMBERED: Final = 4_096
"""Texts whose vectors are kept: one fresh answer is held against several cached ones, and these come again and again.
A few megabytes."""
_MAX_SENTENCES: Final = 64
"""An answer with more is not judged: half of it would be, and the model is needed by requests."""
_TELLING: Final = 5
"""Words with a meaning from which a sentence must have its counterpart; shorter ones are courtesies more often."""
_LONG: Final = 4
"""Sentences from which an answer has room for examples of its own."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Cosine similarities. Between ``different`` and ``same`` lies the grey zone, in which nothing is said."""

    same: float = 0.75
    """Answers at or above it agree, unless their facts do not."""
    same_with_facts: float = 0.60
    """The same for answers that state ``facts`` facts in common and hardly any apart."""
    facts: int = 3
    different: float = 0.60
    """Answers below it do not agree."""
    near_copy: float = 0.90
    """Two sentences at or above it use the same words, so that a lexical guard's objection between them counts."""
    unmatched: float = 0.25
    """Below it a telling sentence has no counterpart; answers without facts in common may not be called the same."""


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near two answers are. ``whole`` is None where one of them does not fit the window."""

    whole: float | None
    mean: float
    """Over the sentences, by their weight, of the best match: the lower one of both directions."""
    least: float
    """The worst match of a telling sentence, in either direction."""
    objection: str
    """What a guard has against the first two sentences that are near copies; empty where there is nothing."""

    @property
    def similarity(self) -> float:
        """The better of both: sentences that are cut otherwise lower the mean, an aside lowers the whole."""
        return self.mean if self.whole is None else max(self.whole, self.mean)


class SemanticJudge:
    """Judges by an embedding model. The thresholds are for all-MiniLM-L6-v2; another model needs its own."""

    def __init__(self, embedder: Embedder, thresholds: Thresholds | None = None) -> None:
        self._embedder = embedder
        self._thresholds = thresholds or Thresholds()
        self._known: OrderedDict[str, Vector] = OrderedDict()

    async def judge(
        self,
        question: str,
        cached: str,
        fresh: str,
        *,
        trace: Trace | None = None,  # noqa: ARG002 - nobody is called
    ) -> Verdict:
        """The verdict, at no cost in money; ``same`` is None in the grey zone and where the embedder fails."""
        known = equality(cached, fresh)
        if known.same is not None:
            return known
        one, other = plain(cached), plain(fresh)
        parts, others = sentences(one), sentences(other)
        if max(len(parts), len(others)) > _MAX_SENTENCES:
            return Verdict(same=None, by=NAME, why=f"over {_MAX_SENTENCES} sentences")
        stated, long = facts(question, one, other), min(len(parts), len(others)) >= _LONG
        if stated.contradictions and not (long and mostly_shared(stated)):
            return Verdict(same=False, by=NAME, why=str(stated.contradictions[0]))  # however near they may be
        try:
            near = await self._nearness(one, other, parts, others)
        except ProxyError as error:
            return Verdict(same=None, by=NAME, why=error.message)
        same, why = decide(near, stated, self._thresholds, long=long)
        return Verdict(same=same, by=NAME, why=f"similarity {near.similarity:.2f}, {why}")

    async def _nearness(self, one: str, other: str, parts: Sequence[str], others: Sequence[str]) -> Nearness:
        # At once, so that they share a batch: one after the other they take many times as long.
        whole = await asyncio.gather(self._whole(one), self._whole(other))
        vectors = await asyncio.gather(*(self._vector(part) for part in (*parts, *others)))
        mine, theirs = np.stack(vectors[: len(parts)]), np.stack(vectors[len(parts) :])
        table: NDArray[np.float32] = mine @ theirs.T
        forth, back = table.max(axis=1), table.max(axis=0)
        best = zip(parts, table.argmax(axis=1), forth, strict=True)
        objections = (objection(part, others[at]) for part, at, near in best if near >= self._thresholds.near_copy)
        first = next((found for found in objections if found is not None), None)
        return Nearness(
            whole=None if whole[0] is None or whole[1] is None else float(whole[0] @ whole[1]),
            mean=min(_mean(parts, forth), _mean(others, back)),
            least=min(_least(parts, forth), _least(others, back)),
            objection="" if first is None else first.value.removeprefix("guard-"),
        )

    async def _whole(self, text: str) -> Vector | None:
        try:
            return await self._embed(text)
        except TurnTooLong:
            return None

    async def _vector(self, sentence: str) -> Vector:
        """The sentence's vector; that of one past the window is the direction of its halves'."""
        try:
            return await self._embed(sentence)
        except TurnTooLong:
            words = sentence.split()
            if len(words) == 1:
                raise
        half = len(words) // 2
        vector = await self._vector(" ".join(words[:half])) + await self._vector(" ".join(words[half:]))
        unit: Vector = vector / max(float(np.linalg.norm(vector)), 1e-9)
        return unit

    async def _embed(self, text: str) -> Vector:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = await self._embedder.embed(text)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(text)
        return known


def decide(near: Nearness, stated: Facts, thresholds: Thresholds, *, long: bool) -> tuple[bool | None, str]:
    """The rule, pure: whether answers that are so near and state these facts say the same, and why."""
    if near.objection:
        return False, f"near copies that differ in {near.objection}"
    similarity = near.similarity
    if stated.contradictions:
        told = str(stated.contradictions[0])
        if long and similarity >= thresholds.same and mostly_shared(stated):
            return None, f"though {told}"
        return False, told
    if similarity < thresholds.different:
        return False, "far apart"
    agreed = stated.shared >= thresholds.facts
    if near.least < thresholds.unmatched and not agreed:
        return None, "a sentence has no counterpart"
    if stated.lone > max(1, stated.shared):
        return None, f"only one states {stated.disagreements[0]}"
    if similarity >= (thresholds.same_with_facts if agreed else thresholds.same):
        return True, f"{stated.shared} facts in common"
    return None, "in the grey zone"


def mostly_shared(stated: Facts) -> bool:
    """Whether answers share more facts than they contradict each other in: long ones may, by examples of their own."""
    return stated.shared > sum(len(gap.cached) + len(gap.fresh) for gap in stated.contradictions)


def _mean(parts: Sequence[str], best: NDArray[np.float32]) -> float:
    return float(np.average(best, weights=[weight(part) + 1e-3 for part in parts]))


def _least(parts: Sequence[str], best: NDArray[np.float32]) -> float:
    telling = (float(near) for part, near in zip(parts, best, strict=True) if weight(part) >= _TELLING)
    return min(telling, default=1.0)
