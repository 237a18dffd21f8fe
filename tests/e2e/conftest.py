"""Running proxies and upstreams on real sockets, for real clients.

Servers live in a thread with an event loop of their own, so that blocking clients and asynchronous ones are served
alike. Every test has an API key of its own, and so a tenant of its own: tests share a proxy and no entries.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from itertools import count

import aiohttp
import pytest
from aiohttp import web
from support.callers import Http, cache_of
from support.gated import CHAT, Gated, asking
from support.servers import PATIENCE_S, Host, Process, Recording, environment, proxy_from, proxy_settings

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.lab.questions import classes_of, draw, read_questions
from cacheproxy.lab.replay import ReplayOptions, replay
from cacheproxy.lab.simulate import SimulateOptions, serving
from cacheproxy.upstream.simulated import knowledge_of

_numbers = count(1)
REPLAYED = 300
"""Questions: enough for verdicts and for a first rule."""


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


@pytest.fixture(scope="session")
def proxy(host, simulated, tmp_path_factory):
    """A proxy with every default (the embedding model too) in front of the simulated upstream."""
    settings = proxy_settings(tmp_path_factory.mktemp("proxy"), f"{simulated}/v1")
    with host.open(proxy_from(settings)) as served:
        yield served


@pytest.fixture(scope="session")
def lenient(host, simulated, tmp_path_factory):
    """The same with a threshold so low that only the guards keep near questions apart."""
    settings = proxy_settings(tmp_path_factory.mktemp("lenient"), f"{simulated}/v1", policy="threshold", threshold=0.8)
    with host.open(proxy_from(settings)) as served:
        yield served


@pytest.fixture(scope="session")
def hashed(host):
    """The base URL of an embedding server without a model, for tests that need many vectors and no meaning."""
    embedder = HashedEmbedder()

    async def embedded(_, recorded):
        vector = await embedder.embed(recorded.json["input"])
        return web.json_response({"data": [{"embedding": vector.tolist()}], "usage": {"prompt_tokens": 1}})

    with host.open(Recording(embedded).serving()) as served:
        yield served.v1


@pytest.fixture(scope="session")
def replayed(host, simulated, hashed, tmp_path_factory):
    """A proxy that some hundred questions went through, some of them similar; its verdicts are in."""
    settings = proxy_settings(
        tmp_path_factory.mktemp("replayed"),
        f"{simulated}/v1",
        embedder={"url": hashed},
        max_wrong_per_hit=0.03,
        decision={"bootstrap_similarity": 0.8},
        economics={"revenue_per_request_usd": 0.001},
    )
    with host.open(proxy_from(settings)) as served:
        questions = draw(read_questions(bundled()), REPLAYED, zipf=0.6, seed=1)
        host.run(replay(questions, ReplayOptions(proxy_url=served.v1), progress=lambda _: None))
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
async def callers(api_key):
    """Opens callers, each with connections of its own: ``kept`` open, or a new one for each request."""
    sessions = []

    def opened(*, kept=False):
        connector = aiohttp.TCPConnector(force_close=not kept)
        session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
        sessions.append(session)
        return Http(session, "", api_key)

    yield opened
    for session in sessions:
        await session.close()


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
        before = time.time()  # what earlier tests asked may be placed later still
        told = await http.ask(question, base=served.url, **members)
        assert told.cache[0] == "Miss"
        await until(lambda: served.placed_since(before))
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


@pytest.fixture
def gated(host):
    return Gated(host)


@pytest.fixture
async def proven(http):
    """Makes a caller known to the proxy, so that it may share with others."""

    async def prove(upstream, gate, base):
        gate.release()
        assert (await http.send(CHAT, asking("Am I known?"), base=base)).status == 200
        gate.gate.clear()
        upstream.requests.clear()
        http.base = base
        return http

    return prove
