"""Memory: constant while a gibibyte passes in either direction, and bounded for each stored entry."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from uuid import UUID

import numpy as np
import psutil
import pytest
from aiohttp import web

from cacheproxy.model import Entry, Usage
from cacheproxy.store.sqlite import open_sqlite

GIB = 1024**3
MIB = 1024**2
BLOCK = bytes(range(256)) * 4096
GROWTH = 64 * MIB
PER_ENTRY = 3 * 1024
ENTRIES = 20_000
SCOPES = 20
DIMENSION = 384
"""Of all-MiniLM-L6-v2."""


class Watch:
    """The largest resident size of a process while the block runs, over what it was before."""

    def __init__(self, pid):
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.before = self.peak = self._process.memory_info().rss

    def _look(self):
        while not self._done.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss)

    @property
    def growth(self):
        return self.peak - self.before

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


@pytest.fixture
def bulk(host):
    """An upstream that sends a gibibyte, and counts what it is sent without keeping it."""
    counted = []

    async def handle(request):
        if request.method == "GET":
            response = web.StreamResponse(headers={"Content-Length": str(GIB)})
            await response.prepare(request)
            for _ in range(GIB // len(BLOCK)):
                await response.write(BLOCK)
            return response
        size = 0
        while chunk := await request.content.readany():
            size += len(chunk)
        counted.append(size)
        return web.json_response({"bytes": size})

    async def start():
        runner = web.ServerRunner(web.Server(handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = host.run(start())
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", counted
    host.run(runner.cleanup())


async def test_a_gibibyte_passes_in_constant_memory(spawn, http, bulk):
    """Resident memory of the proxy's own process, sampled while a download and a multipart upload go through."""
    url, counted = bulk
    process = spawn("serve", "--mode", "exact", "--upstream-url", url)
    base = process.served().url
    assert (await http.send("/v1/files", b"warm", base=base)).status == 200

    with Watch(process.pid) as watch:
        read = 0
        async with http.session.get(f"{base}/v1/files/big/content") as response:
            async for chunk in response.content.iter_any():
                read += len(chunk)
    assert read == GIB
    assert watch.growth <= GROWTH

    opening = b'--b\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
    closing = b"\r\n--b--\r\n"

    async def form():
        yield opening
        for _ in range(GIB // len(BLOCK)):
            yield BLOCK
        yield closing

    with Watch(process.pid) as watch:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        async with http.session.post(f"{base}/v1/files", data=form(), headers=headers) as response:
            assert response.status == 200
    assert counted[-1] == GIB + len(opening) + len(closing)
    assert watch.growth <= GROWTH


def entries():
    """Entries as chat answers make them, in twenty scopes of a thousand."""
    answer = json.dumps({"choices": [{"message": {"content": "It is so. " * 40}}]}).encode()
    for number in range(ENTRIES):
        yield Entry(
            id=UUID(int=number).hex,
            key=number.to_bytes(32),
            scope=(number % SCOPES).to_bytes(32),
            tenant="tenant",
            dialect="openai-chat",
            upstream="default",
            model="gpt-4o-mini",
            prompt=f"What is the answer to question number {number}?",
            answer=answer,
            usage=Usage(10, 20),
            cost_usd=0.001,
            latency_ms=500.0,
            created_at=1_800_000_000.0,
            expires_at=1_900_000_000.0,
            semantic=True,
        )


OPENS = """
import asyncio, ctypes, gc, sys
from pathlib import Path
import psutil
from cacheproxy.index.faiss import FaissIndex
from cacheproxy.store.sqlite import open_sqlite

async def main():
    async with open_sqlite(Path(sys.argv[1]), clock=lambda: 1_800_000_000.0) as empty:
        await empty.claim_embedding("m", 384)
    FaissIndex()
    gc.collect()
    before = psutil.Process().memory_info().rss
    async with open_sqlite(Path(sys.argv[2]), clock=lambda: 1_800_000_000.0) as store:
        await store.claim_embedding("m", 384)
        index = FaissIndex()
        async for rows in store.vectors():
            for row in rows:
                await index.add(row)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        print(len(index), await store.count(), psutil.Process().memory_info().rss - before)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is the GNU C library's")
async def test_an_entry_costs_at_most_three_kibibytes_of_memory(tmp_path):
    """By how much a fresh process is larger, for each entry, once it has opened the store and filled the index.

    That is the store's directory of keys, SQLite's page cache, the vectors and the index's own bookkeeping. Memory
    that the allocator holds free is handed back first; the libraries are loaded before, by an empty store. Answers
    stay on disk, and the bounded cache of hot answers is not part of it.
    """
    path = tmp_path / "many.sqlite3"
    random = np.random.default_rng(1)
    async with open_sqlite(path, clock=lambda: 1_800_000_000.0) as store:
        await store.claim_embedding("m", DIMENSION)

        async def keep(entry, root):
            vector = random.standard_normal(DIMENSION).astype(np.float32)
            await store.put(entry)
            await store.set_vector(entry.id, vector / np.linalg.norm(vector), root)

        waiting = []
        for number, entry in enumerate(entries()):
            # Half are aliases, each of another root: the more roots have aliases, the more these take.
            is_alias = number // SCOPES % 2
            waiting.append(keep(entry, UUID(int=number - SCOPES).hex if is_alias else entry.id))
            if len(waiting) == 1000:
                await asyncio.gather(*waiting)
                waiting.clear()

    command = [sys.executable, "-c", OPENS, str(tmp_path / "empty.sqlite3"), str(path)]
    opened = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert opened.returncode == 0, opened.stderr
    indexed, stored, grown = map(int, opened.stdout.split())
    assert indexed == stored == ENTRIES
    assert grown / ENTRIES <= PER_ENTRY
