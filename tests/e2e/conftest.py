"""Running proxies and upstreams on real sockets, for real clients.

Servers live in a thread with an event loop of their own, so that blocking clients and asynchronous ones are served
alike. Every test has an API key of its own, and so a tenant of its own: tests share a proxy and no entries.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import aiohttp
import pytest
import uvloop
from aiohttp import web
from multidict import CIMultiDict

from cacheproxy.lab.questions import classes_of, read_questions
from cacheproxy.lab.simulate import SimulateOptions, serving
from cacheproxy.settings import Settings
from cacheproxy.upstream.simulated import knowledge_of
from cacheproxy.wiring import open_proxy

PATIENCE_S = 60.0
"""How long anything is waited for that must come."""
PATIENT = {"store_ms": 20_000, "embedder_ms": 20_000}
"""Deadlines that a busy machine does not miss."""
_numbers = count(1)


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
        connection = sqlite3.connect(self.settings.database, timeout=PATIENCE_S)
        try:
            ((rows,),) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchall()
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


@dataclass
class Told:
    """An answer, read to its end."""

    status: int
    headers: CIMultiDict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def cache(self):
        """Status and layer of a hit, status and reason of a miss."""
        return cache_of(self.headers)

    @property
    def text(self):
        """What the assistant said in a chat completion, JSON or stream."""
        if self.headers["Content-Type"].startswith("application/json"):
            return self.json["choices"][0]["message"]["content"]
        data = [line.removeprefix("data: ") for line in self.body.decode().splitlines() if line.startswith("data: ")]
        chunks = [json.loads(item) for item in data if item != "[DONE]"]
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def cache_of(headers):
    """Status and layer of a hit, status and reason of a miss."""
    return headers.get("X-Cache-Status"), headers.get("X-CacheProxy-Layer") or headers.get("X-CacheProxy-Reason")


@dataclass
class Http:
    """A caller that speaks plain HTTP."""

    session: aiohttp.ClientSession
    base: str
    key: str

    async def send(self, path, body=None, *, method="POST", headers=(), base=None):
        """Send a request, read the answer. Objects go as JSON."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **dict(headers)}
        async with self.session.request(
            method, (base or self.base) + path, data=body, headers=given, allow_redirects=False
        ) as response:
            return Told(response.status, CIMultiDict(response.headers), await response.read())

    async def ask(self, question, *, headers=(), base=None, model="gpt-4o-mini", **members):
        """Send one user turn as a chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": question}], **members}
        return await self.send("/v1/chat/completions", body, headers=headers, base=base)


class Process:
    """``cacheproxy serve`` as a process of its own, ended with the test."""

    def __init__(self, arguments, environ):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cacheproxy", *arguments],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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

    def line(self, pattern):
        """The first group of the next line on standard output that matches."""
        watchdog = threading.Timer(PATIENCE_S, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                if match := re.search(pattern, line):
                    return match[1]
        finally:
            watchdog.cancel()
        raise AssertionError("\n".join(["it ended before it said so:", *self.log]))

    def served(self):
        """Wait until it serves."""
        return Served(
            self.line(r"data plane +(http://\S+)/v1"),
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


@pytest.fixture(scope="session")
def host():
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="session")
def knowledge():
    """The bundled questions, with their classes."""
    return knowledge_of(classes_of(read_questions(bundled())))


def bundled():
    """The bundled questions' file."""
    from importlib.resources import files  # noqa: PLC0415 - one use

    return files("cacheproxy") / "data" / "banking77_sample.jsonl"


@pytest.fixture(scope="session")
def simulated(host, knowledge):
    """The base URL of a simulated upstream, without ``/v1``."""
    with host.open(serving(SimulateOptions(port=0, knowledge=knowledge))) as url:
        yield url.removesuffix("/v1")


@pytest.fixture
def running_proxy(host, tmp_path):
    """Proxies in this process as context managers: ``with running_proxy(upstream_url, **settings) as served``.

    Each is one over ``tmp_path/data``, as restarts of one proxy would be.
    """

    def run(upstream_url, **settings):
        return host.open(proxy_from(proxy_settings(tmp_path / "data", upstream_url, **settings)))

    return run


@pytest.fixture
def serve_proxy(running_proxy):
    """The same, open until the test ends, and without an embedding model: ``serve_proxy(upstream_url, **settings)``."""
    with ExitStack() as stack:
        yield lambda url, **settings: stack.enter_context(running_proxy(url, **{"mode": "exact", **settings}))


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


@pytest.fixture(scope="session")
def proxy(host, simulated, tmp_path_factory):
    """A proxy with every default (the embedding model too) in front of the simulated upstream."""
    settings = proxy_settings(tmp_path_factory.mktemp("proxy"), f"{simulated}/v1")
    with host.open(proxy_from(settings)) as served:
        yield served


@pytest.fixture(scope="session")
def lenient(host, simulated, tmp_path_factory):
    """The same with a threshold so low that only the guards keep near questions apart."""
    settings = proxy_settings(tmp_path_factory.mktemp("lenient"), f"{simulated}/v1", threshold=0.8)
    with host.open(proxy_from(settings)) as served:
        yield served


@pytest.fixture
def record(host):
    """Opens upstreams of the test's own: ``record(answer)``, where ``answer(request, recorded)`` gives a response."""
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(host.open(Recording(answer).serving()))


@pytest.fixture
def spawn(tmp_path):
    """Starts ``cacheproxy`` processes: ``spawn("serve", ...)``; ``serve`` gets free ports and ``tmp_path/data``."""
    spawned = []

    def start(command, *arguments, **environ):
        defaults = {
            "serve": ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")],
            "simulate": ["--listen", "127.0.0.1:0"],
        }.get(command, [])
        process = Process([command, *defaults, *arguments], environment() | environ)
        spawned.append(process)
        return process

    yield start
    for process in spawned:
        process.close()


@pytest.fixture
def cacheproxy(tmp_path):
    """Runs a ``cacheproxy`` command to its end: exit status, standard output, standard error."""

    def run(*arguments, **environ):
        done = subprocess.run(
            [sys.executable, "-m", "cacheproxy", *arguments],
            env=environment() | {"CACHEPROXY_DATA_DIR": str(tmp_path / "data")} | environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def api_key():
    """A key that no other test uses."""
    return f"sk-test-{next(_numbers)}"


@pytest.fixture
async def http(api_key):
    """A plain HTTP caller; ``base`` is set by the test or given to each call."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=PATIENCE_S), auto_decompress=False, skip_auto_headers=("User-Agent",)
    ) as session:
        yield Http(session, "", api_key)


@pytest.fixture
def calls(simulated):
    """How many requests reached the simulated upstream, in all."""

    def asked():
        with urllib.request.urlopen(f"{simulated}/simulated/stats", timeout=PATIENCE_S) as response:
            return sum(json.load(response)["requests"].values())

    return asked


@pytest.fixture
def taught(until):
    """Asks a question through a semantic proxy, and waits until similar ones can find its answer."""

    async def teach(http, served, question, **members):
        before = served.count("vectors")
        told = await http.ask(question, base=served.url, **members)
        assert told.cache[0] == "Miss"
        await until(lambda: served.count("vectors") > before)
        return told

    return teach


@pytest.fixture
def seen():
    """``cache_of`` for whatever headers a client hands out."""
    return cache_of


async def _until(condition):
    while not condition():  # noqa: ASYNC110 - what is waited for happens in another thread or process
        await asyncio.sleep(0.02)


@pytest.fixture
def until():
    """Waits until a condition holds, checking again and again; the test's own timeout bounds it."""
    return _until
