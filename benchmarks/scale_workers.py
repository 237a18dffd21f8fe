"""Requests per second of one worker and of several, and what the line to the shared embedding model costs.

    python benchmarks/scale_workers.py [--workers 1 2] [--rounds 3] [--seconds 3] [--concurrency 64] [--json]
    python benchmarks/scale_workers.py --line

The load generator, the stub upstream and the workers share one machine, so more workers cannot give more than the
cores that are left: processor time per request is told for each of them, and beside the measured ratio the one that the
cores allow, which is (cores / time per request of all processes) over what one worker can do alone. ``spread`` is the
busiest worker's share of the workers' time. One worker is the usual single process, without a supervisor.

``--line`` measures the exchange with an embedding process that computes nothing: over its own line (embed/shared.py)
and over HTTP (embed/remote.py).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import uvloop
from aiohttp import web
from hot_path import Servers, _fill, _free_port, _until_open
from load import Arm, body, questions

from cacheproxy.embed.remote import open_remote
from cacheproxy.embed.shared import open_shared, sharing
from cacheproxy.jsontext import dump

if TYPE_CHECKING:
    from cacheproxy.ports import Embedder

_TEXTS = 3_000
_READY_S = 60.0


def _seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def _ready(port: int, workers: int, proxy: psutil.Process) -> list[psutil.Process]:
    """The processes that answer, once all of them do."""
    until = time.monotonic() + _READY_S
    while time.monotonic() < until:
        if workers == 1:
            await _until_open(port)
            return [proxy]
        children = [child for child in proxy.children() if "workers.worker" in " ".join(child.cmdline())]
        accepting = [child for child in children if any(c.laddr.port == port for c in child.net_connections("tcp"))]
        if len(accepting) == workers:
            return accepting
        await asyncio.sleep(0.2)
    raise TimeoutError(f"{workers} workers did not start in {_READY_S:.0f} s")


async def measure(workers: int, *, rounds: int, seconds: float, concurrency: int) -> dict[str, Any]:
    """Hits and misses of so many workers."""
    with Servers() as servers, tempfile.TemporaryDirectory() as data_dir:
        upstream, port = _free_port(), _free_port()
        servers.start_own("stub", upstream)
        await _until_open(upstream)
        started = servers.start(
            *(sys.executable, "-m", "cacheproxy", "serve", "--listen", f"127.0.0.1:{port}"),
            *("--admin-listen", "127.0.0.1:0", "--upstream-url", f"http://127.0.0.1:{upstream}/v1"),
            *("--data-dir", data_dir, "--mode", "exact", "--workers", str(workers)),
            stdout=os.open(os.devnull, os.O_WRONLY),
        )
        answering = await _ready(port, workers, psutil.Process(started.pid))
        texts = questions()
        stored = [body(text) for text in texts[:200]]
        for _ in range(4 * workers):  # so that each worker knows the caller and what is stored
            await _fill(port, stored)
        await asyncio.sleep(1.0)
        novel = (body(f"{text} {number}") for number in itertools.count() for text in texts)
        arms = {
            "exact hit": Arm("exact hit", port, itertools.cycle(stored), b"X-Cache-Status: Hit"),
            "miss": Arm("miss", port, novel, b"X-Cache-Status: Miss"),
        }
        told: dict[str, Any] = {}
        me = psutil.Process()
        for name, arm in arms.items():
            before, own = [_seconds([each]) for each in answering], _seconds([me])
            other = _seconds([child for child in me.children() if child.pid != started.pid])
            for _ in range(rounds):
                await arm.measure(concurrency, seconds)
            spent = [_seconds([each]) - was for each, was in zip(answering, before, strict=True)]
            served = arm.rate(concurrency) * rounds * seconds
            told[name] = {
                "requests_per_s": round(arm.rate(concurrency), 1),
                "p50_ms": round(arm.p50(concurrency), 2),
                "workers_cpu_ms": round(1000 * sum(spent) / served, 4),
                "generator_cpu_ms": round(1000 * (_seconds([me]) - own) / served, 4),
                "stub_cpu_ms": round(
                    1000 * (_seconds([c for c in me.children() if c.pid != started.pid]) - other) / served, 4
                ),
                "spread": round(max(spent) / sum(spent), 3),
            }
        return told


async def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All of them, one after the other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    figures: dict[str, Any] = {"cores": cores, "load": os.getloadavg()[0], "workers": {}}
    for workers in options.workers:
        figures["workers"][workers] = await measure(
            workers, rounds=options.rounds, seconds=options.seconds, concurrency=options.concurrency
        )
    base = figures["workers"].get(1)
    for workers, arms in figures["workers"].items():
        for name, arm in arms.items() if base else ():
            alone = base[name]
            whole_ms = arm["workers_cpu_ms"] + arm["generator_cpu_ms"] + arm["stub_cpu_ms"]
            arm["ratio"] = round(arm["requests_per_s"] / alone["requests_per_s"], 2)
            arm["allowed"] = round(min(workers, cores * alone["workers_cpu_ms"] / whole_ms), 2)
    return figures


# --- the line to the shared model


class _Constant:
    """A model that computes nothing."""

    model = "constant"
    dimension = 384

    def __init__(self) -> None:
        numbers = np.random.default_rng(0).random(self.dimension, dtype=np.float32)
        self.vector = numbers / np.linalg.norm(numbers)

    async def embed(self, _: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Always the same."""
        return self.vector


async def serve_line(path: str, port: int) -> None:
    """The model, over both."""
    model = _Constant()
    usage = {"prompt_tokens": 5}

    async def embeddings(request: web.Request) -> web.Response:
        await request.read()
        answer = {"data": [{"index": 0, "embedding": model.vector.tolist()}], "usage": usage}
        return web.Response(body=dump(answer), content_type="application/json")

    app = web.Application()
    app.add_routes([web.post("/v1/embeddings", embeddings)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    async with sharing(model, Path(path)):
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


async def measure_line() -> dict[str, Any]:
    """What a text costs, there and back."""
    with Servers() as servers, tempfile.TemporaryDirectory() as folder:
        port, path = _free_port(), Path(folder) / "socket"
        servers.start(sys.executable, __file__, "--serve-line", str(path), str(port))
        await _until_open(port)
        async with await open_shared(path) as line, await open_remote(f"http://127.0.0.1:{port}/v1", "m") as http:
            return {"line": await _exchange(line), "http": await _exchange(http)}


async def _exchange(embedder: Embedder) -> dict[str, float]:
    for _ in range(_TEXTS // 10):
        await embedder.embed("How do I reset my PIN?")
    took, spent = [], time.process_time()
    for _ in range(_TEXTS):
        began = time.perf_counter()
        await embedder.embed("How do I reset my PIN?")
        took.append(time.perf_counter() - began)
    spent = time.process_time() - spent
    return {"p50_ms": round(1000 * statistics.median(took), 3), "cpu_ms": round(1000 * spent / _TEXTS, 3)}


def _table(figures: dict[str, Any]) -> str:
    columns = ("requests_per_s", "p50_ms", "workers_cpu_ms", "generator_cpu_ms", "stub_cpu_ms", "spread")
    columns = (*columns, "ratio", "allowed")
    lines = [f"{figures['cores']} cores, load {figures['load']:.1f} at the start"]
    lines.append(f"{'workers':>7} {'arm':<10}" + "".join(f"{column:>17}" for column in columns))
    for workers, arms in figures["workers"].items():
        for name, arm in arms.items():
            lines.append(f"{workers:>7} {name:<10}" + "".join(f"{arm.get(column, ''):>17}" for column in columns))
    return "\n".join(lines)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--line", action="store_true")
    parser.add_argument("--serve-line", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_line:
        uvloop.run(serve_line(options.serve_line[0], int(options.serve_line[1])))
        return
    figures = uvloop.run(measure_line() if options.line else compare(options))
    print(json.dumps(figures) if options.json or options.line else _table(figures))


if __name__ == "__main__":
    main()
