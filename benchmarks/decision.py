"""The hit decision on streams of public questions: how often each policy hits, and how often it is wrong.

    python benchmarks/decision.py --data DIR --cache DIR [--domains ...] [--arms ...] [--requests 6000] [--orderings 5]
    python benchmarks/decision.py ... --guarantee [--runs 200 --shadow 3000 --requests 1500]
                                                                   is the promise kept, over many disjoint samples?
    python benchmarks/decision.py ... --synthetic [--runs 200]     is anything certified where the truth is the budget?
    python benchmarks/decision.py ... --drift                      answers change in the middle: does the breaker trip?
    python benchmarks/decision.py ... --traps                      pairs that look alike and are not

Classes stand for answers: whatever answers one question of a class is taken to answer the others, which is a proxy for
the truth. By default only the half of the classes is used that neither the prior nor a constant was tuned on (--part).
Wrong is per semantic hit; its 95% interval is Clopper and Pearson's, over all orderings. The last line is JSON.

Arms: exact, static (--thresholds, as the field does it: no guards), guarded (the same with guards), vcache, ours
(budgets .01, .02, .05), verified (late interaction looks at close decisions; in one process, and only where it is asked
for), lenient (verdicts may outweigh guards), cold (no prior), judge (3% of the verdicts wrong), minus (a stage left out
each), ceiling (the right answer is among the eight nearest of all questions asked before); and for how soon a
certificate comes: shadow (--shadow requests in shadow first) and audited (more audits), each from the prior and cold.

Where all classes of a domain are to be reported on (--part all), name a prior that was trained on the others:
`python benchmarks/prior.py --only banking77,qqp --out FILE`, then --domains clinc150 --part all --prior FILE.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traps
import trials
from domains import FILES, Embeddings, Tokens, add_options, read_domain, split

from cacheproxy.core.prior import NO_VERIFIER, load_prior, shipped_prior
from cacheproxy.embed.local import DEFAULT_MODEL
from cacheproxy.lab.corpus import corpus_of
from cacheproxy.lab.evaluate import Arm, certified, threshold, vcache
from cacheproxy.lab.offline import EXACT, SEMANTIC, Rules, Run
from cacheproxy.lab.streams import Part
from cacheproxy.lab.tally import LIMITS, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.lab.offline import Corpus
    from cacheproxy.lab.streams import Domain, Stream

BUDGETS = (0.01, 0.02, 0.05)
THRESHOLDS = (0.7, 0.75, 0.8, 0.84, 0.86, 0.88, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
KINDS = (
    *("exact", "static", "guarded", "vcache", "ours", "verified", "lenient", "cold", "judge", "minus", "ceiling"),
    *("shadow", "audited"),
)
APART = ("verified", "shadow", "audited")
"""Kinds that run only where they are asked for."""
JUDGE_ERROR = 0.03
AUDITED = (0.3, 0.6)
"""Shares of the hits that are audited where a proof is wanted sooner."""
NEIGHBORS = 8


def arms(asked: argparse.Namespace, prior: Likelihood) -> list[Arm]:
    """The arms of the kinds that are asked for; the ceiling is no policy and computed apart."""
    wrong_judge, in_shadow = Rules(judge_error=JUDGE_ERROR), Rules(shadow=asked.shadow)
    every: dict[str, list[Arm]] = {
        "exact": [Arm("exact", threshold(2.0).policy)],
        "static": [threshold(each, guards=False) for each in asked.thresholds],
        "guarded": [threshold(each) for each in asked.thresholds],
        "vcache": [vcache(delta) for delta in BUDGETS],
        "ours": [certified(budget, prior, name=f"ours {budget:g}") for budget in BUDGETS],
        "verified": [
            certified(budget, prior, name=f"ours {budget:g}, late interaction", rules=Rules(verify=True))
            for budget in BUDGETS
        ],
        "lenient": [
            certified(budget, prior, name=f"ours {budget:g}, guards not final", guards_final=False)
            for budget in BUDGETS
        ],
        "cold": [certified(budget, None, name=f"ours {budget:g}, cold") for budget in BUDGETS],
        "shadow": [
            certified(budget, start, name=f"ours {budget:g}, {asked.shadow:,} in shadow{cold}", rules=in_shadow)
            for budget in BUDGETS
            for start, cold in ((prior, ""), (None, ", cold"))
        ],
        "audited": [
            certified(budget, start, name=f"ours {budget:g}, {rate:.0%} audits{cold}", rules=Rules(audit_rate=rate))
            for budget in BUDGETS
            for start, cold in ((prior, ""), (None, ", cold"))
            for rate in AUDITED
        ],
        "judge": [
            certified(budget, prior, name=f"ours {budget:g}, judge errs in 3%", rules=wrong_judge) for budget in BUDGETS
        ],
        "minus": [
            certified(0.01, prior, name="ours 0.01, no guards", guards=False),
            certified(0.01, prior, name="ours 0.01, no aliases", rules=Rules(aliases=0)),
            certified(0.01, prior, name="ours 0.01, nearest alone", rules=Rules(neighbors=1, judged=1)),
            certified(0.01, prior, name="ours 0.01, first candidate judged alone", rules=Rules(judged=1)),
            certified(0.01, prior, name="ours 0.01, certified hits alone", certified_only=True),
            certified(0.01, prior, name="ours 0.01, 20% audits", rules=Rules(audit_rate=0.2)),
        ],
    }
    return [arm for kind in asked.arms for arm in every.get(kind, [])]


@dataclass(frozen=True)
class Bench:
    """One domain, ready to run. Forked processes share it."""

    name: str
    domain: Domain
    corpus: Corpus

    def stream(self, requests: int, seed: int) -> Stream:
        """The ordering of a seed."""
        return self.domain.stream(requests, np.random.default_rng(seed))


def ceiling(bench: Bench, stream: Stream, among: int) -> Run:
    """Every question is remembered with its class; it is a hit when one of the nearest has the right one."""
    requests = len(stream.questions)
    outcome = np.zeros(requests, np.int8)
    places: dict[int, int] = {}
    kept = np.zeros((requests, bench.corpus.vectors.shape[1]), np.float32)
    kinds: list[int] = []
    for request, (question, kind) in enumerate(zip(stream.questions.tolist(), stream.classes.tolist(), strict=True)):
        if question in places:
            outcome[request] = EXACT
            continue
        scores = kept[: len(kinds)] @ bench.corpus.vectors[question]
        if any(kinds[place] == kind for place in np.argsort(-scores)[:among].tolist()):
            outcome[request] = SEMANTIC
        kept[len(kinds)] = bench.corpus.vectors[question]
        places[question] = len(kinds)
        kinds.append(kind)
    nothing = np.zeros(requests)
    return Run(outcome, np.zeros(requests, np.bool_), [None] * requests, nothing, nothing, outcome == SEMANTIC)


_BENCHES: dict[str, Bench] = {}
"""Filled before the processes are forked."""


def _one(job: tuple[str, Arm | int, int, int]) -> Run:
    name, arm, requests, seed = job
    bench = _BENCHES[name]
    stream = bench.stream(requests, seed)
    return ceiling(bench, stream, arm) if isinstance(arm, int) else arm.run(bench.corpus, stream, seed=seed)


def measure(bench: Bench, chosen: Sequence[Arm | int], asked: argparse.Namespace) -> list[Tally]:
    """Each arm over each ordering, arms told as they are done."""
    _BENCHES[bench.name] = bench
    seeds = range(asked.seed, asked.seed + asked.orderings)
    jobs = [(bench.name, arm, asked.requests, seed) for arm in chosen for seed in seeds]
    tallies = []
    with ProcessPoolExecutor(asked.jobs) as processes:
        runs: Iterable[Run] = map(_one, jobs) if asked.jobs == 1 else processes.map(_one, jobs)
        runs = iter(runs)
        for arm in chosen:
            mine = [next(runs) for _ in seeds]
            name = f"ceiling, {arm} nearest" if isinstance(arm, int) else arm.name
            tallies.append(Tally(name, mine, scored=not isinstance(arm, int) and arm.scored))
            print(told(tallies[-1]), flush=True)
    return tallies


def told(tally: Tally) -> str:
    """An arm in one line."""
    low, high = tally.wrong.interval
    late_low, late_high = tally.late_wrong.interval
    gross = tally.gross_usd()
    net = f"{tally.net_usd() / gross:6.1%}" if gross else "     -"
    stages = " ".join(f"{stage} {share.count}/{share.of}" for stage, share in tally.by_stage.items())
    return (
        f"  {tally.name:40} hit {tally.hits.rate:6.1%} ({tally.late_hits.rate:6.1%})"
        f"  wrong {tally.wrong.rate:6.2%} [{low:.2%}, {high:.2%}]"
        f"  2nd half {tally.late_wrong.rate:6.2%} [{late_low:.2%}, {late_high:.2%}]"
        f"  net {net}  first certified {tally.first_certified if stages else '-'}  {stages}"
    )


def markdown(name: str, tally: Tally) -> str:
    """An arm as a row of the table in docs/decision.md."""
    low, high = tally.wrong.interval
    wrong = f"{tally.wrong.rate:.2%} ({low:.2%} to {high:.2%})" if tally.wrong.of else ""
    gross = tally.gross_usd()
    net = f"{tally.net_usd() / gross:.0%}" if gross else ""
    first = [at for at in tally.first_certified if at is not None]
    reached = f"{min(first):,} ({len(first)} of {len(tally.runs)} runs)" if first else ""
    return (
        f"| {name} | {tally.name} | {tally.hits.rate:.1%} | {tally.late_hits.rate:.1%} | {wrong} | {net} | {reached} |"
    )


def best_static(tallies: Sequence[Tally]) -> dict[str, Any]:
    """What the static thresholds come to: chosen in hindsight, and the loosest one with a certificate in hindsight."""
    static = [tally for tally in tallies if tally.name.startswith("threshold") and tally.name.endswith("no guards")]
    found: dict[str, Any] = {}
    for limit in LIMITS if static else ():
        for kind, holds in {
            "oracle-chosen": lambda tally, limit=limit: tally.wrong.rate <= limit,
            "certified": lambda tally, limit=limit: tally.wrong.of > 0 and tally.wrong.interval[1] <= limit,
        }.items():
            best = max((tally for tally in static if holds(tally)), key=lambda tally: tally.hits.rate, default=None)
            found[f"{kind} {limit:g}"] = None if best is None else {"arm": best.name, "hit_rate": best.hits.rate}
            print(f"  best static, {kind}, {limit:.0%}: {'none' if best is None else told(best).strip()}")
    return found


def streams(asked: argparse.Namespace, benches: Sequence[Bench], priors: Mapping[str, Likelihood]) -> dict[str, Any]:
    """The streams, arm by arm."""
    results: dict[str, Any] = {}
    rows = [
        "| stream | arm | hit rate | second half | wrong per semantic hit (95%) | net saving | first certified hit |",
        "|---|---|---|---|---|---|---|",
    ]
    for bench in benches:
        print(
            f"{bench.name}, {asked.part}: {len(bench.domain.classes):,} classes, {asked.orderings} x {asked.requests:,}"
        )
        chosen: list[Arm | int] = [*arms(asked, priors[bench.name])]
        if "ceiling" in asked.arms:
            chosen += [NEIGHBORS, 1]
        tallies = measure(bench, chosen, asked)
        rows += [markdown(bench.name, tally) for tally in tallies]
        results[bench.name] = {"arms": [tally.to_json() for tally in tallies], "static": best_static(tallies)}
    if asked.markdown:
        print("\n".join(rows))
    return results


def read_priors(told: str, verifier: str) -> dict[str, Likelihood]:
    """The prior of each domain: the shipped one, that of one file, or that of a file each."""
    shipped = shipped_prior(embedding_model=DEFAULT_MODEL)
    assert shipped is not None

    def read(file: str) -> Likelihood:
        return load_prior(Path(file).read_text(), embedding_model=DEFAULT_MODEL, verifier=verifier)

    if "=" not in told:
        return dict.fromkeys(FILES, read(told) if told else shipped)
    named = dict(each.split("=", 1) for each in told.split(","))
    return dict.fromkeys(FILES, shipped) | {name: read(file) for name, file in named.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--domains", type=partial(split, known=FILES), default=list(FILES))
    parser.add_argument(
        "--arms", type=partial(split, known=KINDS), default=[kind for kind in KINDS if kind not in APART]
    )
    parser.add_argument("--thresholds", type=lambda text: [float(each) for each in text.split(",")], default=THRESHOLDS)
    parser.add_argument("--part", type=Part, choices=list(Part), default=Part.REPORT)
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--orderings", type=int, default=5)
    parser.add_argument("--runs", type=int, default=200, help="with --guarantee")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--shadow", type=int, default=3_000, help="requests in shadow, with --guarantee and --arms shadow"
    )
    parser.add_argument(
        "--prior", metavar="FILE", default="", help="instead of the one that ships, or DOMAIN=FILE,DOMAIN=FILE"
    )
    parser.add_argument("--verifier", default=NO_VERIFIER, help="that the prior was trained with, for the arm verified")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/decision.md too")
    parser.add_argument("--guarantee", action="store_true")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--drift", action="store_true")
    parser.add_argument("--traps", action="store_true")
    asked = parser.parse_args()
    began = time.monotonic()
    priors = read_priors(asked.prior, asked.verifier)
    embeddings = Embeddings(asked.cache)
    if asked.traps:
        result: dict[str, Any] = traps.measure(asked.data, embeddings, priors[asked.domains[0]])
    elif asked.synthetic:
        result = trials.synthetic(
            shadow=asked.shadow, live=asked.requests, runs=asked.runs, seed=asked.seed, jobs=asked.jobs
        )
    else:
        parts = {name: read_domain(name, asked.data).part(asked.part) for name in asked.domains}
        tokens = Tokens() if "verified" in asked.arms else None
        benches = [
            Bench(
                name,
                domain,
                corpus_of(domain.texts, embeddings.of(domain.texts), tokens.compare(domain.texts) if tokens else None),
            )
            for name, domain in parts.items()
        ]
        if asked.guarantee:
            result = trials.guarantee(
                trials.Trial(
                    {bench.name: bench for bench in benches}, priors, shadow=asked.shadow, live=asked.requests
                ),
                runs=asked.runs,
                seed=asked.seed,
                jobs=asked.jobs,
            )
        elif asked.drift:
            result = trials.drift(benches, priors, orderings=asked.orderings, requests=asked.requests, seed=asked.seed)
        else:
            result = streams(asked, benches, priors)
    print(f"{time.monotonic() - began:.0f} s")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
