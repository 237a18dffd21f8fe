"""One request, told top to bottom.

    bytes in -> route and dialect -> what is asked (view, eligibility, scope, exact key)
      -> exact look-up -> a flight that carries the same request already -> the semantic layer
      -> an answer from the cache, or a flight of its own: the upstream's bytes go to the caller and to a recorder

Everything that can fail on the way to a cached answer fails towards the upstream.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy.core.policy import Forward, Serve
from cacheproxy.errors import NotCached, ProxyError
from cacheproxy.flow import render
from cacheproxy.flow.arrival import UNTRACED, Arrival, name_given
from cacheproxy.flow.feedback import PATH as FEEDBACK_PATH
from cacheproxy.flow.messages import Streamed, Whole
from cacheproxy.flow.told import Hit, Miss
from cacheproxy.model import CacheStatus, Entry, Layer, Reason
from cacheproxy.upstream.headers import shared
from cacheproxy.wire.dialect import Fresh
from cacheproxy.wire.dialects import EMBEDDINGS, dialect_for_errors, dialect_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable

    from cacheproxy.flow.again import Again
    from cacheproxy.flow.asked import Asked, Reader
    from cacheproxy.flow.churn import ScopeChurn
    from cacheproxy.flow.coalesce import Flights, Head, Listener, Outcome
    from cacheproxy.flow.credentials import Proofs
    from cacheproxy.flow.embeddings import CachedEmbeddings
    from cacheproxy.flow.exact import Exact
    from cacheproxy.flow.explain import Explanations
    from cacheproxy.flow.feedback import FeedbackDoor
    from cacheproxy.flow.forward import Forwarder
    from cacheproxy.flow.lately import Lately
    from cacheproxy.flow.learn import Learner
    from cacheproxy.flow.messages import Headers, Incoming, Reply
    from cacheproxy.flow.passthrough import PassThrough
    from cacheproxy.flow.recall import Recall, Recalled
    from cacheproxy.flow.relay import Relay
    from cacheproxy.flow.render import RenderRules
    from cacheproxy.flow.routing import Routes
    from cacheproxy.flow.told import Teller
    from cacheproxy.ports import CallWatch
    from cacheproxy.tasks import TaskSet
    from cacheproxy.tracing import Tracer
    from cacheproxy.wire.dialect import Dialect

_SUCCESS: Final = range(200, 300)
log = logging.getLogger(__name__)


class Proxy:
    """Answers requests. ``now`` tells the time, ``clock`` measures it, ``token`` gives unused letters and digits."""

    def __init__(
        self,
        *,
        routes: Routes,
        reader: Reader,
        render_rules: RenderRules,
        exact: Exact,
        recall: Recall,
        embeddings: CachedEmbeddings,
        flights: Flights,
        forwarder: Forwarder,
        relay: Relay | None,
        learner: Learner,
        again: Again,
        lately: Lately,
        passthrough: PassThrough,
        proofs: Proofs,
        teller: Teller,
        watch: CallWatch,
        tracer: Tracer | None,
        churn: ScopeChurn,
        explanations: Explanations,
        feedback: FeedbackDoor,
        tasks: TaskSet,
        now: Callable[[], float],
        clock: Callable[[], float],
        token: Callable[[], str],
    ) -> None:
        self._routes = routes
        self._reader = reader
        self._render_rules = render_rules
        self._exact = exact
        self._recall = recall
        self._embeddings = embeddings
        self._flights = flights
        self._forwarder = forwarder
        self._relay = relay
        self._learner = learner
        self._again = again
        self._lately = lately
        self._passthrough = passthrough
        self._proofs = proofs
        self._teller = teller
        self._watch = watch
        self._tracer = tracer
        self._churn = churn
        self._explanations = explanations
        self._feedback = feedback
        self._tasks = tasks
        self._now = now
        self._clock = clock
        self._token = token

    async def handle(self, incoming: Incoming) -> Reply:
        """Answer a request; errors of ours come back in the caller's dialect."""
        path = incoming.target.partition("?")[0]
        arrival = self._arrive(incoming, path)
        dialect: Dialect | None = None
        try:
            if path == FEEDBACK_PATH:
                return await self._feedback.answer(incoming)
            route = self._routes.resolve(incoming.target, anthropic="anthropic-version" in incoming.headers)
            dialect = dialect_of(route.path) if incoming.method == "POST" else None
            if dialect is None:
                return await self._passthrough.send(incoming, route, arrival)
            return await self._answer(await self._reader.read(incoming, route, dialect, arrival=arrival))
        except ProxyError as error:
            self._watch.refused(error.code)
            arrival.trace.failed(error)
            understood = dialect or dialect_for_errors(incoming.headers)
            return render.failure(understood, error, request_id=arrival.id)
        except BaseException:
            arrival.trace.failed(None)
            raise

    def _arrive(self, incoming: Incoming, path: str) -> Arrival:
        given, token, tracer = name_given(incoming.headers), self._token(), self._tracer
        trace = UNTRACED if tracer is None else tracer.begin(incoming.method, path, incoming.headers)
        return Arrival(given or f"req_{token}", self._clock(), trace, given, token=token)

    async def _answer(self, asked: Asked) -> Reply:
        view = asked.view
        asked.arrival.trace.about(
            dialect=asked.dialect.name, upstream=asked.route.target.name, model=view.model, stream=view.stream
        )
        if asked.bypass is not None:
            return await self._forward(asked, Miss(CacheStatus.BYPASS, asked.bypass), key=None)
        if asked.dialect is EMBEDDINGS:
            return await self._embeddings.answer(asked)
        if asked.controls.no_cache:
            return await self._forward(asked, Miss(CacheStatus.REFRESH, Reason.NO_CACHE), key=None)
        if not await self._proofs.proven(asked.credential):
            # Nobody else's answer, not even one still in flight, before the upstream has accepted this credential.
            return await self._forward(
                asked, Miss(CacheStatus.MISS, Reason.CREDENTIAL_UNPROVEN), key=(asked.keys.key, asked.credential)
            )
        return await self._look_up(asked)

    async def _look_up(self, asked: Asked) -> Reply:
        """The exact layer, then whoever is asking the same at the moment, then the semantic layer."""
        found = await self._exact.find(asked.keys.key, max_age_s=asked.controls.max_age_s)
        if isinstance(found, Entry):
            self._reader.remember(asked)
            return self._hit(asked, Hit(found, Layer.EXACT))
        self._churn.missed(asked.keys.scope)
        if self._exact.samples > 1:
            # Whoever wants several samples of one request wants them independent: no sharing, nothing similar.
            return await self._forward(asked, Miss(CacheStatus.MISS, found), key=None)
        if (flight := self._flights.find(asked.keys.key)) is not None:
            return await self._join(asked, flight.listen())
        exact_only = asked.eligibility.exact_only
        if exact_only is None:
            return await self._look_near(asked, found)
        reason = exact_only if found is Reason.NO_ENTRY else found
        return await self._forward(asked, Miss(CacheStatus.MISS, reason), key=asked.keys.key)

    async def _look_near(self, asked: Asked, exact: Reason) -> Reply:
        recalled = await self._recall.decide(asked)
        self._explanations.keep(self._now(), asked, recalled)
        match recalled.decision:
            case Serve(key):
                assert recalled.entry is not None  # noqa: S101 - what is served was loaded
                self._lately.served(asked, recalled)
                if recalled.audit is not None:
                    self._tasks.start(self._audit(asked, recalled), name="audit")
                return self._hit(asked, Hit(recalled.entry, Layer.SEMANTIC, key.similarity))
            case Forward(reason, similarity):
                miss = Miss(CacheStatus.MISS, reason if exact is Reason.NO_ENTRY else exact, similarity)
                return await self._forward(asked, miss, key=asked.keys.key, recalled=recalled)

    async def _audit(self, asked: Asked, recalled: Recalled) -> None:
        """Ask the upstream what it would have answered. The learner has it judged, and keeps it as any answer."""
        await self._again.ask(asked, partial(self._learner.learn, asked, recalled=recalled))

    def _hit(self, asked: Asked, hit: Hit) -> Whole:
        self._teller.hit(asked, hit)
        now = self._now()
        fresh = Fresh(asked.arrival.token, int(now), asked.body)
        return render.replay(asked, hit, fresh=fresh, now=now, rules=self._render_rules)

    async def _forward(
        self,
        asked: Asked,
        miss: Miss,
        *,
        key: Hashable | None,
        recalled: Recalled | None = None,
    ) -> Reply:
        """Ask the upstream; equal requests find the flight under ``key``."""
        if asked.controls.only_if_cached:
            raise NotCached(f"nothing is cached for this request ({miss.reason}), and only-if-cached was asked")
        learn = partial(self._learner.learn, asked, recalled=recalled)
        if key is not None and (flight := self._flights.find(key)) is not None:
            return await self._join(asked, flight.listen())
        shared = self._relay is not None and key == asked.keys.key
        fly = self._relay.fly if self._relay is not None and shared else self._forwarder.fly
        flight = self._flights.start(key, lambda flight: fly(flight, asked, learn), streaming=asked.view.stream)

        def told(outcome: Outcome) -> None:
            if not flight.followed:  # else as who joined it
                self._teller.missed(asked, miss, outcome)

        flight.when_ended(told)
        listener = flight.listen()
        try:
            head = await listener.head()
            if flight.followed:
                return await self._join(asked, listener)
            head = _signed(asked, head)
            if head.whole is None:
                return self._stream(asked, head, listener, self._notes(render.miss_headers(miss)))
            outcome = await listener.end()
            notes = render.miss_headers(miss, cost_usd=outcome.cost_usd if head.status in _SUCCESS else None)
            listener.leave()
            return Whole(head.status, [*head.headers, *self._notes(notes)], head.whole)
        except BaseException:
            listener.leave()
            raise

    async def _join(self, asked: Asked, listener: Listener) -> Reply:
        """Share an equal request's flight. One in the other stream mode is waited for and told in this one's."""
        flight = listener.flight
        try:
            if flight.streaming == asked.view.stream:
                head = await listener.head()
                # Another process's flight, which this one may have turned out to follow, has a mode of its own.
                if head.whole is None and flight.streaming == asked.view.stream:
                    head = _signed(asked, head.with_headers(shared(head.headers)))
                    flight.when_ended(lambda outcome: self._teller.joined(asked, outcome))
                    return self._stream(asked, head, listener, self._notes(render.coalesced_headers()))
            outcome = await listener.end()
            head = await listener.head()
            listener.leave()
        except BaseException as error:
            listener.leave()
            if isinstance(error, ProxyError):
                flight.when_ended(lambda outcome: self._teller.joined(asked, outcome))
            raise
        if outcome.entry is not None:
            return self._hit(asked, Hit(outcome.entry, Layer.COALESCED))
        if head.whole is not None:
            headers = asked.arrival.sign(shared(head.headers), asked.dialect.request_id_header)
            self._teller.joined(asked, outcome)
            notes = render.miss_headers(Miss(CacheStatus.MISS, Reason.NO_ENTRY))
            return Whole(head.status, [*headers, *self._notes(notes)], head.whole)
        return await self._forward(asked, Miss(CacheStatus.MISS, Reason.NO_ENTRY), key=None)

    def _stream(self, asked: Asked, head: Head, listener: Listener, notes: Headers) -> Streamed:
        async def body() -> AsyncIterator[bytes]:
            try:
                async for data in listener.body(with_usage=asked.view.asks_usage):
                    yield data
            except ProxyError as error:
                if not head.events:
                    raise
                yield asked.dialect.error_event(error.status, error.code, error.message).encode()

        async def close() -> None:
            listener.leave()

        return Streamed(head.status, [*head.headers, *notes], body(), close)

    def _notes(self, headers: Headers) -> Headers:
        return headers if self._render_rules.expose_headers else ()


def _signed(asked: Asked, head: Head) -> Head:
    """The head with the request's id: the upstream's own, or ours where it gave none."""
    return head.with_headers(asked.arrival.sign(head.headers, asked.dialect.request_id_header))
