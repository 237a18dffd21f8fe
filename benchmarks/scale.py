"""What entries cost as they grow in number: memory, search, start, and how far another process lags behind.

    python benchmarks/scale.py index [--entries 10000] [--dimension 384] [--scopes 1] [--graph] [--json]

Embeddings of a million real questions are not to be had off line. The vectors are random unit vectors around random
centres, ten to a centre: two of one centre have a cosine of about 0.88, as two wordings of one question do, and two of
others about zero. A query is a stored vector moved a little, to 0.94. Real questions lie closer together, which makes
an approximate search harder than it is here. Recall@1 is how often the nearest is that of a search of all vectors.

``index`` measures ``index/faiss.py`` as a proxy uses it: one ``add`` for each entry, then searches one at a time, on
one thread. With ``--graph``, on the same vectors: what numbers of 8 bits cost (the arithmetic of Redis vector sets, in
numpy) and what a graph of Redis's default shape finds (16 links, 200 candidates when building, 256 when searching;
FAISS's own HNSW, since no Redis 8 is here).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import time
from typing import TYPE_CHECKING

import faiss
import numpy as np
import psutil

from cacheproxy.index.faiss import FaissIndex, search_on_one_thread
from cacheproxy.model import IndexRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

QUERIES = 200
PER_CENTRE = 10
NOISE = 0.36
"""How far a vector lies from its centre: cosine 0.94 to it, and about 0.88 between two of one centre."""
LINKS, BUILDING, SEARCHING = 16, 200, 256


def unit(rows: Matrix) -> Matrix:
    """The rows in unit length."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def near(rows: Matrix, rng: np.random.Generator) -> Matrix:
    """A vector near each row."""
    noise = rng.standard_normal(rows.shape, np.float32)
    return unit(rows + NOISE * unit(noise))


def clustered(count: int, dimension: int, rng: np.random.Generator) -> Matrix:
    """``count`` vectors around a tenth as many centres, made block by block to spare memory."""
    centres = unit(rng.standard_normal((max(1, count // PER_CENTRE), dimension), np.float32))
    vectors = np.empty((count, dimension), np.float32)
    for start in range(0, count, 65_536):
        block = np.arange(start, min(start + 65_536, count))
        vectors[block] = near(centres[block % len(centres)], rng)
    return vectors


def truth(vectors: Matrix, queries: Matrix) -> NDArray[np.intp]:
    """The nearest row to each query, by looking at all of them."""
    best = np.full(len(queries), -2.0, np.float32)
    which = np.zeros(len(queries), np.intp)
    for start in range(0, len(vectors), 65_536):
        scores = queries @ vectors[start : start + 65_536].T
        top = scores.argmax(axis=1)
        score = scores[np.arange(len(queries)), top]
        better = score > best
        best[better], which[better] = score[better], top[better] + start
    return which


def memory() -> int:
    """Bytes that this process holds."""
    gc.collect()
    return psutil.Process().memory_info().rss


def spread(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(1000 * statistics.median(ordered), 3),
        "p99_ms": round(1000 * ordered[int(len(ordered) * 0.99)], 3),
    }


async def measure_index(count: int, dimension: int, scopes: int) -> tuple[dict[str, object], Matrix, Matrix]:
    """Fill the index of a proxy, and search it."""
    search_on_one_thread()
    rng = np.random.default_rng(1)
    vectors = clustered(count, dimension, rng)
    asked = rng.choice(count, QUERIES, replace=False)
    queries = near(vectors[asked], rng)
    keys = [f"scope {number}".encode() for number in range(scopes)]
    index, before, started = FaissIndex(dimension), memory(), time.perf_counter()
    for number, vector in enumerate(vectors):
        await index.add(IndexRow(f"{number:023x}", keys[number % scopes], vector, f"{number:023x}"))
    took, held = time.perf_counter() - started, memory() - before
    seconds, right = [], 0
    expected = np.zeros(QUERIES, np.intp)
    for scope in set((asked % scopes).tolist()):
        here = asked % scopes == scope
        expected[here] = truth(vectors[scope::scopes], queries[here]) * scopes + scope
    for number, query, nearest in zip(asked.tolist(), queries, expected, strict=True):
        started = time.perf_counter()
        found = await index.nearest(keys[number % scopes], query, 8)
        seconds.append(time.perf_counter() - started)
        right += int(found[0].entry_id, 16) == nearest
    told = {
        "index": "faiss.py",
        "entries": count,
        "scopes": scopes,
        "bytes_per_entry": round(held / count),
        "add_us": round(1e6 * took / count, 1),
        **spread(seconds),
        "recall_at_1": right / QUERIES,
    }
    return told, vectors, queries


def measure_graph(vectors: Matrix, queries: Matrix) -> list[dict[str, object]]:
    """What 8-bit numbers and a graph would find of the same nearest vectors."""
    expected = truth(vectors, queries)
    rounded, asked = eight_bit(vectors), eight_bit(queries)
    scores = (asked * rounded[expected]).sum(axis=1) - (queries * vectors[expected]).sum(axis=1)
    told: list[dict[str, object]] = [
        {
            "index": "8-bit numbers, all looked at",
            "entries": len(vectors),
            "recall_at_1": float((truth(rounded, asked) == expected).mean()),
            "similarity_off_by": {"mean": float(np.abs(scores).mean()), "most": float(np.abs(scores).max())},
        }
    ]
    for name, rows, ask in (("graph, float32", vectors, queries), ("graph, 8-bit numbers", rounded, asked)):
        graph = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = BUILDING, SEARCHING
        started = time.perf_counter()
        graph.add(rows)
        took = time.perf_counter() - started
        seconds, right = [], 0
        for query, nearest in zip(ask, expected, strict=True):
            started = time.perf_counter()
            _, found = graph.search(query[None], 8)
            seconds.append(time.perf_counter() - started)
            right += found[0][0] == nearest
        told.append(
            {
                "index": name,
                "entries": len(rows),
                "add_us": round(1e6 * took / len(rows), 1),
                **spread(seconds),
                "recall_at_1": right / QUERIES,
            }
        )
    return told


def eight_bit(vectors: Matrix) -> Matrix:
    """Each row's numbers as multiples of a 127th of its largest, as Redis's Q8 keeps them."""
    step = np.abs(vectors).max(axis=1, keepdims=True) / 127
    return unit(np.round(vectors / step) * step)


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    index = commands.add_parser("index", help="memory, search and recall of a replica")
    index.add_argument("--entries", type=int, default=10_000)
    index.add_argument("--dimension", type=int, default=384)
    index.add_argument("--scopes", type=int, default=1)
    index.add_argument("--graph", action="store_true", help="also 8-bit numbers and a graph")
    index.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    told, vectors, queries = asyncio.run(measure_index(asked.entries, asked.dimension, asked.scopes))
    for line in [told, *(measure_graph(vectors, queries) if asked.graph else [])]:
        print(json.dumps(line) if asked.json else "  ".join(f"{name}={value}" for name, value in line.items()))


if __name__ == "__main__":
    main()
