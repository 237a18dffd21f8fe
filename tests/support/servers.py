"""Proxies and upstreams on real sockets, in a thread with an event loop of their own or as processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from fcntl import ioctl
from functools import partial
from termios import TIOCSCTTY

import uvloop
from aiohttp import web
from multidict import CIMultiDict

from cacheproxy.settings import Settings
from cacheproxy.wiring import open_proxy

PATIENCE_S = 60.0
"""How long anything is waited for that must come."""
PATIENT = {"store_ms": 20_000, "embedder_ms": 20_000}
"""Deadlines that a busy machine does not miss."""


class Host:
    """An event loop in a thread, on which servers run."""

    def __init__(self):
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="servers", daemon=True)
        self._thread.start()

    def run(self, coroutine):
        """The coroutine's result, computed on the servers' loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    @contextmanager
    def open(self, manager):
        """Enter an asynchronous context manager there, and leave it in the task that entered it."""
        ready, stop = asyncio.run_coroutine_threadsafe(_events(), self.loop).result(PATIENCE_S)
        holding = asyncio.run_coroutine_threadsafe(_hold(manager, ready, stop), self.loop)
        try:
            yield self.run(_first(ready, asyncio.wrap_future(holding, loop=self.loop)))
        finally:
            self.loop.call_soon_threadsafe(stop.set)
            with suppress(Exception) if holding.done() else _nothing():
                holding.result(PATIENCE_S)

    def tasks(self):
        """The names of the tasks that run there."""

        async def names():
            return Counter(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task())

        return self.run(names())

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


@contextmanager
def _nothing():
    yield


async def _events():
    return asyncio.get_running_loop().create_future(), asyncio.Event()


async def _hold(manager, ready, stop):
    async with manager as value:
        ready.set_result(value)
        await stop.wait()


async def _first(ready, holding):
    await asyncio.wait({ready, holding}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        await holding  # raises what kept it from getting ready
    return ready.result()


@dataclass(frozen=True)
class Served:
    """A running proxy."""

    url: str
    """Its data plane, without ``/v1``."""
    admin: str
    settings: Settings | None = None

    @property
    def v1(self):
        return f"{self.url}/v1"

    def count(self, table):
        """How many rows a table of its database has."""
        return self._count(f"SELECT COUNT(*) FROM {table}")

    def placed_since(self, at):
        """How many answers that came since then can be found by similarity."""
        return self._count("SELECT COUNT(*) FROM entries JOIN vectors USING (number) WHERE created_at >= ?", at)

    def _count(self, query, *values):
        connection = sqlite3.connect(self.settings.database, timeout=PATIENCE_S)
        try:
            ((rows,),) = connection.execute(query, values).fetchall()
        finally:
            connection.close()
        return rows

    def metrics(self):
        """Its metrics, by name and labels as they are written."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=PATIENCE_S) as response:
            lines = response.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def ready(self):
        """What ``/readyz`` says."""
        with urllib.request.urlopen(f"{self.url}/readyz", timeout=PATIENCE_S) as response:
            return json.load(response)


def proxy_settings(data_dir, upstream_url, *, deadlines=None, **settings):
    return Settings(
        **{
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "upstream_url": upstream_url,
            "data_dir": data_dir,
            "deadlines": {**PATIENT, "abandon_s": 0.05, "drain_s": 2, **(deadlines or {})},
            **settings,
        }
    )


@asynccontextmanager
async def proxy_from(settings):
    async with open_proxy(settings) as running:
        yield Served(f"http://{running.data}", f"http://{running.admin}", running.settings)


@dataclass
class Recorded:
    """A request as it reached an upstream."""

    method: str
    target: str
    headers: CIMultiDict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Recording:
    """An upstream of a test's own: it records requests and answers them as ``answer`` says."""

    answer: object
    url: str = ""
    requests: list[Recorded] = field(default_factory=list)

    @property
    def v1(self):
        return f"{self.url}/v1"

    async def __call__(self, request):
        recorded = Recorded(
            request.method, request.raw_path, CIMultiDict(request.headers), await request.content.read()
        )
        self.requests.append(recorded)
        return await self.answer(request, recorded)

    @asynccontextmanager
    async def serving(self):
        runner = web.ServerRunner(web.Server(self, auto_decompress=False, access_log=None), shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


def _take_terminal(terminal):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that were started by nohup would hand on that it is ignored
    ioctl(terminal, TIOCSCTTY, 0)


class Process:
    """``cacheproxy serve`` as a process of its own, ended with the test."""

    def __init__(self, arguments, environ, *, terminal=None):
        """``terminal`` is a descriptor of the one that it is to be started in; by default it has the tests' own."""
        own = {"stdin": terminal, "start_new_session": True, "preexec_fn": partial(_take_terminal, terminal)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cacheproxy", *arguments],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **({} if terminal is None else own),
        )
        self.log: list[str] = []
        self._logger = threading.Thread(target=self._read_log, daemon=True)
        self._logger.start()

    @property
    def pid(self):
        return self.process.pid

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def line(self, pattern, patience_s=PATIENCE_S):
        """The first group of the next line on standard output that matches."""
        watchdog = threading.Timer(patience_s, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                if match := re.search(pattern, line):
                    return match[1]
        finally:
            watchdog.cancel()
        raise AssertionError("\n".join(["it ended before it said so:", *self.log]))

    def served(self, patience_s=PATIENCE_S):
        """Wait until it serves."""
        return Served(
            self.line(r"data plane +(http://\S+)/v1", patience_s),
            self.line(r"admin plane +(http://\S+)"),
        )

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def terminate(self):
        """End it as an operator would; its exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._logger.join(PATIENCE_S)
        self.process.stdout.close()
        self.process.stderr.close()


def environment():
    """This process's environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CACHEPROXY_")}


@asynccontextmanager
async def keeping_still(address):
    """A caller who was answered once, at a host and port, and keeps the connection without asking for more."""
    host, port = str(address).rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"200" in await reader.readline()
        yield
    finally:
        writer.close()
