"""What the vector sets of a real Redis cost: additions, searches and memory, at sizes of one scope.

    python benchmarks/scale_vectors.py [--server redis-server] [--members 1000 10000] [--numbers q8]
                                       [--embeddings E.npy] [--building 64 200] [--background] [--json]

Starts the redis-server that ``--server`` names (Redis 8; ``.ci/redis8`` prints the path of one), and fills one scope. A
line is told whenever that has come to a number of ``--members``:

- What an addition took of the server's one thread for commands, on the way from the last number to this one, in
  microseconds of its CPU (INFO cpu), which other work on the machine moves less than time by the clock. So also the
  whole script of ``index/redis.py``, as a proxy sends it, for the last ``ADDED`` of them.
- For ``QUERIES`` searches, as ``index/redis.py`` sends them: the CPU of that thread and of all threads of the server,
  the time by the clock until the caller has its neighbours, and how often the nearest was the nearest of all: found, or
  not further from the query than it by more than ``TIE``, since numbers of 8 bits do not tell such apart.
- Memory for each member.

``--building`` names the candidates that an addition keeps (EF) and tells all that for each; without it, it is what the
index takes. ``--background`` adds with CAS: candidates are looked for on another thread. The script is as it is.
Vectors are those of ``scale.py``, or rows of a file: real ones, in random order; the last ``QUERIES`` are asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from scale import clustered, near, spread
from support.redis_server import running_server

from cacheproxy.index.redis import BUILT, RedisIndex
from cacheproxy.model import IndexRow
from cacheproxy.store.redis_client import open_client
from cacheproxy.store.redis_url import read_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from redis.asyncio import Redis

    Matrix = NDArray[np.float32]

QUERIES = 400
ADDED = 200
WAITING = 50
"""Additions that are sent at once."""
TIE = 1e-3
SCOPE = b"scope"
EXPIRES = 4_000_000_000


@dataclass(frozen=True)
class How:
    """How vectors are added."""

    numbers: str
    building: int
    background: bool


async def cpu_us(client: Redis) -> NDArray[np.float64]:
    """Microseconds that the server has worked: its thread for commands, and all threads."""
    told = await client.info("cpu")
    return 1e6 * np.array(
        [
            told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"],
            told["used_cpu_user"] + told["used_cpu_sys"],
        ]
    )


def row(number: int, vector: Matrix) -> IndexRow:
    """An entry's vector, with an id as long as ids are."""
    entry_id = f"{number:023x}z0000"
    return IndexRow(entry_id, SCOPE, vector, entry_id, EXPIRES)


async def add(client: Redis, key: str, vectors: Matrix, first: int, last: int, how: How) -> None:
    """Add some to the set, many at a time."""
    options = [*(["CAS"] if how.background else []), how.numbers, "EF", how.building]
    for start in range(first, last, WAITING):
        async with client.pipeline(transaction=False) as pipe:
            for number in range(start, min(start + WAITING, last)):
                each = row(number, vectors[number])
                attributes = json.dumps({"expires": EXPIRES}, separators=(",", ":"))
                pipe.execute_command(
                    "VADD", key, "FP32", each.vector.tobytes(), each.entry_id, *options, "SETATTR", attributes
                )
            await pipe.execute()


async def measure(client: Redis, vectors: Matrix, queries: Matrix, sizes: Sequence[int], how: How) -> None:
    """Fill one scope, and tell what it costs at each size."""
    await client.flushall()
    index = RedisIndex(client, now=time.time, quantised=how.numbers == "Q8", dimension=vectors.shape[1])
    await index.prepare()
    key, there, before = index._keys(SCOPE)[0], 0, await memory(client)  # noqa: SLF001 - looks behind the port
    for size in sizes:
        started = await cpu_us(client)
        await add(client, key, vectors, there, size - ADDED, how)
        adding = (await cpu_us(client) - started) / (size - ADDED - there)
        started = await cpu_us(client)
        for number in range(size - ADDED, size):
            await index.add(row(number, vectors[number]))
        script, there = (await cpu_us(client) - started) / ADDED, size
        held = (await memory(client) - before) / size
        seconds, found = [], []
        started = await cpu_us(client)
        for query in queries:
            at = time.perf_counter()
            found.append((await index.nearest(SCOPE, query, 8))[0].entry_id)
            seconds.append(time.perf_counter() - at)
        searching = (await cpu_us(client) - started) / len(queries)
        similarities = queries @ vectors[:size].T
        chosen = similarities[np.arange(len(queries)), [int(entry_id[:23], 16) for entry_id in found]]
        told = {
            "members": size,
            "numbers": how.numbers.lower(),
            "building": how.building,
            "background": how.background,
            "add_us": whole(adding),
            "script_us": whole(script),
            "search_us": whole(searching),
            **spread(seconds),
            "recall_at_1": float((chosen >= similarities.max(axis=1) - TIE).mean()),
            "bytes_per_member": round(held),
        }
        say(told)


def whole(pair: NDArray[np.float64]) -> dict[str, int]:
    """The server's one thread, and all of them."""
    return {"thread": round(pair[0]), "all": round(pair[1])}


async def memory(client: Redis) -> int:
    """Bytes that the server has in use."""
    return int((await client.info("memory"))["used_memory"])


def say(told: dict[str, Any]) -> None:
    """One line, or JSON where that was asked for."""
    print(json.dumps(told) if "--json" in sys.argv else "  ".join(f"{k}={v}" for k, v in told.items()), flush=True)


def material(asked: argparse.Namespace) -> tuple[Matrix, Matrix]:
    """Vectors to add, and queries."""
    rng = np.random.default_rng(1)
    if asked.embeddings is not None:
        rows = rng.permutation(np.load(asked.embeddings).astype(np.float32))
        return rows[:-QUERIES], rows[-QUERIES:]
    vectors = clustered(max(asked.members), asked.dimension, rng)
    return vectors, near(vectors[rng.choice(min(asked.members), QUERIES)], rng)


async def run(asked: argparse.Namespace) -> None:
    """Measure what the command line names."""
    vectors, queries = material(asked)
    sizes = [size for size in asked.members if size <= len(vectors)]
    say({"load": os.getloadavg()[0], "vectors": "real" if asked.embeddings else "around random centres"})
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder), path=asked.server) as server:
        async with open_client(read_url(server.url)) as client:
            for building in asked.building:
                numbers = {"q8": "Q8", "float32": "NOQUANT"}[asked.numbers]
                await measure(client, vectors, queries, sizes, How(numbers, building, asked.background))
    say({"load": os.getloadavg()[0]})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="path of a redis-server 8; that on PATH if left out")
    parser.add_argument("--members", type=int, nargs="+", default=[1_000, 10_000], help="sizes, growing")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--numbers", choices=["q8", "float32"], default="q8")
    parser.add_argument("--embeddings", type=Path, metavar="FILE", help="real vectors: .npy, one a row")
    parser.add_argument("--building", type=int, nargs="+", default=[BUILT], help="EF of an addition")
    parser.add_argument("--background", action="store_true", help="add with CAS")
    parser.add_argument("--json", action="store_true")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
