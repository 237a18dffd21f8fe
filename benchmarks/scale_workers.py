"""Requests per second of one worker and of several, and what the line to the shared embedding model costs.

    python benchmarks/scale_workers.py [--workers 1 2] [--rounds 3] [--seconds 4] [--concurrency 64]
                                       [--mode exact|semantic] [--generator wrk|python] [--threads 1] [--json]
    python benchmarks/scale_workers.py --line

The load generator, the upstream and the workers share one machine, so more workers cannot give more than the cores that
are left. wrk asks and nginx answers where both are installed (Debian: ``wrk``, ``nginx-light``), since they take few;
``--generator python`` asks and answers with what the other benchmarks use. wrk has one thread, since a second one
would take turns with the workers on few cores; ``--threads`` gives it more. Each round starts each number of workers
anew with an empty store, one after the other, and asks first what is stored, then, with ``--mode semantic``, the same
in another spacing, and then what is new; ratios are the medians of the rounds'. How many were hits and misses is told
by the proxy itself. One worker is the usual single process, without a supervisor; it has the embedding model in
itself, while several share a process for it that counts as everything else.

Told as cores, which is processor time over time: what the workers with their supervisor, the generator, the upstream
and everything else on the machine took. ``cpu_ms`` is the workers' for a request, ``busiest`` the busiest worker's
share of it. ``allowed`` is the ratio that the machine has room for: the cores that generator and upstream leave, over
those that one worker took, if a request costs what it costs one worker. It means nothing while others take cores.

``--line`` measures the exchange with an embedding process that computes nothing: over its own line (embed/shared.py)
and over HTTP (embed/remote.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil
import uvloop
from aiohttp import ClientSession, web
from generators import Asked, Generator, Light, Own, Pressed, missing, stored
from hot_path import Servers, _fill, _free_port, _until_open
from load import MOST_STRAYS
from prometheus_client.parser import text_string_to_metric_families

from cacheproxy.embed.remote import open_remote
from cacheproxy.embed.shared import open_shared, sharing
from cacheproxy.jsontext import dump

if TYPE_CHECKING:
    from cacheproxy.ports import Embedder

_ARMS = {
    "Hit": (Asked.STORED, ("Hit", "exact")),
    "Similar": (Asked.SIMILAR, ("Hit", "semantic")),
    "Miss": (Asked.NEW, ("Miss", "none")),
}
"""What is asked in each, and how the proxy counts what it then does: status and layer."""
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


class Pressing(NamedTuple):
    """One arm of one round."""

    pressed: Pressed
    workers_s: float
    """Processor time of all that is the proxy; likewise below."""
    upstream_s: float
    others_s: float
    busiest: float

    @property
    def rate(self) -> float:
        """Requests/s."""
        return self.pressed.requests / self.pressed.seconds


async def measure(generator: Generator, workers: int, options: argparse.Namespace) -> dict[str, Pressing]:
    """Hits and misses of so many workers: one round."""
    with Servers() as servers, tempfile.TemporaryDirectory() as data_dir:
        upstream, port, admin = _free_port(), _free_port(), _free_port()
        answering = psutil.Process(generator.start_upstream(servers, upstream).pid)
        await _until_open(upstream)
        started = servers.start(
            # On cores that others take too a look-up that misses its deadline would make a miss of a hit.
            *("env", "CACHEPROXY_DEADLINES__STORE_MS=2000"),
            *(sys.executable, "-m", "cacheproxy", "serve", "--listen", f"127.0.0.1:{port}"),
            *("--admin-listen", f"127.0.0.1:{admin}", "--upstream-url", f"http://127.0.0.1:{upstream}/v1"),
            *("--data-dir", data_dir, "--mode", options.mode, "--workers", str(workers)),
            # The plain policy, which answers alike whatever came before: a certified one changes as verdicts come.
            *("--policy", "threshold"),
            stdout=os.open(os.devnull, os.O_WRONLY),
        )
        proxy = psutil.Process(started.pid)
        serving = await _ready(port, workers, proxy)
        await _fill(port, stored())
        # Each has it in memory.
        await generator.press(port, Asked.STORED, concurrency=options.concurrency, seconds=1)
        told: dict[str, Pressing] = {}
        for arm in _arms(options):
            asked, counted = _ARMS[arm]
            known = await _answered(admin, *counted)
            began = [_seconds([each]) for each in (*serving, proxy, answering)]
            busy = _busy_s()
            pressed = await generator.press(port, asked, concurrency=options.concurrency, seconds=options.seconds)
            busy = _busy_s() - busy
            ended = [_seconds([each]) for each in (*serving, proxy, answering)]
            *each, supervisor, answered = [after - before for after, before in zip(ended, began, strict=True)]
            whole = sum(each) + (supervisor if workers > 1 else 0.0)
            if (right := await _answered(admin, *counted) - known) < (1 - MOST_STRAYS) * pressed.requests:
                raise AssertionError(f"only {right:.0f} of {pressed.requests} answers were {' '.join(counted)}")
            others = max(0.0, busy - whole - answered - pressed.cpu_s)
            told[arm] = Pressing(pressed, whole, answered, others, max(each) / sum(each))
        return told


def _arms(options: argparse.Namespace) -> list[str]:
    return [arm for arm in _ARMS if arm != "Similar" or options.mode == "semantic"]


async def _answered(admin: int, status: str, layer: str) -> float:
    """How many requests ended like this, says the proxy."""
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{admin}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    samples = (sample for family in families for sample in family.samples)
    ended = (sample for sample in samples if sample.name == "cacheproxy_requests_total")
    return sum(s.value for s in ended if (s.labels["status"], s.labels["layer"]) == (status, layer))


def _busy_s() -> float:
    """The processor time that all cores have spent."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


async def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All of them, in turns."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    rounds: list[dict[int, dict[str, Pressing]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            generator: Generator = Light(Path(folder), options.threads) if options.generator == "wrk" else Own()
            rounds.append({workers: await measure(generator, workers, options) for workers in options.workers})
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
    rows = [
        {"workers": workers, "arm": arm, **_row([each[workers][arm] for each in rounds])}
        for arm in _arms(options)
        for workers in options.workers
    ]
    alone = {row["arm"]: row for row in rows if row["workers"] == 1}
    for row in rows if alone else ():
        arm, workers, base = row["arm"], row["workers"], alone[row["arm"]]
        row["ratio"] = round(statistics.median(each[workers][arm].rate / each[1][arm].rate for each in rounds), 2)
        room = cores / (1 + (row["generator_ms"] + row["upstream_ms"]) / base["cpu_ms"])
        row["allowed"] = round(min(workers, room / base["cores"]), 2)
    return {"generator": options.generator, "cores": cores, "load": load, "rows": rows}


def _row(rounds: list[Pressing]) -> dict[str, Any]:
    """Medians of what a round tells alone, and means of what adds up."""
    seconds = sum(each.pressed.seconds for each in rounds)
    requests = sum(each.pressed.requests for each in rounds)
    workers = sum(each.workers_s for each in rounds)
    generator = sum(each.pressed.cpu_s for each in rounds)
    upstream = sum(each.upstream_s for each in rounds)
    return {
        "requests_per_s": round(statistics.median(each.rate for each in rounds)),
        "p50_ms": round(statistics.median(each.pressed.p50_ms for each in rounds), 2),
        "cpu_ms": round(1000 * workers / requests, 4),
        "generator_ms": round(1000 * generator / requests, 4),
        "upstream_ms": round(1000 * upstream / requests, 4),
        "cores": round(workers / seconds, 2),
        "generator_cores": round(generator / seconds, 2),
        "upstream_cores": round(upstream / seconds, 2),
        "others_cores": round(sum(each.others_s for each in rounds) / seconds, 2),
        "busiest": round(statistics.median(each.busiest for each in rounds), 2),
    }


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
    rows = figures["rows"]
    lines = [f"{figures['generator']}, {figures['cores']} cores, load {figures['load']:.1f} at the start"]
    lines.append("  ".join(rows[-1]))
    lines += ["  ".join(f"{row[column]:>{len(column)}}" for column in rows[-1]) for row in rows]
    return "\n".join(lines)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each arm in each round")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--mode", choices=("exact", "semantic"), default="exact")
    parser.add_argument("--threads", type=int, default=1, help="of wrk")
    parser.add_argument("--generator", choices=("wrk", "python"), help="wrk, with nginx, where both are installed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--line", action="store_true")
    parser.add_argument("--serve-line", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_line:
        uvloop.run(serve_line(options.serve_line[0], int(options.serve_line[1])))
        return
    if options.line:
        print(json.dumps(uvloop.run(measure_line())))
        return
    if absent := " and ".join(missing()):
        if options.generator == "wrk":
            parser.error(f"--generator wrk needs {absent}")
        if options.generator is None:
            print(f"without {absent} Python asks and answers, and takes much of the cores", file=sys.stderr)
    options.generator = options.generator or ("python" if absent else "wrk")
    figures = uvloop.run(compare(options))
    print(json.dumps(figures) if options.json else _table(figures))


if __name__ == "__main__":
    main()
