"""Where a company-sized cache saturates first: a small queueing simulation, with measured service times as its inputs.

    python benchmarks/scale_simulation.py [--requests-per-s 100000] [--workers 64] [--shards 96] [--gpus 8]
                                          [--insert-us 814] [--redis-8-0] [--replicas] [--json]

Requests arrive at random (Poisson). Each walks through stations: a proxy's worker, a Redis shard, an embedding GPU, a
thread that searches a vector set. A station is a number of servers, each with a queue of its own, one of which is
drawn for each visit, as hashing does; service times are exponential around their mean. The network is a fixed delay.
The upstream is left out: what is told is the time that the cache adds. Only ratios matter, so a run simulates so
many requests as --requests says and no more.

What is measured and what is assumed stands beside each number below; docs/scaling.md says where it comes from.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

US = 1e-6
NETWORK_S = 200 * US
"""There and back, inside one zone. Assumed."""
SHARES = {"exact, in memory": 0.30, "exact, from Redis": 0.20, "semantic hit": 0.25, "miss": 0.25}
"""Of requests. Assumed."""
BATCH_S = 0.004
"""How long a batch of questions is under way on a GPU, whatever its size. Assumed."""


@dataclass(frozen=True)
class Costs:
    """Mean seconds of one server's work."""

    hit: float = 105 * US
    """A worker, for a hit: docs/scaling.md says whence."""
    miss: float = 416 * US
    """A worker, for a miss in mode exact: likewise."""
    similar: float = 400 * US
    """What a worker spends beyond that where similarity is asked and the model is elsewhere. Assumed."""
    find: float = 29 * US
    """A shard, for an exact look-up: benchmarks/scale.py redis."""
    load: float = 7 * US
    """A shard, for the prompts of eight neighbours: likewise."""
    write: float = 107 * US
    """A shard, for an entry and its vector: likewise."""
    insert: float = 814 * US
    """A shard, for putting a vector into a graph of 48,500: benchmarks/scale_vectors.py. Redis searches on threads
    beside, and adds on its own."""
    hand_on: float = 309 * US
    """A shard, for handing a search to such a thread, answering, and telling attributes: likewise."""
    lease: float = 4 * US
    """A shard, for taking and releasing a lease on a miss. Assumed."""
    record: float = 3 * US
    """A shard, for telling one worker of one entry with its vector. Assumed."""
    note: float = 0.5 * US
    """The same where the vector is not wanted. Assumed."""
    follow: float = 82 * US
    """A worker, for an entry that another one stored, of which it keeps a replica: benchmarks/scale.py redis."""
    pass_over: float = 9 * US
    """The same where all have one index: likewise."""
    search: float = 1_403 * US
    """A thread, for a search of such a graph: likewise."""


@dataclass
class Station:
    """Servers with a queue each."""

    name: str
    servers: int
    free_at: list[float] = field(init=False)
    busy: float = 0.0
    waited: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free_at = [0.0] * self.servers

    def visit(self, now: float, mean: float, chance: random.Random) -> float:
        """When a visit that begins now is over."""
        server = chance.randrange(self.servers)
        start, service = max(now, self.free_at[server]), chance.expovariate(1 / mean)
        self.free_at[server] = start + service
        self.busy += service
        self.waited.append(start - now)
        return start + service


@dataclass(frozen=True)
class Size:
    """How many of each there are."""

    workers: int
    shards: int
    gpus: int
    search_threads: int
    embeddings_per_s: float
    followers_of_vectors: bool
    """Whether every worker keeps a replica of all vectors, and so is told of every change."""
    trips_of_a_search: int
    """How often a search goes over the network: once, and with Redis 8.0 once more for attributes."""


def path(kind: str, size: Size, costs: Costs) -> Iterator[tuple[str, float, float]]:
    """Station, mean service and fixed delay of each visit of a request."""
    if kind == "exact, in memory":
        yield "workers", costs.hit, 0.0
        return
    yield "workers", costs.hit / 2, 0.0
    yield "shards", costs.find, NETWORK_S
    if kind == "exact, from Redis":
        yield "workers", costs.hit / 2, 0.0
        return
    yield "GPUs", 1 / size.embeddings_per_s, NETWORK_S + BATCH_S
    yield "workers", costs.similar, 0.0
    if not size.followers_of_vectors:
        yield "shards", costs.hand_on, NETWORK_S * size.trips_of_a_search
        yield "search threads", costs.search, 0.0
    yield "shards", costs.load, NETWORK_S
    if kind == "miss":
        yield "shards", costs.lease, NETWORK_S
        yield "workers", costs.miss - costs.hit / 2, 0.0


def simulate(rate: float, size: Size, costs: Costs, requests: int, seed: int = 1) -> dict[str, Any]:
    """Utilisation of each station, and the time that the cache adds, in milliseconds."""
    chance = random.Random(seed)
    stations = {
        station.name: station
        for station in (
            Station("workers", size.workers),
            Station("shards", size.shards),
            Station("GPUs", size.gpus),
            Station("search threads", size.search_threads),
        )
    }
    # Changes of misses reach every worker that follows vectors, by way of the shards.
    # To follow it takes a part of each worker, which is slower for it; one that is taken whole falls behind for good.
    following = rate * SHARES["miss"] * (costs.follow if size.followers_of_vectors else costs.pass_over)
    if following >= 1:
        return {
            "requests_per_s": round(rate),
            "saturated": f"workers: {following:.1f} of each one to follow the others",
        }
    slower = 1 / (1 - following)
    writing = costs.write + size.workers * (costs.record if size.followers_of_vectors else costs.note)
    writing += 0.0 if size.followers_of_vectors else costs.insert
    events: list[tuple[float, int, float, str, Iterator[tuple[str, float, float]]]] = []
    order, now = count(), 0.0
    for _ in range(requests):
        now += chance.expovariate(rate)
        kind = chance.choices(list(SHARES), list(SHARES.values()))[0]
        heapq.heappush(events, (now, next(order), now, kind, path(kind, size, costs)))
    horizon, added = now, defaultdict[str, list[float]](list)
    while events:
        at, _, began, kind, walk = heapq.heappop(events)
        step = next(walk, None)
        if step is None:
            added[kind].append(at - began)
            if kind == "miss":
                stations["shards"].visit(at, writing, chance)
            continue
        name, mean, delay = step
        done = stations[name].visit(at, mean * slower if name == "workers" else mean, chance) + delay
        heapq.heappush(events, (done, next(order), began, kind, walk))
    stations["workers"].busy = following * horizon * size.workers + stations["workers"].busy / slower
    return {
        "requests_per_s": round(rate),
        "utilisation": {name: round(each.busy / horizon / each.servers, 3) for name, each in stations.items()},
        "added_ms": {kind: {"p50": _part(times, 0.5), "p99": _part(times, 0.99)} for kind, times in added.items()},
    }


def _part(times: list[float], share: float) -> float:
    return round(1000 * sorted(times)[int(len(times) * share)], 2)


def main() -> None:
    """Simulate growing loads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests-per-s", type=float, default=100_000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--shards", type=int, default=96)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--search-threads", type=int, default=128)
    parser.add_argument("--embeddings-per-s", type=float, default=8_056, help="of one GPU: docs/backend.md")
    parser.add_argument("--insert-us", type=float, default=Costs.insert / US, help="of a vector, by a shard")
    parser.add_argument("--redis-8-0", action="store_true", help="a search is two round trips")
    parser.add_argument("--replicas", action="store_true", help="each worker holds all vectors, as with index: faiss")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    size = Size(
        asked.workers,
        asked.shards,
        asked.gpus,
        asked.search_threads,
        asked.embeddings_per_s,
        asked.replicas,
        2 if asked.redis_8_0 else 1,
    )
    for share in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        told = simulate(share * asked.requests_per_s, size, Costs(insert=asked.insert_us * US), asked.requests)
        if asked.json:
            print(json.dumps(told))
            continue
        if "saturated" in told:
            print(f"{told['requests_per_s']:>7} requests/s   saturated: {told['saturated']}")
            continue
        use = "  ".join(f"{name} {used:.0%}" for name, used in told["utilisation"].items())
        times = "  ".join(
            f"{kind} {each['p50']:.2f}/{each['p99']:.2f}" for kind, each in sorted(told["added_ms"].items())
        )
        print(f"{told['requests_per_s']:>7} requests/s   {use}   added ms, p50/p99: {times}")


if __name__ == "__main__":
    main()
