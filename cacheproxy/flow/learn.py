"""What becomes of a complete answer: it is read, priced, and kept where it may be kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cacheproxy import jsontext
from cacheproxy.core.pricing import estimate_tokens
from cacheproxy.flow.coalesce import Outcome
from cacheproxy.model import Entry, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.recall import Recall
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import AnswerView, Vector
    from cacheproxy.ports import Prices, Store
    from cacheproxy.tasks import TaskSet


@dataclass(frozen=True, slots=True)
class KeepRules:
    """What is kept: answers up to ``max_answer_bytes``, ``samples`` of them per key."""

    max_answer_bytes: int = 4 * 1024 * 1024
    samples: int = 1


class Learner:
    """Turns answers into entries."""

    def __init__(
        self,
        *,
        store: Store,
        writes: Shelter,
        l1: L1,
        recall: Recall,
        prices: Prices,
        rules: KeepRules,
        tasks: TaskSet,
        now: Callable[[], float],
        new_id: Callable[[float], str],
    ) -> None:
        self._store = store
        self._writes = writes
        self._l1 = l1
        self._recall = recall
        self._prices = prices
        self._rules = rules
        self._tasks = tasks
        self._now = now
        self._new_id = new_id

    def learn(self, asked: Asked, answer: JsonObject, *, vector: Vector | None, upstream_ms: float) -> Outcome:
        """Read an answer, and keep it where that is allowed. An equal request finds it as soon as this returns."""
        try:
            read = asked.dialect.read(answer)
            text = jsontext.dump(answer)
        except ValueError:
            return Outcome(http_status=200, upstream_ms=upstream_ms)
        usage = read.usage or _estimated(asked, read)
        model = read.model or asked.view.model
        cost = self._prices.usd(model=model, upstream=asked.route.target.name, usage=usage) or 0.0
        entry = self._entry(asked, answer, text, read, usage=usage, cost_usd=cost, upstream_ms=upstream_ms)
        if self._may_keep(asked, entry, read):
            self._l1.keep((*self._l1.find(entry.key), entry)[-self._rules.samples :])
            self._tasks.start(self._keep(entry, vector), name="keep")
        return Outcome(200, entry, usage, cost, upstream_ms)

    def _entry(
        self,
        asked: Asked,
        answer: JsonObject,
        text: bytes,
        read: AnswerView,
        *,
        usage: Usage,
        cost_usd: float,
        upstream_ms: float,
    ) -> Entry:
        now = self._now()
        tags = asked.controls.tags
        if asked.view.retained_upstream and isinstance(answer.get("id"), str):
            tags = (*tags, response_tag(answer["id"]))
        return Entry(
            id=self._new_id(now),
            key=asked.keys.key,
            scope=asked.keys.scope,
            tenant=asked.tenant,
            dialect=asked.dialect.name,
            upstream=asked.route.target.name,
            model=read.model or asked.view.model,
            prompt=asked.prompt,
            answer=text,
            usage=usage,
            cost_usd=cost_usd,
            latency_ms=upstream_ms,
            created_at=now,
            expires_at=now + asked.eligibility.ttl_s,
            semantic=asked.eligibility.exact_only is None and not read.exact_only,
            namespace=asked.controls.namespace,
            tags=tags,
        )

    def _may_keep(self, asked: Asked, entry: Entry, read: AnswerView) -> bool:
        return (
            read.storable
            and asked.bypass is None
            and asked.eligibility.ttl_s > 0
            and len(entry.answer) <= self._rules.max_answer_bytes
        )

    async def _keep(self, entry: Entry, vector: Vector | None) -> None:
        placing = self._tasks.begin(self._recall.place(entry, vector), name="place") if entry.semantic else None
        await self._writes.call("put", partial(self._store.put, entry, samples=self._rules.samples))
        placed = await placing if placing is not None else None
        if placed is not None:
            await self._writes.call("set_vector", partial(self._store.set_vector, entry.id, placed))


def response_tag(response_id: str) -> str:
    """The tag under which an answer that the upstream retains is found by its id."""
    return f"response:{response_id}"


def _estimated(asked: Asked, read: AnswerView) -> Usage:
    asked_text = jsontext.dump(asked.body).decode("utf-8", "replace")
    return Usage(estimate_tokens(asked_text), estimate_tokens(read.text), estimated=True)
