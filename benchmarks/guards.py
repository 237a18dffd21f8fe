"""What the lexical guards catch, and what they cost, measured with the real model on labelled questions.

    python benchmarks/guards.py FILE... [--threshold .95] [--rows odd] [--limit N] [--json]

A file is JSON lines, gzip or not, of one of two kinds:

    pairs    {"a": ..., "b": ..., "same": 0|1}    would b be served a's answer, and should it?
    classes  {"text": ..., "intent": ...}         each question comes after those above it; would it be served the
                                                  answer of one of them, and is that of its own class?

"Served" are those that are similar enough: without guards the nearest one, with guards what ``ThresholdPolicy``
decides. "Wrong" are those of them that should not have been, "kept" is the share of the right ones that guards let
pass. Pairs and questions whose texts are identical are left out: the exact cache answers those. Intervals are 95%
(Wilson). ``--rows odd`` takes every second line, so that rows which tables were tuned on can be left out.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cacheproxy.core.guards import first_objection, profile
from cacheproxy.embed.local import DEFAULT_MODEL, open_local
from cacheproxy.lab.outcomes import Share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cacheproxy.embed.local import LocalEmbedder

AT_ONCE = 512
NEIGHBOURS = 5
TAKEN = {"odd": slice(1, None, 2), "even": slice(0, None, 2), "all": slice(None)}


@dataclass(slots=True)
class Found:
    """Counts over one file."""

    name: str
    asked: int = 0
    right: int = 0
    wrong: int = 0
    guarded_right: int = 0
    guarded_wrong: int = 0
    objections: dict[str, int] = field(default_factory=dict)
    """First objections, by their reason."""

    def count(self, *, right: bool, objection: str | None) -> None:
        """One that would be served without guards, to its right."""
        self.right += right
        self.wrong += not right
        if objection is not None:
            self.objections[objection] = self.objections.get(objection, 0) + 1

    def most_frequent(self) -> list[tuple[str, str]]:
        """Reasons and how often they were given, the most frequent first."""
        ordered = sorted(self.objections.items(), key=lambda counted: -counted[1])
        return [(reason, str(count)) for reason, count in ordered]

    @property
    def without(self) -> Share:
        """Wrong ones of all that are similar enough."""
        return Share(self.wrong, self.right + self.wrong)

    @property
    def guarded(self) -> Share:
        """Wrong ones of those to which no guard objects."""
        return Share(self.guarded_wrong, self.guarded_right + self.guarded_wrong)

    @property
    def kept(self) -> Share:
        """Right ones of those that would be served without guards."""
        return Share(self.guarded_right, self.right)


def read(path: Path, *, rows: slice, limit: int | None) -> list[dict[str, Any]]:
    """The taken lines of a file, parsed."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        return [json.loads(line) for line in list(lines)[rows]][:limit]


async def embedded(embedder: LocalEmbedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """The texts' unit vectors, one a row."""
    vectors = []
    for start in range(0, len(texts), AT_ONCE):
        vectors += await asyncio.gather(*map(embedder.embed, texts[start : start + AT_ONCE]))
    return np.stack(vectors)


async def pairs(found: Found, rows: list[dict[str, Any]], embedder: LocalEmbedder, threshold: float) -> None:
    """Count over labelled pairs."""
    rows = [row for row in rows if row["a"].strip() != row["b"].strip()]
    found.asked = len(rows)
    a, b = [await embedded(embedder, [row[side] for row in rows]) for side in ("a", "b")]
    for row, similarity in zip(rows, np.einsum("nd,nd->n", a, b), strict=True):
        if similarity < threshold:
            continue
        right = bool(row["same"])
        objection = first_objection(profile(row["b"]), profile(row["a"]))
        found.count(right=right, objection=objection)
        if objection is None:
            found.guarded_right += right
            found.guarded_wrong += not right


async def classes(found: Found, rows: list[dict[str, Any]], embedder: LocalEmbedder, threshold: float) -> None:
    """Count over a stream of questions with classes."""
    rows = list({row["text"].strip(): row for row in rows}.values())
    found.asked = len(rows)
    vectors = await embedded(embedder, [row["text"] for row in rows])
    for number, near in neighbours(vectors, threshold):
        asked = profile(rows[number]["text"])
        judged = [(rows[other]["intent"] == rows[number]["intent"], other) for other in near]
        objections = [first_objection(asked, profile(rows[other]["text"])) for _, other in judged]
        found.count(right=judged[0][0], objection=objections[0])
        served = next((right for (right, _), objection in zip(judged, objections, strict=True) if not objection), None)
        found.guarded_right += served is True
        found.guarded_wrong += served is False


def neighbours(vectors: NDArray[np.float32], threshold: float) -> Iterator[tuple[int, list[int]]]:
    """Each question with those before it that are similar enough, the most similar first."""
    for number in range(1, len(vectors)):
        similarities = vectors[:number] @ vectors[number]
        near = [int(other) for other in np.argsort(-similarities)[:NEIGHBOURS] if similarities[other] >= threshold]
        if near:
            yield number, near


async def measure(
    paths: Sequence[Path], *, threshold: float, rows: slice, limit: int | None, model: str
) -> list[Found]:
    """Measure every file with one model."""
    embedder = await open_local(model)
    results = []
    try:
        for path in paths:
            found = Found(path.name.partition(".")[0])
            read_rows = read(path, rows=rows, limit=limit)
            ask = pairs if "same" in read_rows[0] else classes
            await ask(found, read_rows, embedder, threshold)
            results.append(found)
    finally:
        await embedder.aclose()
    return results


def told(share: Share) -> str:
    """A share for people."""
    low, high = share.interval
    return f"{share.count:>4} of {share.of:<5} {share.rate:6.1%} ({low:.1%} to {high:.1%})" if share.of else "none"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--rows", choices=TAKEN, default="odd")
    parser.add_argument("--limit", type=int, help="rows of each file at most")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    asked = parser.parse_args()
    results = asyncio.run(
        measure(asked.files, threshold=asked.threshold, rows=TAKEN[asked.rows], limit=asked.limit, model=asked.model)
    )
    for found in results:
        print(f"{found.name}: {found.asked:,} asked, similarity {asked.threshold:g} or more")
        print(f"  wrong per served, without guards  {told(found.without)}")
        print(f"  wrong per served, with guards     {told(found.guarded)}")
        print(f"  right ones kept                   {told(found.kept)}")
        print(f"  first objections                  {', '.join(map(' '.join, found.most_frequent()))}")
    if asked.json:
        print(json.dumps({found.name: asdict(found) for found in results}))


if __name__ == "__main__":
    main()
