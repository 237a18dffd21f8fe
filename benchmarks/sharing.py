"""How long after a store two proxies share a hit: the very same question, and a similar one.

    python benchmarks/sharing.py [--questions 60]

Two proxies in this process on a redis-server of its own, an upstream that answers at once, and an embedding server that
goes by words. The time runs from the first proxy's whole answer to the second's hit, and is that of a busy loop.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import aiohttp
from aiohttp import web
from support.redis_server import running_server
from support.servers import Recording, proxy_from, proxy_settings

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.lab.simulate import SimulateOptions, serving

ONLY_CACHED = {"Cache-Control": "only-if-cached"}
EXACTLY = {**ONLY_CACHED, "X-CacheProxy-Mode": "exact"}


async def embedding(_: web.Request, recorded: object) -> web.Response:
    """The answer of an embedding server."""
    text = recorded.json["input"]
    vector = (await HashedEmbedder().embed(text)).tolist()
    return web.json_response({"data": [{"embedding": vector}], "usage": {"prompt_tokens": len(text.split())}})


async def measure(questions: int) -> dict[str, list[float]]:
    """Milliseconds until the second proxy has what the first learnt."""
    took: dict[str, list[float]] = {"exact": [], "semantic": []}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_server(folder))
        model = await stack.enter_async_context(Recording(embedding).serving())
        upstream = await stack.enter_async_context(serving(SimulateOptions(port=0)))
        settings = {"store": server.url, "policy": "threshold", "threshold": 0.9, "embedder": {"url": model.v1}}
        one, other = [
            await stack.enter_async_context(proxy_from(proxy_settings(folder / name, upstream, **settings)))
            for name in ("one", "other")
        ]
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def ask(base: str, question: str, headers: dict[str, str]) -> str | None:
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}]}
            given = {"Authorization": "Bearer sk-1", **headers}
            async with session.post(f"{base}/v1/chat/completions", json=body, headers=given) as answer:
                await answer.read()
                return answer.headers.get("X-CacheProxy-Layer")

        await ask(other.url, "The credential is proven.", {})
        for number in range(questions):
            question = f"How do I get back the card number {number} that I lost in town"
            await ask(one.url, question, {})
            started = time.perf_counter()
            for layer, wording, headers in (("exact", question, EXACTLY), ("semantic", f"{question} ?", ONLY_CACHED)):
                while await ask(other.url, wording, headers) != layer:
                    pass
                took[layer].append((time.perf_counter() - started) * 1000)
    return took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=60)
    for layer, took in asyncio.run(measure(parser.parse_args().questions)).items():
        ordered = sorted(took)
        print(
            f"{layer}: median {statistics.median(ordered):.1f} ms, "
            f"{ordered[int(0.95 * len(ordered))]:.1f} ms in 95 of 100, at most {ordered[-1]:.1f} ms"
        )
