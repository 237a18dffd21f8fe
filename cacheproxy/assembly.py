"""The flow put together, over any adapters: which part gets which others, and the operator's rules.

``wiring.py`` opens the adapters and closes them again; what is here has no I/O of its own.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy import derive
from cacheproxy.core.features import verifier_number
from cacheproxy.flow.again import Again
from cacheproxy.flow.answers import Answers
from cacheproxy.flow.asked import Reader
from cacheproxy.flow.audit import Auditor
from cacheproxy.flow.calls import Calls
from cacheproxy.flow.churn import ScopeChurn
from cacheproxy.flow.coalesce import Flights
from cacheproxy.flow.credentials import Proofs
from cacheproxy.flow.elsewhere import Elsewhere
from cacheproxy.flow.embeddings import CachedEmbeddings
from cacheproxy.flow.exact import Exact
from cacheproxy.flow.explain import Explanations
from cacheproxy.flow.feedback import Feedback, FeedbackDoor, Withdrawn
from cacheproxy.flow.forward import Forwarder
from cacheproxy.flow.l1 import L1, TRUST_S
from cacheproxy.flow.lately import Lately
from cacheproxy.flow.learn import KeepRules, Learner
from cacheproxy.flow.local import LocalFirst
from cacheproxy.flow.orphans import Orphans
from cacheproxy.flow.passthrough import PassThrough
from cacheproxy.flow.pools import Pools
from cacheproxy.flow.prompts import Prompts
from cacheproxy.flow.proxy import Proxy
from cacheproxy.flow.recall import Recall
from cacheproxy.flow.relay import Relay
from cacheproxy.flow.render import RenderRules
from cacheproxy.flow.shelter import Shelter
from cacheproxy.flow.spending import AuditLimit
from cacheproxy.flow.told import Teller
from cacheproxy.flow.upkeep import HitCounts, Upkeep
from cacheproxy.model import Selection

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.core.policy import Policy
    from cacheproxy.flow.routing import Routes
    from cacheproxy.flow.spending import Spending
    from cacheproxy.model import Reason
    from cacheproxy.ports import (
        Embedder,
        Judge,
        Labels,
        Ledger,
        Observer,
        Prices,
        SharedFlights,
        Store,
        Upstream,
        VectorIndex,
        Verifier,
    )
    from cacheproxy.server.metrics import Metrics
    from cacheproxy.settings import Settings
    from cacheproxy.tasks import TaskSet
    from cacheproxy.tracing import Tracer

WRITE_DEADLINE_S: Final = 10.0
"""For what happens off the request's path: storing, counting, sweeping."""
_OF_THE_STORE: Final = frozenset({"store", "store-writes", "leases"})
"""Ports that are away with it."""
JUDGE_DEADLINE_S: Final = 60.0
"""A judge that asks a model has its own, shorter one for each call."""


@dataclass(frozen=True, slots=True)
class World:
    """Time and chance. ``now`` tells the time, ``clock`` measures it; both in seconds."""

    now: Callable[[], float]
    clock: Callable[[], float]
    dice: random.Random

    def token(self) -> str:
        """Unused letters and digits."""
        return f"{self.dice.getrandbits(96):024x}"

    def new_id(self, now: float, key: bytes) -> str:
        """Later ones sort behind earlier ones. It ends in how its exact key begins: a spread store finds it by that."""
        return f"{int(now * 1000):011x}{self.dice.getrandbits(48):012x}z{key[:2].hex()}"


@dataclass(frozen=True, slots=True)
class Flow:
    """What is put together, as far as others need to reach it."""

    proxy: Proxy
    upkeep: Upkeep
    elsewhere: Elsewhere
    pools: Pools
    withdrawn: Withdrawn
    explanations: Explanations
    feedback: Feedback
    recall: Recall
    policy: Policy
    l1: L1
    churn: ScopeChurn
    shelters: Sequence[Shelter]


def assemble(
    settings: Settings,
    *,
    store: Store,
    ledger: Ledger,
    labels: Labels,
    index: VectorIndex,
    embedder: Embedder | None,
    patient: Embedder | None = None,
    verifier: Verifier | None,
    judge: Judge,
    prices: Prices,
    spending: Spending,
    upstream: Upstream,
    local: Upstream,
    shared_flights: SharedFlights | None,
    metrics: Metrics,
    tasks: TaskSet,
    routes: Routes,
    prior: Likelihood | None,
    secret: bytes,
    secret_lasts: bool = True,
    world: World,
    bypass: Reason | None = None,
    observers: Sequence[Observer] = (),
    tracer: Tracer | None = None,
) -> Flow:
    """The flow, over any adapters.

    ``observers`` are told beside those that are part of it. ``bypass`` says why no request may touch the cache; the
    store is asked nothing then. ``secret_lasts`` where other processes and later ones hash with it too. ``patient`` is
    the embedder for texts that no request waits for; by default the same one.
    """
    cache, deadlines, now, clock = settings.cache, settings.deadlines, world.now, world.clock
    store_s, embedder_s = deadlines.store_ms / 1000, deadlines.embedder_ms / 1000

    def shelter(port: str, deadline_s: float) -> Shelter:
        return Shelter(
            port,
            deadline_s=deadline_s,
            clock=clock,
            watch=metrics,
            away=bypass is not None and port in _OF_THE_STORE,
        )

    reads, writes = shelter("store", store_s), shelter("store-writes", WRITE_DEADLINE_S)
    searching, embedding = shelter("index", store_s), shelter("embedder", embedder_s)
    leasing, judging = shelter("leases", store_s), shelter("judge", JUDGE_DEADLINE_S)
    verifying = shelter("verifier", deadlines.verifier_ms / 1000)
    rules = derive.rules(settings, secret=secret, secret_lasts=secret_lasts, bypass=bypass)
    policy = derive.policy(settings, prior=prior)
    render_rules = RenderRules(settings.expose_headers, zero_usage=settings.hit_usage == "zero")
    hits = HitCounts(partial(metrics.dropped, "hits"))
    l1 = L1(cache.l1_bytes, clock=clock, trust_s=TRUST_S)
    churn, withdrawn, explanations, lately = ScopeChurn(), Withdrawn(), Explanations(), Lately()
    prompts = Prompts(store=store, loading=reads, l1=l1)
    pools = Pools(
        labels=labels,
        writes=writes,
        policy=policy,
        budget=settings.max_wrong_per_hit,
        budgets=derive.budgets(settings),
        prior=prior,
        rate=settings.audit_rate,
        verifier=verifier_number(verifier.name) if verifier else 0.0,
        judge=derive.judge_name(settings),
        dropped=partial(metrics.dropped, "labels"),
        tasks=tasks,
        now=now,
    )
    proofs = Proofs(store=store, reads=reads, writes=writes, tasks=tasks, life_s=cache.credential_proof_s, now=now)
    exact = Exact(
        store=store,
        reads=reads,
        l1=l1,
        samples=cache.samples,
        withdrawn=withdrawn,
        now=now,
        draw=world.dice.random,
    )
    flights = Flights(
        tasks,
        abandon_s=deadlines.abandon_s,
        finish_abandoned=settings.finish_abandoned,
        limit_bytes=cache.max_answer_bytes,
    )
    local_rules = derive.local_rules(settings)
    calls = Calls(metrics)
    forwarder = Forwarder(
        upstream=upstream,
        calls=calls,
        proofs=proofs,
        clock=clock,
        limit_bytes=cache.max_answer_bytes,
        local=LocalFirst(local_rules, upstream=local, proofs=proofs, watch=metrics, clock=clock)
        if local_rules
        else None,
    )
    answers = Answers(prices, now, world.new_id)
    limit = AuditLimit(settings.decision.audit_share, settings.decision.audit_allowance_usd)
    teller = Teller(
        [ledger, metrics, hits, spending, limit, *observers],
        price_version=prices.version,
        now=now,
        clock=clock,
        prompts=settings.log.prompts,
    )
    again = Again(flights=flights, forwarder=forwarder, answers=answers, teller=teller, limit=limit)
    orphans = Orphans(
        store=store,
        index=index,
        prompts=prompts,
        loading=reads,
        written=lambda: learner.written(),  # noqa: PLW0108 - there is none yet
        tasks=tasks,
    )
    recall = Recall(
        embedder=embedder,
        patient=patient or embedder,
        verifier=verifier,
        index=index,
        store=store,
        l1=l1,
        prompts=prompts,
        orphans=orphans,
        policy=policy,
        pools=pools,
        withdrawn=withdrawn,
        affords=again.affords,
        embedding=embedding,
        verifying=verifying,
        searching=searching,
        loading=reads,
        now=now,
        draw=world.dice.random,
    )
    auditor = Auditor(
        judge=judge,
        pools=pools,
        policy=policy,
        index=index,
        store=store,
        l1=l1,
        loading=reads,
        judging=judging,
        again=again,
        teller=teller,
        aliases=settings.decision.aliases,
        now=now,
        draw=world.dice.random,
    )
    feedback = Feedback(
        store=store,
        l1=l1,
        labels=labels,
        reads=reads,
        writes=writes,
        withdrawn=withdrawn,
        explanations=explanations,
        lately=lately,
        auditor=auditor,
        affords=again.affords,
        tasks=tasks,
        now=now,
    )
    learner = Learner(
        store=store,
        writes=writes,
        l1=l1,
        recall=recall,
        auditor=auditor,
        answers=answers,
        rules=KeepRules(cache.max_answer_bytes, cache.samples),
        tasks=tasks,
    )
    elsewhere = Elsewhere(labels=labels, store=store, pools=pools, feedback=feedback, proofs=proofs, shelter=writes)
    upkeep = Upkeep(
        store=store,
        index=index,
        l1=l1,
        prompts=prompts,
        ledger=ledger,
        pools=pools,
        elsewhere=elsewhere,
        hits=hits,
        shelter=writes,
        written=learner.written,
        forget_unstored=learner.forget_unstored,
        now=now,
        clock=clock,
    )
    embeddings = CachedEmbeddings(
        exact=exact,
        flights=flights,
        forwarder=forwarder,
        learner=learner,
        proofs=proofs,
        teller=teller,
        keys=rules.keys,
        render_rules=render_rules,
        now=now,
    )
    passthrough = PassThrough(
        upstream=upstream,
        calls=calls,
        proofs=proofs,
        secret=rules.keys.secret,
        evict=lambda tag: upkeep.evict(Selection(tag=tag)),
    )
    relay = None
    if shared_flights is not None:
        relay = Relay(
            shared_flights,
            forwarder=forwarder,
            exact=exact,
            leasing=leasing,
            written=learner.written,
            writes=writes,
            tasks=tasks,
            clock=clock,
            patience_s=settings.redis.coalesce_s,
        )
    proxy = Proxy(
        routes=routes,
        reader=Reader(rules),
        render_rules=render_rules,
        exact=exact,
        recall=recall,
        embeddings=embeddings,
        flights=flights,
        forwarder=forwarder,
        relay=relay,
        learner=learner,
        again=again,
        lately=lately,
        passthrough=passthrough,
        proofs=proofs,
        teller=teller,
        watch=metrics,
        tracer=tracer,
        churn=churn,
        explanations=explanations,
        feedback=FeedbackDoor(feedback, rules),
        tasks=tasks,
        now=now,
        clock=clock,
        token=world.token,
    )
    optional = [each for each, on in ((leasing, relay is not None), (verifying, verifier is not None)) if on]
    shelters = (reads, writes, searching, embedding, judging, *optional)
    metrics.watch("entries", lambda: upkeep.entries)
    metrics.watch("scope_churn", lambda: churn.share)
    if isinstance(index, Sized):  # a shared one is elsewhere
        metrics.watch("index_vectors", partial(len, index))
    metrics.watch("memory_bytes", lambda: l1.held_bytes)
    metrics.watch("unwritten_answers", lambda: learner.waiting)
    metrics.watch("unjudged_answers", lambda: auditor.waiting)
    metrics.watch_breakers({shelter.port: partial(_state_of, shelter) for shelter in shelters})
    metrics.watch_pools(lambda: list(pools) if policy.keeps_budgets else ())
    return Flow(
        proxy=proxy,
        upkeep=upkeep,
        elsewhere=elsewhere,
        pools=pools,
        withdrawn=withdrawn,
        explanations=explanations,
        feedback=feedback,
        recall=recall,
        policy=policy,
        l1=l1,
        churn=churn,
        shelters=shelters,
    )


def _state_of(shelter: Shelter) -> float:
    return float(shelter.state)
