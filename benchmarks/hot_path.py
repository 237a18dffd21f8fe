"""How close the proxy comes to the least that its work can cost, all in one run on one machine.

    python benchmarks/hot_path.py [--rounds 5] [--seconds 2] [--json]

Each arm is one process with one event loop (uvloop), answering 1 KiB chat requests over keep-alive connections:

    bare handler       aiohttp: parse the JSON, hash it with SHA-256, answer from a dict
    bare pass-through  aiohttp: parse the JSON, forward it to the stub upstream with aiohttp's client
    exact hit          the proxy, answering a repeated request from memory
    miss               the proxy in mode exact, a new request each time
    semantic hit       the proxy, a question that differs in spacing alone from a stored one
    semantic miss      the proxy, a question that is like no stored one
    raw encode         SentenceTransformer.encode alone on the same questions, in batches of 32, and one at a time

and what a decision adds to a question's embedding is measured in this process (``deciding.py``).

Rounds are interleaved and medians are reported. Ratios are of requests per second at concurrency 32, where both cores
of a small machine are shared with the load generator (a bare asyncio protocol) and, for misses, with the stub.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deciding
import uvloop
from load import Arm, Connection, body, questions, request

if TYPE_CHECKING:
    from collections.abc import Iterator

YARDSTICKS = str(Path(__file__).with_name("yardsticks.py"))


def respaced(question: str, number: int) -> str:
    """The question with the bits of ``number`` as double spaces: another text, the same tokens."""
    words = question.split()
    bits = itertools.chain((number >> bit & 1 for bit in range(len(words) - 1)), [0])
    spaced = "".join(word + (" " * (1 + bit)) for word, bit in zip(words, bits, strict=True))
    return spaced + " " * (number >> (len(words) - 1))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Servers(contextlib.ExitStack):
    """The processes of one run, ended by their own ids."""

    def start(self, *command: str, stdin: int | None = None, stdout: int | None = None) -> subprocess.Popen[str]:
        """Start one."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CACHEPROXY_")}
        # 32 questions at a time take longer than the usual 250 ms on two cores that the load generator shares.
        environ["CACHEPROXY_DEADLINES__EMBEDDER_MS"] = "2000"
        process = subprocess.Popen(command, env=environ, stdin=stdin, stdout=stdout, text=True)
        self.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()

    def start_own(self, kind: str, *ports: int) -> None:
        """Start one of the yardsticks."""
        self.start(sys.executable, YARDSTICKS, kind, *map(str, ports))

    def start_proxy(self, port: int, upstream: int, data_dir: str, mode: str) -> None:
        """Start the proxy."""
        command = [sys.executable, "-m", "cacheproxy", "serve", "--listen", f"127.0.0.1:{port}"]
        command += ["--admin-listen", "127.0.0.1:0", "--upstream-url", f"http://127.0.0.1:{upstream}/v1"]
        # The plain policy, which answers alike whatever came before: a certified one changes as verdicts come.
        command += ["--data-dir", data_dir, "--mode", mode, "--policy", "threshold"]
        self.start(*command, stdout=subprocess.DEVNULL)


async def _until_open(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


async def run(rounds: int, seconds: float) -> dict[str, Any]:
    """Start everything, measure, and give the figures."""
    texts = questions()
    words = sorted({word for text in texts for word in text.lower().split()})
    ports = {name: _free_port() for name in ("stub", "bare", "pass", "exact", "semantic")}
    with Servers() as servers, tempfile.TemporaryDirectory() as folder:
        servers.start_own("stub", ports["stub"])
        servers.start_own("bare", ports["bare"])
        servers.start_own("pass", ports["pass"], ports["stub"])
        servers.start_proxy(ports["exact"], ports["stub"], str(Path(folder) / "exact"), "exact")
        servers.start_proxy(ports["semantic"], ports["stub"], str(Path(folder) / "semantic"), "semantic")
        encoder = servers.start(sys.executable, YARDSTICKS, "encode", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert encoder.stdin is not None
        assert encoder.stdout is not None
        await asyncio.gather(*map(_until_open, ports.values()))
        assert encoder.stdout.readline() == "ready\n"
        same = body(texts[0])
        numbers = itertools.count(1)
        arms = {
            "bare handler": Arm("bare handler", ports["bare"], itertools.repeat(same)),
            "bare pass-through": Arm("bare pass-through", ports["pass"], (body(f"new {n}") for n in numbers)),
            "exact hit": Arm("exact hit", ports["exact"], itertools.repeat(same), b"Layer: exact"),
            "miss": Arm("miss", ports["exact"], (body(f"new {n}") for n in numbers), b"Status: Miss"),
            "semantic hit": Arm(
                "semantic hit",
                ports["semantic"],
                (body(respaced(texts[n % len(texts)], n // len(texts) + 1)) for n in numbers),
                b"Layer: semantic",
            ),
            "semantic miss": Arm(
                "semantic miss", ports["semantic"], (body(text) for text in _novel(words)), b"Status: Miss"
            ),
            "upstream alone": Arm("upstream alone", ports["stub"], itertools.repeat(same)),
        }
        await _fill(ports["exact"], [same])
        await _fill(ports["semantic"], [body(text) for text in texts])
        encoded: dict[str, list[tuple[float, float]]] = {"batch": [], "single": []}
        for number in range(rounds):
            for concurrency in (1, 32):
                for arm in arms.values():
                    await arm.measure(concurrency, seconds)
            for kind, measured in encoded.items():
                encoder.stdin.write(f"{kind} {seconds}\n")
                encoder.stdin.flush()
                rate, p50 = encoder.stdout.readline().split()
                measured.append((float(rate), float(p50)))
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return _figures(arms, encoded)


def _novel(words: list[str]) -> Iterator[str]:
    """Word salads from a vocabulary: as long as a question, and like none."""
    draw = random.Random(7)
    while True:
        yield " ".join(draw.sample(words, 10))


async def _fill(port: int, bodies: list[bytes]) -> None:
    """Store these, twice through, so that the credential is proven and every vector is in its place."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    for _ in range(2):
        for content in bodies:
            await connection.ask(request(port, content))
        await asyncio.sleep(1)
    connection.close()


def _figures(arms: dict[str, Arm], encoded: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    def encode(kind: str, column: int) -> float:
        return statistics.median(row[column] for row in encoded[kind])

    rates = {name: {str(c): round(arm.rate(c), 1) for c in (1, 32)} for name, arm in arms.items()}
    p50s = {name: {str(c): round(arm.p50(c), 3) for c in (1, 32)} for name, arm in arms.items()}
    return {
        "uncounted_answers": sum(len(arm.strays) for arm in arms.values()),
        "requests_per_s": {
            **rates,
            "raw encode": {"1": round(encode("single", 0), 1), "32": round(encode("batch", 0), 1)},
        },
        "p50_ms": {**p50s, "raw encode": {"1": round(encode("single", 1), 3), "32": round(encode("batch", 1), 3)}},
        "exact_hit_over_bare_handler": round(arms["exact hit"].rate(32) / arms["bare handler"].rate(32), 3),
        "miss_over_bare_pass_through": round(arms["miss"].rate(32) / arms["bare pass-through"].rate(32), 3),
        "semantic_hit_over_raw_encode": round(arms["semantic hit"].rate(32) / encode("batch", 0), 3),
        "exact_hit_ms": round(arms["exact hit"].p50(1), 3),
        "miss_added_ms": round(arms["miss"].p50(1) - arms["upstream alone"].p50(1), 3),
        "semantic_hit_added_ms": round(arms["semantic hit"].p50(1) - encode("single", 1), 3),
    }


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{'':20}{'requests/s':>22}{'p50 ms':>22}", f"{'concurrency':20}{'1':>11}{'32':>11}{'1':>11}{'32':>11}"]
    for name, rates in figures["requests_per_s"].items():
        p50 = figures["p50_ms"][name]
        lines.append(f"{name:20}{rates['1']:>11}{rates['32']:>11}{p50['1']:>11}{p50['32']:>11}")
    lines += [f"{name:32}{value}" for name, value in figures.items() if not isinstance(value, dict)]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each arm in each round")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    asked = parser.parse_args()
    figures = uvloop.run(run(asked.rounds, asked.seconds)) | asyncio.run(deciding.measure())
    print(_table(figures))
    if asked.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
