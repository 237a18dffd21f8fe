"""Embeddings requests: each input is an entry of its own, and only the missing ones go upstream, in their order."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from cacheproxy import jsontext
from cacheproxy.core import scope
from cacheproxy.core.pricing import total_usd
from cacheproxy.errors import NotCached
from cacheproxy.flow import render
from cacheproxy.flow.asked import plain_body
from cacheproxy.flow.coalesce import Outcome
from cacheproxy.flow.messages import Streamed, Whole
from cacheproxy.flow.tee import plain_answer
from cacheproxy.flow.told import Hit, Miss, Saved
from cacheproxy.model import NO_USAGE, CacheStatus, Entry, Layer, Reason, Usage
from cacheproxy.upstream.headers import shared
from cacheproxy.wire import openai_embeddings as wire
from cacheproxy.wire.dialect import Fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cacheproxy.core.scope import KeyRules
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.coalesce import Flight, Flights
    from cacheproxy.flow.credentials import Proofs
    from cacheproxy.flow.exact import Exact
    from cacheproxy.flow.forward import Forwarder
    from cacheproxy.flow.learn import Learner
    from cacheproxy.flow.messages import Reply
    from cacheproxy.flow.render import RenderRules
    from cacheproxy.flow.told import Teller
    from cacheproxy.jsontext import JsonObject

_SUCCESS: Final = range(200, 300)


class CachedEmbeddings:
    """Answers embeddings requests, input by input."""

    def __init__(
        self,
        *,
        exact: Exact,
        flights: Flights,
        forwarder: Forwarder,
        learner: Learner,
        proofs: Proofs,
        teller: Teller,
        keys: KeyRules,
        render_rules: RenderRules,
        now: Callable[[], float],
    ) -> None:
        self._exact = exact
        self._flights = flights
        self._forwarder = forwarder
        self._learner = learner
        self._proofs = proofs
        self._teller = teller
        self._keys = keys
        self._render_rules = render_rules
        self._now = now

    async def answer(self, asked: Asked) -> Reply:
        """Answer from the cache what is there, and forward the rest as one request."""
        cut = wire.inputs(asked.body)
        singles = [self._single(asked, cut, value) for value in cut.values]
        found = await self._found(singles)
        held = [entry for entry in found if isinstance(entry, Entry)]
        if len(held) == len(found):
            return self._hit(asked, held)
        missing = [place for place, entry in enumerate(found) if not isinstance(entry, Entry)]
        why = next(reason for reason in found if isinstance(reason, Reason))
        if asked.controls.only_if_cached:
            raise NotCached(f"{len(missing)} of {len(found)} inputs are not cached, and only-if-cached was asked")
        status = CacheStatus.MISS if not asked.controls.no_cache else CacheStatus.REFRESH
        return await self._fetch(asked, cut, singles, found, missing, Miss(status, why))

    def _single(self, asked: Asked, cut: wire.Inputs, value: wire.Input) -> Asked:
        """The request for one of the inputs."""
        body = {**cut.skeleton, "input": value}
        view = replace(asked.view, skeleton=body)
        return replace(asked, body=body, view=view, keys=scope.keys(asked.place, body, body, (), self._keys))

    async def _found(self, singles: Sequence[Asked]) -> list[Entry | Reason]:
        asked = singles[0]
        if asked.controls.no_cache:
            return [Reason.NO_CACHE] * len(singles)
        if not await self._proofs.proven(asked.credential):
            return [Reason.CREDENTIAL_UNPROVEN] * len(singles)
        max_age_s = asked.controls.max_age_s
        return [await self._exact.find(single.keys.key, max_age_s=max_age_s) for single in singles]

    def _hit(self, asked: Asked, entries: Sequence[Entry]) -> Whole:
        saved = _sum([entry.usage for entry in entries])
        whole = replace(
            entries[0],
            usage=saved,
            cost_usd=total_usd(entry.cost_usd for entry in entries),
            latency_ms=max(entry.latency_ms for entry in entries),
            created_at=min(entry.created_at for entry in entries),
            expires_at=min(entry.expires_at for entry in entries),
            answer=jsontext.dump(wire.merge([jsontext.parse(entry.answer) for entry in entries])),
        )
        hit = Hit(whole, Layer.EXACT)
        self._teller.hit(asked, hit)
        now = self._now()
        fresh = Fresh(asked.arrival.token, int(now), asked.body)
        return render.replay(asked, hit, fresh=fresh, now=now, rules=self._render_rules)

    async def _fetch(
        self,
        asked: Asked,
        cut: wire.Inputs,
        singles: Sequence[Asked],
        found: Sequence[Entry | Reason],
        missing: Sequence[int],
        miss: Miss,
    ) -> Reply:
        """Forward the missing inputs; equal requests with the same gaps share the call."""
        wanted = [singles[place] for place in missing]
        values = [cut.values[place] for place in missing]
        if len(missing) < len(found):
            part = replace(asked, raw=wire.missing_body(plain_body(asked), cut, missing), recoded=True)
        else:
            part = asked
        key = None
        if miss.status is CacheStatus.MISS:
            # An unproven credential shares only with itself.
            proof = asked.credential if miss.reason is Reason.CREDENTIAL_UNPROVEN else ""
            key = (asked.keys.key, tuple(missing), proof)
        flight = self._flights.find(key) if key is not None else None
        joined = flight is not None
        if flight is None:
            learn = partial(self._learn, wanted, values)
            flight = self._flights.start(key, lambda flight: self._forwarder.fly(flight, part, learn), streaming=False)
            held = [entry for entry in found if isinstance(entry, Entry)]
            saved = Saved(_sum([entry.usage for entry in held]), total_usd(entry.cost_usd for entry in held))
            flight.when_ended(lambda outcome: self._teller.missed(asked, miss, outcome, saved))
        else:
            flight.when_ended(lambda outcome: self._teller.joined(asked, outcome))
        reply = await self._reply(asked, flight, found, values, miss, joined=joined)
        if reply is None:
            everything = [miss.reason] * len(found)
            return await self._fetch(asked, cut, singles, everything, range(len(found)), miss)
        return reply

    def _learn(
        self,
        wanted: Sequence[Asked],
        values: Sequence[wire.Input],
        answer: JsonObject,
        _: bytes | None,
        *,
        upstream_ms: float,
        upstream: str,
    ) -> Outcome:
        try:
            answers = wire.split(answer, values)
        except ValueError:
            return Outcome(http_status=200, upstream_ms=upstream_ms)
        outcomes = [
            self._learner.learn(single, one, None, recalled=None, upstream_ms=upstream_ms, upstream=upstream)
            for single, one in zip(wanted, answers, strict=True)
        ]
        usage = _sum([outcome.usage for outcome in outcomes])
        cost_usd = total_usd(outcome.cost_usd for outcome in outcomes)
        return Outcome(200, outcomes[0].entry, usage, cost_usd, upstream_ms)

    async def _reply(
        self,
        asked: Asked,
        flight: Flight,
        found: Sequence[Entry | Reason],
        values: Sequence[wire.Input],
        miss: Miss,
        *,
        joined: bool,
    ) -> Reply | None:
        """What the flight brought with what was found; None when it brought a part that cannot be put to the rest."""
        partial_answer = len(values) < len(found)
        listener = flight.listen()

        async def close() -> None:
            listener.leave()

        try:
            head = await listener.head()
            received = shared(head.headers) if joined else head.headers
            head = replace(head, headers=asked.arrival.sign(received, asked.dialect.request_id_header))
            if head.whole is None and partial_answer:
                listener.leave()
                return None
            if head.whole is None:
                notes = render.miss_headers(miss) if self._render_rules.expose_headers else []
                return Streamed(head.status, [*head.headers, *notes], listener.body(with_usage=True), close)
            outcome = await listener.end()
        except BaseException:
            listener.leave()
            raise
        listener.leave()
        answered = outcome.entry is not None
        if joined and answered:
            notes = render.coalesced_headers()
        else:
            notes = render.miss_headers(miss, cost_usd=outcome.cost_usd if answered else None)
        if not self._render_rules.expose_headers:
            notes = []
        if not partial_answer or head.status not in _SUCCESS:
            return Whole(head.status, [*head.headers, *notes], head.whole)
        if not answered:
            return None
        new = iter(wire.split(jsontext.parse(plain_answer(head.whole, head.headers)), values))
        answers = [jsontext.parse(entry.answer) if isinstance(entry, Entry) else next(new) for entry in found]
        headers = [pair for pair in head.headers if pair[0].lower() != "content-encoding"]
        return Whole(head.status, [*headers, *notes], jsontext.dump(wire.merge(answers)))


def _sum(usages: Sequence[Usage]) -> Usage:
    if not usages:
        return NO_USAGE
    return Usage(
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.cache_read_tokens for usage in usages),
        sum(usage.cache_write_tokens for usage in usages),
        any(usage.estimated for usage in usages),
    )
