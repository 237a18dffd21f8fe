"""Is the promise kept? Over many samples of classes, where the truth sits at the budget, and when answers change."""

from __future__ import annotations

import math
import random
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from cacheproxy.core.features import Features, matrix
from cacheproxy.core.labels import Label, Source
from cacheproxy.core.pool import Pool, Stage
from cacheproxy.lab import offline
from cacheproxy.lab.evaluate import certified
from cacheproxy.lab.tally import Proportion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from decision import Bench

    from cacheproxy.core.likelihood import Likelihood

BUDGETS = (0.01, 0.02, 0.05)
SAMPLES = 2
"""Disjoint samples that a domain's classes are cut into, each time anew."""
FEWEST_HITS = 300
TOLD_EVERY = 10
"""Runs after which the counts so far are told."""
SWAPPED = (0.1, 0.5, 1.0)
"""Shares of the classes whose answers change."""


class Served(NamedTuple):
    """Hits of one run after its shadow, and wrong ones."""

    domain: str
    certified_after: int | None
    """The requests in shadow after which there was a certificate, None where there was none in time."""
    certified: int
    certified_wrong: int
    every: int
    every_wrong: int


class Trial(NamedTuple):
    """What every run has in common."""

    benches: Mapping[str, Bench]
    priors: Mapping[str, Likelihood]
    """By domain."""
    shadow: int
    """A run is in shadow until it has a certificate, but for no more requests than that ..."""
    live: int
    """... and live for so many after it."""


_TRIAL: list[Trial] = []
"""For forked processes."""


def guarantee(trial: Trial, *, runs: int, seed: int, jobs: int) -> dict[str, Any]:
    """In how many runs with enough hits more was wrong than the budget allows."""
    _TRIAL[:] = [trial]
    names = [list(trial.benches)[run % len(trial.benches)] for run in range(runs)]
    jobs_of_domains = [(name, seed + run // len(trial.benches)) for run, name in enumerate(names)]
    served: dict[float, list[Served]] = {budget: [] for budget in BUDGETS}
    for number, of_run in enumerate(_each(_sampled, jobs_of_domains, jobs), 1):
        for budget, one in zip(BUDGETS, of_run, strict=True):
            served[budget].append(one)
        if number % TOLD_EVERY == 0 or number == runs:
            results = {f"{budget:g}": _told(of_budget, budget) for budget, of_budget in served.items()}
    return results


def synthetic(*, shadow: int, live: int, runs: int, seed: int, jobs: int) -> dict[str, Any]:
    """In how many runs anything was certified where the truth is just the budget."""
    results: dict[str, Any] = {}
    for budget in BUDGETS:
        numbers = [(budget, shadow, live, seed + run) for run in range(runs)]
        counts = list(_each(at_the_budget, numbers, jobs))
        ever = Proportion(sum(hits > 0 for hits, _ in counts), runs)
        results[f"{budget:g}"] = {"ever certified": ever.to_json(), "over": _exceeded(counts, budget, of_all=True)}
        print(
            f"budget {budget:.0%}, the truth just there: anything certified in {_share(ever)} runs; {FEWEST_HITS} hits"
            f" and more wrong than the budget in {results[f'{budget:g}']['over']['count']}",
            flush=True,
        )
    return results


def _each(call: Callable[[Any], Any], arguments: Sequence[Any], jobs: int) -> Iterator[Any]:
    if jobs == 1:
        yield from map(call, arguments)
        return
    with ProcessPoolExecutor(jobs) as processes:
        yield from processes.map(call, arguments)


def _told(served: Sequence[Served], budget: float) -> dict[str, Any]:
    """The runs so far at one budget, printed."""
    told: dict[str, Any] = {}
    print(f"budget {budget:.0%}, {len(served)} runs", flush=True)
    for domain in (None, *dict.fromkeys(run.domain for run in served)):
        mine = [run for run in served if domain in (None, run.domain)]
        after = sorted(run.certified_after for run in mine if run.certified_after is not None)
        row = {
            "runs": len(mine),
            "certified_after": after,
            "certified hits": _exceeded([(run.certified, run.certified_wrong) for run in mine], budget),
            "all semantic hits": _exceeded([(run.every, run.every_wrong) for run in mine], budget),
        }
        told[domain or "all"] = row
        quartiles = [after[len(after) * quarter // 4] for quarter in (1, 2, 3)] if after else []
        print(f"  {domain or 'all'}: certified in {len(after)} of {len(mine)}, after {quartiles} requests (quartiles)")
        for kind in ("certified hits", "all semantic hits"):
            print(
                f"    {kind:20} over the budget in {_share(Proportion(row[kind]['count'], row[kind]['of']))} runs with"
                f" {FEWEST_HITS} or more; wrong, pooled {row[kind]['wrong']} of {row[kind]['hits']}",
                flush=True,
            )
    return told


def _share(share: Proportion) -> str:
    low, high = share.interval
    return f"{share.count} of {share.of} ({low:.1%} to {high:.1%})"


def _exceeded(counts: Iterable[tuple[int, int]], budget: float, *, of_all: bool = False) -> dict[str, Any]:
    """Of the runs with enough hits, or of all, those that had enough and broke the promise."""
    counts = list(counts)
    enough = [(hits, wrong) for hits, wrong in counts if hits >= FEWEST_HITS]
    over = sum(wrong > budget * hits for hits, wrong in enough)
    share = Proportion(over, len(counts) if of_all else len(enough))
    return share.to_json() | {"hits": sum(h for h, _ in enough), "wrong": sum(w for _, w in enough)}


def _sampled(job: tuple[str, int]) -> list[Served]:
    """Runs over one sample of a domain's classes, one for each budget; samples of one cut share no class.

    What is asked and judged in shadow is the same at any budget, so the runs share it until they go live.
    """
    threadpool_limits(1, "blas")  # a look-up is too small for threads: on a busy machine runs took six times as long
    (trial,) = _TRIAL
    name, number = job
    bench, prior = trial.benches[name], trial.priors[name]
    sample = bench.domain.samples(SAMPLES, np.random.default_rng(number // SAMPLES))[number % SAMPLES]
    drawn = sample.stream(trial.shadow + trial.live, np.random.default_rng(number))
    place = {text: place for place, text in enumerate(bench.domain.texts)}
    asked = [(place[sample.texts[question]], int(kind)) for question, kind in zip(*drawn, strict=True)]
    arms = {budget: certified(budget, prior) for budget in BUDGETS}
    stream = offline.Stream(
        bench.corpus,
        arms[BUDGETS[0]].policy,
        Pool(budget=BUDGETS[0], prior=prior),
        np.random.default_rng((number, 1)),
        offline.Rules(shadow=trial.shadow),
        len(asked),
    )
    served: dict[float, Served] = {}
    for request in range(trial.shadow + 1):
        rule = stream.pool.rule
        for budget in [each for each in BUDGETS if each not in served]:
            proven = rule is not None and rule.threshold(budget).certified < math.inf
            if proven or request == trial.shadow:
                live = stream.live(arms[budget].policy, budget=budget, chance=np.random.default_rng((number, 2)))
                for at in range(request, request + trial.live):
                    live.ask(at, *asked[at])
                served[budget] = _served(name, request if proven else None, live.result)
        if request < trial.shadow:
            stream.ask(request, *asked[request])
    return [served[budget] for budget in BUDGETS]


def _served(domain: str, certified_after: int | None, run: offline.Run) -> Served:
    semantic = run.outcome == offline.SEMANTIC
    proven = np.array([stage is Stage.CERTIFIED for stage in run.stage])
    return Served(
        domain,
        certified_after,
        int(proven.sum()),
        int((proven & run.wrong).sum()),
        int(semantic.sum()),
        int((semantic & run.wrong).sum()),
    )


def at_the_budget(job: tuple[float, int, int, int]) -> tuple[int, int]:
    """Certified hits and wrong ones where each candidate is wrong with exactly the budget's chance, whatever its score.

    The hardest case: any certificate is a false one. Requests share no answer.
    """
    budget, shadow, live_for, seed = job
    dice = random.Random(seed)
    requests = shadow + live_for
    seen = [_made_up(dice) for _ in range(requests)]
    rows = matrix(seen)
    pool = Pool(budget=budget, prior=None)
    hits = wrong = 0
    scores, threshold, live = np.zeros(requests), math.inf, False
    for request, features in enumerate(seen):
        right, coin = dice.random() >= budget, dice.random()
        pool.saw(features)
        live = live or threshold < math.inf or request >= shadow
        source, inclusion = Source.MISS, 1.0
        if live and scores[request] >= threshold:
            hits += 1
            wrong += not right
            source, inclusion = Source.AUDIT, offline.Rules().audit_rate
        if coin < inclusion:
            pool.add(Label(float(request), str(request), features, right, source, inclusion))
        if pool.due:
            rule = pool.fit()
            pool.adopt(rule)
            scores, threshold = rule.model.logits(rows), rule.threshold(budget).certified
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


def drift(
    benches: Sequence[Bench], priors: Mapping[str, Likelihood], *, orderings: int, requests: int, seed: int
) -> dict[str, Any]:
    """From the middle on, classes have the answer of another class. When does the breaker trip, and what was served?"""
    results: dict[str, Any] = {}
    half = requests // 2
    for bench in benches:
        for share in SWAPPED:
            rows = []
            for each in range(seed, seed + orderings):
                stream = bench.stream(requests, each)
                arm = certified(0.01, priors[bench.name])
                run = offline.run(
                    bench.corpus,
                    stream.questions.tolist(),
                    stream.classes.tolist(),
                    arm.policy,
                    pool=Pool(budget=arm.budget, prior=arm.prior),
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
