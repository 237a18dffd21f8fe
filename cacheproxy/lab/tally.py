"""What runs of one policy amount to, pure: hit rates, wrong hits with their intervals, and what they saved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from cacheproxy.core import certificate
from cacheproxy.lab.offline import EXACT, SEMANTIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.lab.offline import Run

    Values = NDArray[np.float64]
    Flags = NDArray[np.bool_]

LIMITS: Final = (0.01, 0.02, 0.05)
"""Wrong per hit at which hit rates are compared."""
BINS: Final = 10


class Prices(NamedTuple):
    """What an answer and a judgement are taken to cost, in USD.

    By default an answer of 300 tokens to 300, and a judge that reads 900 and writes 5, at 2.50 and 10 USD a million for
    the one, .15 and .60 for the other: a mid-sized model, judged by a small one.
    """

    answer_usd: float = 0.00375
    judge_usd: float = 0.000138


@dataclass(frozen=True, slots=True)
class Proportion:
    """``count`` of ``of``, with Clopper and Pearson's 95% interval."""

    count: int
    of: int

    @property
    def rate(self) -> float:
        """0 where nothing was counted."""
        return self.count / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """0..1 where nothing was counted."""
        return certificate.interval(self.count, self.of) if self.of else (0.0, 1.0)

    def to_json(self) -> JsonObject:
        """The numbers, the rate and the interval."""
        low, high = self.interval
        return {"count": self.count, "of": self.of, "rate": self.rate, "low": low, "high": high}


class Bin(NamedTuple):
    """Candidates of like chance."""

    predicted: float
    """Their mean chance of being right."""
    observed: Proportion
    """How many were."""


@dataclass(frozen=True)
class Tally:
    """Runs over several orderings of the requests, added up."""

    name: str
    runs: Sequence[Run]
    scored: bool = False
    """Whether the policy computes a chance; else candidates are ordered by similarity."""

    @property
    def requests(self) -> int:
        """In all orderings together."""
        return sum(len(run.outcome) for run in self.runs)

    @property
    def hits(self) -> Proportion:
        """Exact and semantic ones, of the requests."""
        return Proportion(sum(int((run.outcome > 0).sum()) for run in self.runs), self.requests)

    @property
    def late_hits(self) -> Proportion:
        """Those of each run's second half."""
        halves = [run.outcome[len(run.outcome) // 2 :] for run in self.runs]
        return Proportion(sum(int((half > 0).sum()) for half in halves), sum(map(len, halves)))

    @property
    def wrong(self) -> Proportion:
        """Wrong ones of the semantic hits."""
        return _wrong([(run.outcome, run.wrong) for run in self.runs])

    @property
    def late_wrong(self) -> Proportion:
        """Those of each run's second half."""
        return _wrong([(run.outcome[(half := len(run.outcome) // 2) :], run.wrong[half:]) for run in self.runs])

    @property
    def wrong_per_request(self) -> Proportion:
        """Wrong semantic hits of all requests."""
        return Proportion(self.wrong.count, self.requests)

    @property
    def recall(self) -> Proportion:
        """Right semantic hits of those candidates that were right."""
        right = sum(int(run.candidate_right.sum()) for run in self.runs)
        return Proportion(min(self.wrong.of - self.wrong.count, right), right)

    @property
    def by_stage(self) -> dict[str, Proportion]:
        """Wrong ones of the semantic hits, by what was promised of them."""
        hits, wrong = Counter[str](), Counter[str]()
        for run in self.runs:
            for stage, is_wrong in zip(run.stage, run.wrong.tolist(), strict=True):
                if stage is not None:
                    hits[stage.value] += 1
                    wrong[stage.value] += is_wrong
        return {stage: Proportion(wrong[stage], count) for stage, count in sorted(hits.items())}

    @property
    def first_certified(self) -> list[int | None]:
        """The request with the first certified hit, of each run."""
        return [run.first_certified for run in self.runs]

    def gross_usd(self, prices: Prices = Prices()) -> float:  # noqa: B008 - immutable
        """What semantic hits saved."""
        return self.wrong.of * prices.answer_usd

    def net_usd(self, prices: Prices = Prices()) -> float:  # noqa: B008 - immutable
        """Less audits, each of which buys an answer and a judgement, and the judgements of misses."""
        audits = sum(run.audits for run in self.runs)
        judged = sum(run.judged for run in self.runs)
        return self.gross_usd(prices) - audits * (prices.answer_usd + prices.judge_usd) - judged * prices.judge_usd

    def candidates(self) -> tuple[Values, Flags]:
        """Score of each candidate, and whether it was right, the highest first."""
        scores, right = [], []
        for run in self.runs:
            there = (run.similarity > 0) & (run.outcome != EXACT)
            scores.append((run.chance if self.scored else run.similarity)[there])
            right.append(run.candidate_right[there])
        all_scores, all_right = np.concatenate(scores), np.concatenate(right)
        order = np.argsort(-all_scores, kind="stable")
        return all_scores[order], all_right[order]

    def curve(self) -> tuple[Values, Values]:
        """Hit rate and wrong per semantic hit at every cut through the candidates, the strictest first."""
        _, right = self.candidates()
        count = np.arange(1, len(right) + 1)
        exact = self.hits.count - self.wrong.of
        return (exact + count) / max(self.requests, 1), np.cumsum(~right) / count

    def reachable(self, limit: float) -> float:
        """The hit rate with the best cut through the candidates' scores, in hindsight: what the score is worth."""
        rates, wrong = self.curve()
        kept = np.flatnonzero(wrong <= limit)
        exact = (self.hits.count - self.wrong.of) / max(self.requests, 1)
        return float(rates[kept[-1]]) if len(kept) else exact

    def reliability(self) -> list[Bin]:
        """Predicted chance against observed, in tenths; empty for a policy without one."""
        if not self.scored:
            return []
        return reliability(*self.candidates())

    def to_json(self, prices: Prices = Prices()) -> JsonObject:  # noqa: B008 - immutable
        """Everything but the curves."""
        return {
            "arm": self.name,
            "orderings": len(self.runs),
            "requests": self.requests,
            "hit_rate": self.hits.rate,
            "hit_rate_second_half": self.late_hits.rate,
            "wrong_per_semantic_hit": self.wrong.to_json(),
            "wrong_per_semantic_hit_second_half": self.late_wrong.to_json(),
            "wrong_per_request": self.wrong_per_request.to_json(),
            "recall": self.recall.to_json(),
            "by_stage": {stage: share.to_json() for stage, share in self.by_stage.items()},
            "reachable": {f"{limit:g}": self.reachable(limit) for limit in LIMITS},
            "first_certified": self.first_certified,
            "audits": sum(run.audits for run in self.runs),
            "judged": sum(run.judged for run in self.runs),
            "trips": sum(len(run.tripped_at) for run in self.runs),
            "gross_usd": self.gross_usd(prices),
            "net_usd": self.net_usd(prices),
            "reliability": [{"predicted": b.predicted, **b.observed.to_json()} for b in self.reliability()],
        }


def reliability(chance: Values, right: Flags) -> list[Bin]:
    """Predicted chance against observed, in tenths; those that hold something."""
    tenth = np.minimum((chance * BINS).astype(int), BINS - 1)
    return [
        Bin(float(chance[mine].mean()), Proportion(int(right[mine].sum()), int(mine.sum())))
        for each in range(BINS)
        if (mine := tenth == each).any()
    ]


def _wrong(parts: Sequence[tuple[NDArray[np.int8], Flags]]) -> Proportion:
    return Proportion(
        sum(int((wrong & (outcome == SEMANTIC)).sum()) for outcome, wrong in parts),
        sum(int((outcome == SEMANTIC).sum()) for outcome, _ in parts),
    )
