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

Rounds are interleaved and medians are reported. Ratios are of requests per second at concurrency 32, where both cores
of a small machine are shared with the load generator (a bare asyncio protocol) and, for misses, with the stub.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import orjson
import uvloop
from aiohttp import web

from cacheproxy.core.volatile import is_volatile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_STRAYS = 0.05
MODEL = "gpt-4o-mini"
SYSTEM = "You are the assistant of a bank's support desk. Answer briefly and politely. " * 11
ANSWER = {
    "id": "chatcmpl-stub",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": MODEL,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Certainly. " * 60}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 230, "completion_tokens": 120, "total_tokens": 350},
}


def questions() -> list[str]:
    """BANKING77 questions of the bundled sample, but for volatile ones, which the semantic layer leaves alone."""
    lines = (resources.files("cacheproxy") / "data" / "banking77_sample.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    return [text for text in texts if not is_volatile(text)]


def body(question: str) -> bytes:
    """A chat request of about 1 KiB."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    return json.dumps({"model": MODEL, "messages": messages}).encode()


def respaced(question: str, number: int) -> str:
    """The question with the bits of ``number`` as double spaces: another text, the same tokens."""
    words = question.split()
    bits = itertools.chain((number >> bit & 1 for bit in range(len(words) - 1)), [0])
    spaced = "".join(word + (" " * (1 + bit)) for word, bit in zip(words, bits, strict=True))
    return spaced + " " * (number >> (len(words) - 1))


# --- the servers that are measured, each in its own process


async def bare_handler(port: int) -> None:
    """Parse, hash, look up, answer."""
    answers: dict[str, bytes] = {}
    canned = orjson.dumps(ANSWER)

    async def answer(request: web.Request) -> web.Response:
        parsed = orjson.loads(await request.read())
        key = hashlib.sha256(orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return web.Response(body=answers.setdefault(key, canned), content_type="application/json")

    await _serve_app(answer, port)


async def bare_pass_through(port: int, upstream: int) -> None:
    """Parse and forward."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def answer(request: web.Request) -> web.Response:
            raw = await request.read()
            orjson.loads(raw)
            url = f"http://127.0.0.1:{upstream}{request.path}"
            headers = {"Content-Type": "application/json", "Authorization": request.headers["Authorization"]}
            async with session.post(url, data=raw, headers=headers) as response:
                return web.Response(
                    body=await response.read(), status=response.status, content_type=response.content_type
                )

        await _serve_app(answer, port)


async def stub(port: int) -> None:
    """The upstream: the same answer to everything."""
    canned = orjson.dumps(ANSWER)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=canned, content_type="application/json")

    await _serve_app(answer, port)


async def _serve_app(handler: Callable[[web.Request], Any], port: int) -> None:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


def raw_encode() -> None:
    """Answer commands on standard input: ``batch SECONDS`` and ``single SECONDS``, with texts/s and the p50 in ms."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - only this process needs it

    from cacheproxy.embed.local import DEFAULT_MODEL, _folder  # noqa: PLC0415 - the very same weights

    model = SentenceTransformer(str(_folder(DEFAULT_MODEL)), device="cpu")
    texts = itertools.cycle(questions())
    model.encode(list(itertools.islice(texts, 64)))
    print("ready", flush=True)
    for line in sys.stdin:
        kind, seconds = line.split()
        size = 32 if kind == "batch" else 1
        took: list[float] = []
        start = time.perf_counter()
        while time.perf_counter() - start < float(seconds):
            chosen = list(itertools.islice(texts, size))
            began = time.perf_counter()
            model.encode(chosen, batch_size=size, normalize_embeddings=True, show_progress_bar=False)
            took.append(time.perf_counter() - began)
        rate = len(took) * size / (time.perf_counter() - start)
        print(f"{rate} {statistics.median(took) * 1000}", flush=True)


# --- the load generator


class Connection(asyncio.Protocol):
    """One keep-alive connection that sends whole requests and reads answers by their Content-Length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answered: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Collect until the answer is whole."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end])
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= end + 4 + length and self._answered is not None:
            self._buffer.clear()
            self._answered.set_result(head)

    async def ask(self, raw: bytes) -> bytes:
        """Send a request; its answer's head."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answered

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


def request(port: int, content: bytes) -> bytes:
    """The bytes of one request."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer benchmark\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@dataclass
class Arm:
    """What is asked of which server, and what was measured: (requests/s, p50 in ms) a round, by concurrency."""

    name: str
    port: int
    bodies: Iterator[bytes]
    wanted: bytes = b""
    """What each answer's head must say for the arm to measure what it claims."""
    rounds: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    strays: list[bytes] = field(default_factory=list)
    """Other answers, which do not count: on a busy machine an embedding may miss its deadline."""

    async def measure(self, concurrency: int, seconds: float) -> None:
        """One round."""
        loop = asyncio.get_running_loop()
        pairs = [await loop.create_connection(Connection, "127.0.0.1", self.port) for _ in range(concurrency)]
        took: list[float] = []
        until = time.perf_counter() + seconds

        async def client(connection: Connection) -> None:
            while (began := time.perf_counter()) < until:
                head = await connection.ask(request(self.port, next(self.bodies)))
                if self.wanted in head and b" 200 " in head.split(b"\r\n", 1)[0]:
                    took.append(time.perf_counter() - began)
                else:
                    self.strays.append(head)

        started = time.perf_counter()
        try:
            await asyncio.gather(*(client(connection) for _, connection in pairs))
        finally:
            for _, connection in pairs:
                connection.close()
        if len(self.strays) > MOST_STRAYS * len(took):
            raise AssertionError(f"{self.name}: too many unexpected answers, such as\n{self.strays[0].decode()}")
        rate = len(took) / (time.perf_counter() - started)
        self.rounds.setdefault(concurrency, []).append((rate, statistics.median(took) * 1000))

    def rate(self, concurrency: int) -> float:
        """Median requests/s."""
        return statistics.median(rate for rate, _ in self.rounds[concurrency])

    def p50(self, concurrency: int) -> float:
        """Median of the rounds' median latencies, in ms."""
        return statistics.median(p50 for _, p50 in self.rounds[concurrency])


# --- the run


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Servers(contextlib.ExitStack):
    """The processes of one run, ended by their own ids."""

    def start(self, *command: str, stdin: int | None = None, stdout: int | None = None) -> subprocess.Popen[str]:
        """Start one."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CACHEPROXY_")}
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
        """Start one of this file's servers."""
        self.start(sys.executable, __file__, "--serve", kind, *map(str, ports))

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
        encoder = servers.start(
            sys.executable, __file__, "--serve", "encode", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
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
    """Run the benchmark, or one of its servers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each arm in each round")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        kind, *ports = asked.serve
        numbers = [int(port) for port in ports]
        match kind:
            case "encode":
                raw_encode()
            case "bare":
                uvloop.run(bare_handler(*numbers))
            case "pass":
                uvloop.run(bare_pass_through(*numbers))
            case "stub":
                uvloop.run(stub(*numbers))
        return
    figures = uvloop.run(run(asked.rounds, asked.seconds))
    print(_table(figures))
    if asked.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
