"""The whole flow as ``wiring`` assembles it, over a real store, index and embedder, and a scripted upstream.

Time is driven by hand: ``world.clock.now``. ``world.upstream`` remembers what it was asked, ``world.told`` what the
observers were told.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

import pytest
from multidict import CIMultiDict
from support.answers import CHAT, completion, echo, embedded, message, pieces, question_of, streamed, whole

from cacheproxy import assembly, derive
from cacheproxy.assembly import assemble
from cacheproxy.core import scope
from cacheproxy.core.pricing import GenaiPrices
from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import TooLarge
from cacheproxy.flow import recall
from cacheproxy.flow.messages import Streamed
from cacheproxy.flow.routing import Routes
from cacheproxy.flow.spending import Spending
from cacheproxy.index.flat import FlatIndex
from cacheproxy.judge.equality import EqualityJudge
from cacheproxy.model import Caller, Entry, Usage
from cacheproxy.server.metrics import Metrics
from cacheproxy.settings import Settings
from cacheproxy.store.secret import server_secret
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.scripted import ScriptedUpstream
from cacheproxy.wire.sse import SseParser

NOW = 1_800_000_000.0
BASE = "https://llm.example/v1"
CREDENTIAL = "Bearer sk-test"
PATIENT = {"store_ms": 20_000, "embedder_ms": 20_000, "abandon_s": 0.01}
"""Deadlines that a busy machine does not miss."""


class Clock:
    """Tells the time that it is set to."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@dataclass
class Asking:
    """A request as a door hands it in."""

    method: str
    target: str
    headers: CIMultiDict
    body: bytes | None = None
    caller: Caller | None = None

    @property
    def has_body(self):
        return self.body is not None

    async def read(self, limit):
        if len(self.body or b"") > limit:
            raise TooLarge(f"over {limit} bytes")
        return self.body or b""

    async def chunks(self):
        for start in range(0, len(self.body or b""), 7):
            yield self.body[start : start + 7]


@dataclass
class Told:
    """A reply, read to its end."""

    status: int
    headers: CIMultiDict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def events(self):
        return [event.data for event in SseParser().feed(self.body)]

    @property
    def text(self):
        """What the assistant said, JSON or stream."""
        if self.headers["Content-Type"].startswith("application/json"):
            return self.json["choices"][0]["message"]["content"]
        chunks = [json.loads(data) for data in self.events if data and data != "[DONE]"]
        return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c.get("choices"))

    @property
    def cache(self):
        """Status and layer of a hit, status and reason of a miss."""
        detail = self.headers.get("X-CacheProxy-Layer") or self.headers.get("X-CacheProxy-Reason")
        return self.headers.get("X-Cache-Status"), detail


@dataclass
class Notebook:
    """A ledger that keeps the events themselves."""

    events: list = field(default_factory=list)
    audits: list = field(default_factory=list)

    def served(self, event):
        self.events.append(event)

    def audited(self, event):
        self.audits.append(event)

    async def flush(self):
        pass

    async def tallies(self, by, *, since=0.0, until=None):
        return ()

    async def rows(self):
        return ()

    async def book(self, rows):
        pass


class World:
    """A proxy to ask, and all that stands behind it."""

    def __init__(self, *, flow, upstream, store, index, labels, metrics, clock, notebook, tasks, settings):
        self.flow = flow
        self.labels = labels
        self.metrics = metrics
        self.proxy = flow.proxy
        self.upkeep = flow.upkeep
        self.upstream = upstream
        self.store = store
        self.index = index
        self.clock = clock
        self.notebook = notebook
        self.tasks = tasks
        self.settings = settings

    @property
    def told(self):
        return self.notebook.events

    @property
    def audits(self):
        """What was told of checks."""
        return self.notebook.audits

    @property
    def pool(self):
        """The pool of requests without a namespace."""
        return self.flow.pools.named("default")

    @property
    def questions(self):
        """What reached the upstream."""
        return [question_of(received) for received in self.upstream.received]

    async def handle(self, body, *, path=CHAT, headers=(), method="POST", caller=None):
        """The reply as it is, streams unread. A ``caller`` has shown a key of ours, which the door took."""
        own = {} if caller else {"Authorization": CREDENTIAL}
        headers = CIMultiDict({**own, "Content-Type": "application/json", **dict(headers)})
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        return await self.proxy.handle(Asking(method, path, headers, body, caller))

    async def send(self, body, *, path=CHAT, headers=(), method="POST", caller=None):
        """The reply, read to its end."""
        return await self.read(await self.handle(body, path=path, headers=headers, method=method, caller=caller))

    async def read(self, reply):
        if not isinstance(reply, Streamed):
            return Told(reply.status, CIMultiDict(reply.headers), reply.body)
        try:
            body = b"".join([chunk async for chunk in reply.body])
        finally:
            await reply.close()
        return Told(reply.status, CIMultiDict(reply.headers), body)

    def chat(self, question, **members):
        return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}], **members}

    async def ask(self, question, *, headers=(), path=CHAT, caller=None, **members):
        """Ask, and wait until what was learnt is stored."""
        told = await self.send(self.chat(question, **members), headers=headers, path=path, caller=caller)
        await self.settled()
        return told

    async def settled(self):
        """Wait for everything under way in the background."""
        while self.tasks._tasks:
            await asyncio.gather(*self.tasks._tasks, return_exceptions=True)

    async def entries(self):
        """How many answers are stored."""
        return await self.store.count()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(recall, "PLACING_S", 1.0)
    return clock


@pytest.fixture
async def open_world(tmp_path, clock):
    """Opens worlds over one data directory, as restarts of one proxy would.

    ``around_store``, ``around_index`` and ``around_labels`` wrap the adapters; what else is given are settings.
    """
    seeds = count()  # a proxy that starts again, or one beside it, does not repeat the ids of another
    async with AsyncExitStack() as stack:

        async def build(
            script=echo,
            *,
            embedder=None,
            patient=None,
            verifier=None,
            exact_only=False,
            around_store=lambda store: store,
            around_index=lambda index: index,
            around_labels=lambda labels: labels,
            shared_flights=None,
            judge=None,
            prior=None,
            dice=None,
            tracer=None,
            observers=(),
            proven=True,
            deadlines=None,
            **settings,
        ):
            settings.setdefault("policy", "threshold")  # what most tests are about decides without a history
            chosen = Settings(
                upstream_url=BASE, data_dir=tmp_path / "data", deadlines={**PATIENT, **(deadlines or {})}, **settings
            )
            embedder = None if exact_only else embedder or HashedEmbedder()
            store = await stack.enter_async_context(open_sqlite(chosen.database, clock=clock))
            index = FlatIndex()
            if embedder is not None:
                await store.claim_embedding(embedder.model, embedder.dimension)
                async for rows in store.vectors():
                    for row in rows:
                        await index.add(row)
            if proven:
                secret = server_secret(chosen.data_dir)
                await store.prove(scope.credential_name(BASE, CREDENTIAL, secret=secret), clock.now)
            upstream = script if isinstance(script, ScriptedUpstream) else ScriptedUpstream(script)
            notebook, metrics = Notebook(), Metrics()
            tasks = await stack.enter_async_context(TaskSet("test"))
            labels = around_labels(SqliteLabels(store.database))
            flow = assemble(
                chosen,
                store=around_store(store),
                ledger=notebook,
                labels=labels,
                index=around_index(index),
                embedder=embedder,
                patient=patient,
                verifier=verifier,
                judge=judge or EqualityJudge(),
                prices=GenaiPrices(clock=clock, overrides=derive.prices(chosen)),
                spending=Spending(chosen.decision.judge_share),
                upstream=upstream,
                local=upstream,
                shared_flights=shared_flights,
                metrics=metrics,
                tracer=tracer,
                observers=observers,
                tasks=tasks,
                routes=Routes(derive.targets(chosen)),
                prior=prior,
                secret=server_secret(chosen.data_dir),
                world=assembly.World(clock, clock, dice or Random(next(seeds))),
            )
            await flow.pools.load()
            await flow.withdrawn.load(labels)
            await flow.elsewhere.follow()
            return World(
                flow=flow,
                upstream=upstream,
                store=store,
                index=index,
                labels=labels,
                metrics=metrics,
                clock=clock,
                notebook=notebook,
                tasks=tasks,
                settings=chosen,
            )

        yield build


@pytest.fixture
def api():
    """The builders of requests and answers."""
    return Api


class Api:
    """What upstreams say."""

    completion = staticmethod(completion)
    message = staticmethod(message)
    embedded = staticmethod(embedded)
    whole = staticmethod(whole)
    streamed = staticmethod(streamed)
    pieces = staticmethod(pieces)
    echo = staticmethod(echo)
    question_of = staticmethod(question_of)
    Asking = Asking


@pytest.fixture
def make_entry():
    def make(name="a", **changes):
        entry = Entry(
            id=f"id-{name}",
            key=f"key-{name}".encode(),
            scope=b"scope",
            tenant="tenant",
            dialect="openai-chat",
            upstream="default",
            model="gpt-4o-mini",
            prompt=f"What is {name}?",
            answer=json.dumps(completion(f"It is {name}.")).encode(),
            usage=Usage(10, 20),
            cost_usd=0.25,
            latency_ms=800.0,
            created_at=NOW,
            expires_at=NOW + 3600,
            semantic=True,
        )
        return replace(entry, **changes)

    return make
