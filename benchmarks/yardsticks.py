"""What the hot path is held against, each in its own process: ``python benchmarks/yardsticks.py KIND [PORT ...]``."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import uvloop
from aiohttp import web
from load import ANSWER, questions

if TYPE_CHECKING:
    from collections.abc import Callable


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


def main() -> None:
    """Be one of them until the end."""
    kind, *rest = sys.argv[1:]
    ports = [int(port) for port in rest]
    match kind:
        case "encode":
            raw_encode()
        case "bare":
            uvloop.run(bare_handler(*ports))
        case "pass":
            uvloop.run(bare_pass_through(*ports))
        case "stub":
            uvloop.run(stub(*ports))


if __name__ == "__main__":
    main()
