"""The admin plane over a real flow, store, ledger and index, and a scripted upstream. Time is driven by hand."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import aiohttp
from multidict import CIMultiDict
from support.answers import CHAT, echo

from cacheproxy import assembly, derive
from cacheproxy.address import Address
from cacheproxy.assembly import assemble
from cacheproxy.config import in_force
from cacheproxy.core import scope
from cacheproxy.core.pricing import GenaiPrices
from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.flow.messages import Streamed
from cacheproxy.flow.routing import Routes
from cacheproxy.flow.spending import Spending
from cacheproxy.index.flat import FlatIndex
from cacheproxy.judge.equality import EqualityJudge
from cacheproxy.server.admin import build_admin
from cacheproxy.server.api.health import Facts
from cacheproxy.server.api.plane import Parts, handlers
from cacheproxy.server.api.recent import Recent
from cacheproxy.server.listen import admin_listener
from cacheproxy.server.metrics import Metrics
from cacheproxy.settings import Settings
from cacheproxy.store.secret import server_secret
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.store.sqlite_ledger import SqliteLedger
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.scripted import ScriptedUpstream

NOW = 1_800_000_000.0
BASE = "https://llm.example/v1"
CREDENTIAL = "Bearer sk-test"
PATIENT = {"store_ms": 20_000, "embedder_ms": 20_000, "abandon_s": 0.01}


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Asking:
    """A request as a door hands it in."""

    method = "POST"
    target = CHAT
    caller = None
    has_body = True

    def __init__(self, body, headers):
        self._body = json.dumps(body).encode()
        self.headers = CIMultiDict({"Authorization": CREDENTIAL, "Content-Type": "application/json", **headers})

    async def read(self, _limit):
        return self._body


class Panel:
    """A running admin plane: ask the proxy behind it, and the plane itself."""

    def __init__(self, **parts):
        self.__dict__.update(parts)

    async def ask(self, question, *, model="gpt-4o-mini", headers=(), **members):
        """Ask the proxy a second later, and wait until what it learnt is stored."""
        self.clock.now += 1
        body = {"model": model, "messages": [{"role": "user", "content": question}], **members}
        reply = await self.flow.proxy.handle(Asking(body, dict(headers)))
        if isinstance(reply, Streamed):
            async for _ in reply.body:
                pass
            await reply.close()
        await self.settled()
        await self.flow.upkeep.flush()
        return CIMultiDict(reply.headers)

    async def settled(self):
        """Wait for what goes on in the background."""
        while self.tasks._tasks:
            await self.tasks.settle(60)

    async def get(self, path, **headers):
        """Status and JSON of a GET under ``/api/v1``."""
        return await self.call("GET", path, headers=headers)

    async def post(self, path, body):
        return await self.call("POST", path, json=body)

    async def delete(self, path):
        return await self.call("DELETE", path)

    async def call(self, method, path, **more):
        async with self.session.request(method, f"{self.url}/api/v1{path}", **more) as response:
            self.headers = response.headers
            told = await response.read()
            return response.status, json.loads(told) if told else None

    async def told(self, path):
        """The JSON of a GET that works."""
        status, told = await self.get(path)
        assert status == 200, told
        return told

    async def entries(self, **query):
        """The entries that a query lists."""
        async with self.session.get(f"{self.url}/api/v1/entries", params=query) as response:
            return (await response.json())["entries"]


@asynccontextmanager
async def open_panel(folder, *, script=echo, embedder=None, judge=None, prior=None, dice=None, token=None, **settings):
    """``settings`` as the proxy has them; the policy is ``threshold`` unless they say otherwise."""
    settings.setdefault("policy", "threshold")
    chosen = Settings(upstream_url=BASE, data_dir=folder / "data", deadlines=PATIENT, **settings)
    embedder = HashedEmbedder() if embedder is None else embedder or None
    clock, recent, metrics = Clock(), Recent(), Metrics()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_sqlite(chosen.database, clock=clock))
        index, ledger, labels = FlatIndex(), SqliteLedger(store.database), SqliteLabels(store.database)
        if embedder is not None:
            await store.claim_embedding(embedder.model, embedder.dimension)
        secret = server_secret(chosen.data_dir)
        await store.prove(scope.credential_name(BASE, CREDENTIAL, secret=secret), clock.now)
        upstream = ScriptedUpstream(script)
        tasks = await stack.enter_async_context(TaskSet("flow"))
        events = await stack.enter_async_context(TaskSet("events"))
        flow = assemble(
            chosen,
            store=store,
            ledger=ledger,
            labels=labels,
            index=index,
            embedder=embedder,
            verifier=None,
            judge=judge or EqualityJudge(),
            prices=GenaiPrices(clock=clock),
            spending=Spending(chosen.decision.judge_share),
            upstream=upstream,
            local=upstream,
            shared_flights=None,
            metrics=metrics,
            tasks=tasks,
            routes=Routes(derive.targets(chosen)),
            prior=prior,
            secret=secret,
            world=assembly.World(clock, clock, dice or Random(0)),
            observers=(recent,),
        )
        facts = Facts(
            started=NOW,
            mode=chosen.mode.value,
            policy=chosen.policy.value,
            store="sqlite here",
            max_entries=100_000,
            max_bytes=1 << 31,
            max_calls=1024,
            max_embeddings=1024,
            max_listeners=16,
            settings=in_force(chosen),
        )
        parts = Parts(
            facts=facts,
            store=store,
            ledger=ledger,
            labels=labels,
            index=index,
            embedder=embedder,
            patient=embedder,
            no_model="" if embedder else "none was wanted",
            upkeep=flow.upkeep,
            pools=flow.pools,
            withdrawn=flow.withdrawn,
            explanations=flow.explanations,
            feedback=flow.feedback,
            recall=flow.recall,
            policy=flow.policy,
            l1=flow.l1,
            churn=flow.churn,
            shelters=flow.shelters,
            recent=recent,
            revenue_usd=chosen.economics.revenue_per_request_usd,
            tiers=derive.tiers(chosen),
            samples=chosen.cache.samples,
            ready=lambda: (True, {}),
            calls=lambda: 0,
            tasks=events,
            now=clock,
        )
        app = build_admin(metrics=metrics, handlers=handlers(parts), token=token, hosts=chosen.admin_hosts)
        address = await stack.enter_async_context(admin_listener(app, Address("127.0.0.1", 0)))
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)))
        yield Panel(
            url=f"http://{address}",
            session=session,
            flow=flow,
            store=store,
            ledger=ledger,
            labels=labels,
            index=index,
            upstream=upstream,
            recent=recent,
            clock=clock,
            tasks=tasks,
            settings=chosen,
        )
