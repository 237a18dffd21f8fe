"""Is the promise kept? Over many samples of classes, where the truth sits at the budget, and when answers change."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cacheproxy.core.features import Features
from cacheproxy.core.pool import Label, Pool, Source, Stage
from cacheproxy.lab import offline
from cacheproxy.lab.evaluate import certified
from cacheproxy.lab.tally import Proportion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from decision import Bench

    from cacheproxy.core.likelihood import Likelihood

BUDGETS = (0.01, 0.02, 0.05)
SAMPLES = 2
"""Disjoint samples that a domain's classes are cut into, each time anew."""
FEWEST_HITS = 300
SWAPPED = (0.1, 0.5, 1.0)
"""Shares of the classes whose answers change."""


class Served(NamedTuple):
    """Hits of one run, and wrong ones."""

    domain: str
    certified: int
    certified_wrong: int
    every: int
    every_wrong: int


_SHARED: dict[str, Any] = {}
"""For forked processes."""


def guarantee(
    benches: Sequence[Bench], prior: Likelihood, *, runs: int, requests: int, seed: int, jobs: int
) -> dict[str, Any]:
    """In how many runs with enough hits more was wrong than the budget allows."""
    _SHARED.update(benches={bench.name: bench for bench in benches}, prior=prior, requests=requests)
    results: dict[str, Any] = {}
    for budget in BUDGETS:
        names = [benches[run % len(benches)].name for run in range(runs)]
        served = _each(_sampled, [(name, budget, seed + run // len(benches)) for run, name in enumerate(names)], jobs)
        synthetic = _each(at_the_budget, [(budget, requests, seed + run) for run in range(runs)], jobs)
        told = {
            "certified hits": _exceeded([(s.certified, s.certified_wrong) for s in served], budget),
            "all semantic hits": _exceeded([(s.every, s.every_wrong) for s in served], budget),
            "synthetic, truth at the budget": _exceeded(synthetic, budget, of_all=True),
        }
        for name in dict.fromkeys(names):
            mine = [s for s in served if s.domain == name]
            told[f"certified hits, {name}"] = _exceeded([(s.certified, s.certified_wrong) for s in mine], budget)
            told[f"all semantic hits, {name}"] = _exceeded([(s.every, s.every_wrong) for s in mine], budget)
        results[f"{budget:g}"] = told
        print(f"budget {budget:.0%}, {runs} runs")
        for name, row in told.items():
            print(
                f"  {name:40} over the budget in {row['count']}/{row['of']} runs {row['rate']:6.1%}"
                f" [{row['low']:.1%}, {row['high']:.1%}]  wrong, pooled {row['wrong']}/{row['hits']}",
                flush=True,
            )
    return results


def _each(call: Callable[[Any], Any], arguments: Sequence[Any], jobs: int) -> list[Any]:
    if jobs == 1:
        return list(map(call, arguments))
    with ProcessPoolExecutor(jobs) as processes:
        return list(processes.map(call, arguments))


def _exceeded(counts: Iterable[tuple[int, int]], budget: float, *, of_all: bool = False) -> dict[str, Any]:
    """Of the runs with enough hits, or of all, those that had enough and broke the promise."""
    counts = list(counts)
    enough = [(hits, wrong) for hits, wrong in counts if hits >= FEWEST_HITS]
    over = sum(wrong > budget * hits for hits, wrong in enough)
    share = Proportion(over, len(counts) if of_all else len(enough))
    return share.to_json() | {"hits": sum(h for h, _ in enough), "wrong": sum(w for _, w in enough)}


def _sampled(job: tuple[str, float, int]) -> Served:
    """One run over one sample of a domain's classes; runs of one cut share no class."""
    name, budget, number = job
    bench: Bench = _SHARED["benches"][name]
    sample = bench.domain.samples(SAMPLES, np.random.default_rng(number // SAMPLES))[number % SAMPLES]
    stream = sample.stream(_SHARED["requests"], np.random.default_rng(number))
    place = {text: place for place, text in enumerate(bench.domain.texts)}
    stream = stream._replace(questions=np.array([place[sample.texts[question]] for question in stream.questions]))
    run = certified(budget, _SHARED["prior"]).run(bench.corpus, stream, seed=number)
    semantic = run.outcome == offline.SEMANTIC
    proven = np.array([stage is Stage.CERTIFIED for stage in run.stage])
    return Served(
        name,
        int(proven.sum()),
        int((proven & run.wrong).sum()),
        int(semantic.sum()),
        int((semantic & run.wrong).sum()),
    )


def at_the_budget(job: tuple[float, int, int]) -> tuple[int, int]:
    """Certified hits, and wrong ones, where every candidate is wrong with just the budget's chance, whatever its score.

    The hardest case for a certificate: nothing is to be found that is safer, so that each look is a coin's.
    """
    budget, requests, seed = job
    dice = random.Random(seed)
    pool = Pool(budget=budget, prior=None)
    hits = wrong = 0
    for request in range(requests):
        features = _made_up(dice)
        right = dice.random() >= budget
        pool.saw(features)
        rule = pool.rule
        score = -np.inf if rule is None else float(rule.model.logits(np.array([features], dtype=np.float64))[0])
        root = str(request)
        if rule is not None and score >= rule.threshold(budget).certified:
            hits += 1
            wrong += not right
            if dice.random() < offline.Rules().audit_rate:
                pool.add(Label(float(request), root, features, right, Source.AUDIT, offline.Rules().audit_rate))
        else:
            pool.add(Label(float(request), root, features, right, Source.MISS))
        if pool.due:
            pool.adopt(pool.fit())
    return hits, wrong


def _made_up(dice: random.Random) -> Features:
    similarity = dice.uniform(0.4, 1.0)
    overlap = dice.random()
    return Features(
        similarity=similarity,
        similarity_3=similarity * dice.uniform(0.8, 1.0),
        share=dice.random(),
        margin=dice.uniform(0.0, 0.3),
        keys=dice.randint(1, 8),
        right=0.0,
        wrong=0.0,
        groups=dice.randint(1, 8),
        uncovered=1 - overlap,
        uncovered_words=round(6 * (1 - overlap)),
        farthest=similarity * dice.uniform(0.3, 1.0),
        overlap=overlap,
        length_ratio=dice.uniform(0.0, 0.7),
        length=dice.uniform(1.0, 3.0),
        difference=dice.randint(0, 8),
        objected=0.0,
        vetoed_amount=0.0,
        vetoed_sense=0.0,
    )


def drift(benches: Sequence[Bench], prior: Likelihood, *, orderings: int, requests: int, seed: int) -> dict[str, Any]:
    """From the middle on, classes have the answer of another class. When does the breaker trip, and what was served?"""
    results: dict[str, Any] = {}
    half = requests // 2
    for bench in benches:
        for share in SWAPPED:
            rows = []
            for each in range(seed, seed + orderings):
                stream = bench.stream(requests, each)
                arm = certified(0.01, prior)
                run = offline.run(
                    bench.corpus,
                    stream.questions.tolist(),
                    stream.classes.tolist(),
                    arm.policy,
                    pool=Pool(budget=arm.budget, prior=prior),
                    chance=np.random.default_rng(each),
                    truth=_swapping(stream.classes, share, each, half),
                )
                rows.append(_after(run, half))
            tripped = [row["requests"] for row in rows if row["requests"] is not None]
            results[f"{bench.name}, {share:g}"] = rows
            print(
                f"  {bench.name}, {share:.0%} of the classes: tripped in {len(tripped)}/{len(rows)}"
                + (f", after {median(tripped):.0f} requests" if tripped else "")
                + f", wrong served until then {[row['wrong'] for row in rows]} of {[row['hits'] for row in rows]} hits"
                f", wrong afterwards {[row['wrong_afterwards'] for row in rows]} of"
                f" {[row['hits_afterwards'] for row in rows]}"
                f"; false alarms before {sum(row['false_alarms'] for row in rows)}",
                flush=True,
            )
    return results


def _swapping(classes: Iterable[int], share: float, seed: int, half: int) -> Callable[[int, int], int]:
    """From the middle on some classes, in a ring, have the answer of the next one."""
    known = sorted({int(kind) for kind in classes if kind >= 0})
    random.Random(seed).shuffle(known)
    ring = known[: max(2, round(share * len(known)))]
    swap = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
    return lambda request, kind: kind if request < half else swap.get(kind, kind)


def _after(run: offline.Run, half: int) -> dict[str, Any]:
    """Until the first trip after the change, or the end, and from there on."""
    trip = next((at for at in run.tripped_at if at >= half), None)
    until = len(run.outcome) if trip is None else trip + 1
    semantic = run.outcome == offline.SEMANTIC
    wrong = semantic & run.wrong
    return {
        "requests": None if trip is None else trip - half,
        "hits": int(semantic[half:until].sum()),
        "wrong": int(wrong[half:until].sum()),
        "hits_afterwards": int(semantic[until:].sum()),
        "wrong_afterwards": int(wrong[until:].sum()),
        "false_alarms": sum(at < half for at in run.tripped_at),
    }
