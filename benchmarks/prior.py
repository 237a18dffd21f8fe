"""Makes the prior that ships with the package, from the half of the classes that nothing is reported on.

    python benchmarks/prior.py --data DIR [--cache DIR] [--only clinc150,qqp] [--orderings 2] [--verified] [--out FILE]

Streams of every domain go through a proxy in shadow mode; the prior is fitted on the verdicts. ``--only`` leaves
domains out, to see what the prior is worth on one that it was not trained on. With ``--verified`` late interaction
looks at close decisions, and the prior knows what its scores mean.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from domains import FILES, Embeddings, Tokens, add_options, read_domain, split

import cacheproxy
from cacheproxy.core.prior import NO_VERIFIER, TrainedOn, dump_prior, train
from cacheproxy.embed.local import DEFAULT_MODEL
from cacheproxy.lab.streams import Part
from cacheproxy.lab.training import verdicts_on_stream
from cacheproxy.verify.late_interaction import NAME as LATE_INTERACTION

SHIPPED = Path(cacheproxy.__file__).parent / "data" / "prior.json"


def main() -> None:
    """Run the streams, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--only", type=lambda text: split(text, FILES), default=list(FILES))
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--orderings", type=int, default=2)
    parser.add_argument("--verified", action="store_true")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    asked = parser.parse_args()
    embeddings = Embeddings(asked.cache)
    tokens = Tokens() if asked.verified else None
    verifier = LATE_INTERACTION if asked.verified else NO_VERIFIER
    verdicts, trained_on = [], []
    for name in asked.only:
        domain = read_domain(name, asked.data).part(Part.TUNE)
        vectors = embeddings.of(domain.texts)
        compare = tokens.compare(domain.texts) if tokens else None
        mine = [
            verdict
            for seed in range(asked.orderings)
            for verdict in verdicts_on_stream(domain, vectors, requests=asked.requests, seed=seed, compare=compare)
        ]
        verdicts += mine
        trained_on.append(TrainedOn(name, len(mine), sum(not right for _, right in mine)))
        print(trained_on[-1])
    asked.out.write_text(
        dump_prior(train(verdicts), embedding_model=DEFAULT_MODEL, trained_on=trained_on, verifier=verifier)
    )
    print(f"{asked.out}: {asked.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
