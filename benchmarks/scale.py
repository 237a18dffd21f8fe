"""What entries cost as they grow in number: memory, search, start, and how far another process lags behind.

    python benchmarks/scale.py index [--entries 10000] [--dimension 384] [--scopes 1] [--graph] [--json]
    python benchmarks/scale.py redis [--entries 10000] [--dimension 384] [--json]

Embeddings of a million real questions are not to be had off line. The vectors are random unit vectors around random
centres, ten to a centre: two of one centre have a cosine of about 0.88, as two wordings of one question do, and two of
others about zero. A query is a stored vector moved a little, to 0.94. Recall@1 is how often the nearest is that of a
search of all vectors.

``index`` measures ``index/faiss.py`` as a proxy uses it: one ``add`` for each entry, then searches one at a time, on
one thread. With ``--graph``, on the same vectors: what numbers of 8 bits cost (the arithmetic of Redis vector sets, in
numpy) and what a graph of Redis's default shape finds (16 links, 200 candidates when building, 256 when searching;
FAISS's own HNSW; ``scale_vectors.py`` measures Redis's).

``redis`` starts a redis-server of its own and measures the store in it: memory for an entry of about 1 KiB with its
vector, round trips of each operation, how long a replica takes to be filled at start, and how far a second process
lags behind: from before a ``put`` here until that process, which looks every tenth of a second, has the vector.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import random
import socket
import statistics
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import faiss
import numpy as np
import psutil

from cacheproxy.flow.upkeep import FOLLOW_S
from cacheproxy.index.faiss import FaissIndex, search_on_one_thread
from cacheproxy.model import Entry, IndexRow, Selection, Usage
from cacheproxy.store.entries import StoreLimits
from cacheproxy.store.redis_opening import open_redis
from cacheproxy.store.redis_url import read_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

    from cacheproxy.store.redis import RedisStore
    from cacheproxy.store.redis_link import Link

    Matrix = NDArray[np.float32]

QUERIES = 200
ROUNDS = 200
COUNTED = ("cmdstat_evalsha", "cmdstat_hmget", "cmdstat_xrange")
LAGS = 200
FOLLOWED = 5_120
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


def entry(number: int) -> Entry:
    """An answer of about 1 KiB."""
    name = f"{number:023x}"
    key = hashlib.sha256(name.encode()).digest()
    answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Certainly. " * 80}}], "id": name})
    return Entry(
        f"{name}z{key[:2].hex()}", key, b"s" * 32, "t" * 32, "openai-chat", "openai", "gpt-4o-mini", f"What is {name}?",
        answer.encode(), Usage(200, 150), 0.01, 900.0, time.time(), time.time() + 86_400, semantic=True,
    )  # fmt: skip


@asynccontextmanager
async def kept(port: int, dimension: int) -> AsyncIterator[RedisStore]:
    """The store of one process."""
    url = read_url(f"redis://127.0.0.1:{port}")
    limits = StoreLimits(10_000_000, 1 << 40)
    async with open_redis(url, clock=time.time, limits=limits, log_entries=10_000_000) as opened:
        await opened.store.claim_embedding("benchmark", dimension)
        yield opened.store


async def follow(port: int, dimension: int, count: int) -> None:
    """The second process: says when it has each vector."""
    async with kept(port, dimension) as store:
        index, seen = FaissIndex(dimension), set[str]()
        print("ready", flush=True)
        while len(seen) < count:
            for change in await store.changes():
                if change.row is not None and change.entry_id not in seen:  # an entry and its vector may be told apart
                    await index.add(change.row)
                    print(change.entry_id, time.time(), flush=True)
                    seen.add(change.entry_id)
            await asyncio.sleep(FOLLOW_S)


async def busy_us(link: Link) -> float:
    """Microseconds that the server has spent on commands, all together."""
    stats = await link.ask("INFO", "commandstats")
    # What a script calls is counted by itself and in the script.
    return float(sum(each["usec"] for name, each in stats.items() if name in COUNTED))


async def measure_lag(store: RedisStore, vectors: Matrix, port: int) -> dict[str, float]:
    """How long until another process has what this one stored."""
    command = [sys.executable, __file__, "follow", "--port", str(port), "--dimension", str(vectors.shape[1])]
    other = await asyncio.create_subprocess_exec(*command, "--entries", str(LAGS), stdout=subprocess.PIPE)
    assert other.stdout is not None
    await other.stdout.readline()
    started: dict[str, float] = {}
    for number in range(LAGS):
        new = entry(1 << 40 | number)
        started[new.id] = time.time()
        await store.put(new)
        await store.set_vector(new.id, vectors[number], new.id)
        await asyncio.sleep(random.Random(number).uniform(0.02, 0.08))
    lines = (await asyncio.wait_for(other.communicate(), 60))[0].decode().split("\n")
    arrived = dict(line.split() for line in lines if line)
    return spread([float(arrived[name]) - at for name, at in started.items()])


async def measure_following(port: int, vectors: Matrix) -> dict[str, float]:
    """What a process spends on an entry that another stored, if it keeps a replica, and if all have one index.

    And what on one that went.
    """
    dimension, spent = vectors.shape[1], dict[str, float]()
    async with kept(port, dimension) as writer, kept(port, dimension) as replica, kept(port, dimension) as shared:
        await shared.index_is_shared()
        for start in range(0, FOLLOWED, 256):
            some = [entry(1 << 41 | number) for number in range(start, start + 256)]
            await writer.put(*some)
            await asyncio.gather(*(writer.set_vector(each.id, vectors[0], each.id) for each in some))
        indexes = {"replica": (replica, FaissIndex(dimension)), "one index": (shared, FaissIndex(dimension))}
        for what in ("stored", "went"):
            for name, (store, index) in indexes.items():
                started = time.process_time()
                for _ in range(2 * FOLLOWED // 1000 + 2):
                    for change in await store.changes():
                        if change.row is None:
                            await index.remove(change.entry_id, change.scope)
                        else:
                            await index.add(change.row)
                spent[f"{name}, {what}"] = round(1e6 * (time.process_time() - started) / FOLLOWED, 1)
            if what == "stored":
                ids = [entry(1 << 41 | number).id for number in range(FOLLOWED)]
                await writer.remove(Selection(ids=ids))
    return spent


async def measure_redis(count: int, dimension: int) -> list[dict[str, object]]:
    """Fill a Redis, and count what it costs."""
    search_on_one_thread()
    vectors = clustered(max(count, LAGS), dimension, np.random.default_rng(1))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(  # noqa: ASYNC220 - returns at once
        ["redis-server", "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL
    )
    told: list[dict[str, object]] = []
    try:
        await asyncio.sleep(1)
        async with kept(port, dimension) as store:
            link = store._link  # noqa: SLF001 - who counts round trips looks behind the port
            before = int((await link.ask("INFO", "memory"))["used_memory"])
            started = time.perf_counter()
            for start in range(0, count, 256):
                some = [entry(number) for number in range(start, min(start + 256, count))]
                await store.put(*some)
                await asyncio.gather(
                    *(store.set_vector(each.id, vectors[start + at], each.id) for at, each in enumerate(some))
                )
            took = time.perf_counter() - started
            held = int((await link.ask("INFO", "memory"))["used_memory"]) - before
            told.append(
                {
                    "part": "store",
                    "entries": count,
                    "bytes_per_entry": held // count,
                    "us_per_entry": 1e6 * took // count,
                }
            )
            trips: dict[str, int] = {}
            server_us: dict[str, float] = {}
            for name, work in {
                "find": lambda: store.find(entry(0).key),
                "load 8": lambda: store.load([entry(number).id for number in range(8)]),
                "put": lambda: store.put(entry(0)),
                "set_vector": lambda: store.set_vector(entry(0).id, vectors[0], entry(0).id),
                "changes, none": store.changes,
                "touch 100": lambda: store.touch({entry(number).id: 1 for number in range(100)}, time.time()),
            }.items():
                await work()  # the server knows its scripts from now on
                before, at_work = link.round_trips, await busy_us(link)
                for _ in range(ROUNDS):
                    await work()
                trips[name] = (link.round_trips - before - 1) // ROUNDS
                server_us[name] = round((await busy_us(link) - at_work) / ROUNDS, 1)
            told += [{"part": "round trips", **trips}, {"part": "server's microseconds", **server_us}]
            started, index = time.perf_counter(), FaissIndex(dimension)
            async for rows in store.vectors():
                for row in rows:
                    await index.add(row)
            told.append({"part": "start", "entries": len(index), "seconds": round(time.perf_counter() - started, 2)})
            told.append({"part": "lag", **await measure_lag(store, vectors, port)})
        told.append({"part": "following, microseconds of CPU", **await measure_following(port, vectors)})
    finally:
        server.terminate()
        server.wait(30)
    return told


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
    redis = commands.add_parser("redis", help="the store: memory, round trips, start, lag")
    redis.add_argument("--entries", type=int, default=10_000)
    redis.add_argument("--dimension", type=int, default=384)
    redis.add_argument("--json", action="store_true")
    second = commands.add_parser("follow")
    for name in ("--port", "--dimension", "--entries"):
        second.add_argument(name, type=int)
    asked = parser.parse_args()
    match asked.part:
        case "index":
            told, vectors, queries = asyncio.run(measure_index(asked.entries, asked.dimension, asked.scopes))
            lines = [told, *(measure_graph(vectors, queries) if asked.graph else [])]
        case "redis":
            lines = asyncio.run(measure_redis(asked.entries, asked.dimension))
        case _:
            asyncio.run(follow(asked.port, asked.dimension, asked.entries))
            lines = []
    for line in lines:
        print(json.dumps(line) if asked.json else "  ".join(f"{name}={value}" for name, value in line.items()))


if __name__ == "__main__":
    main()
