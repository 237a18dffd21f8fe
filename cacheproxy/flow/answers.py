"""A complete answer read, counted and priced: what would be stored of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cacheproxy import jsontext
from cacheproxy.core.pricing import estimate_tokens
from cacheproxy.flow.coalesce import Outcome
from cacheproxy.model import Entry, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from cacheproxy.flow.asked import Asked
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import AnswerView
    from cacheproxy.ports import Prices


@dataclass(frozen=True, slots=True)
class Answers:
    """Reads what upstreams answer."""

    prices: Prices
    now: Callable[[], float]
    new_id: Callable[[float, bytes], str]

    def read(
        self, asked: Asked, answer: JsonObject, text: bytes | None, *, upstream_ms: float, upstream: str
    ) -> tuple[Outcome, AnswerView | None]:
        """The outcome with its entry, and what the dialect read; no entry where that cannot be read.

        ``text`` is the answer as JSON, where there is one already; ``upstream`` names who gave it.
        """
        try:
            view = asked.dialect.read(answer)
            text = text or jsontext.dump(answer)
        except ValueError:
            return Outcome(http_status=200, upstream_ms=upstream_ms), None
        usage = view.usage or _estimated(asked, view)
        model = view.model or asked.view.model
        cost = self.prices.usd(model=model, upstream=upstream, usage=usage)
        now, tags = self.now(), asked.controls.tags
        if asked.view.retained_upstream and isinstance(answer.get("id"), str):
            tags = (*tags, response_tag(answer["id"]))
        entry = Entry(
            id=self.new_id(now, asked.keys.key),
            key=asked.keys.key,
            scope=asked.keys.scope,
            tenant=asked.tenant,
            dialect=asked.dialect.name,
            upstream=upstream,
            model=model,
            prompt=asked.prompt,
            answer=text,
            usage=usage,
            cost_usd=cost,
            latency_ms=upstream_ms,
            created_at=now,
            expires_at=now + asked.eligibility.ttl_s,
            semantic=asked.eligibility.exact_only is None and not view.exact_only,
            namespace=asked.controls.namespace,
            tags=tags,
        )
        return Outcome(200, entry, usage, cost, upstream_ms), view


def response_tag(response_id: str) -> str:
    """The tag under which an answer that the upstream retains is found by its id."""
    return f"response:{response_id}"


def text_of(asked: Asked, entry: Entry) -> str:
    """The plain text of an answer to this request; its JSON where it cannot be read."""
    try:
        return asked.dialect.read(jsontext.parse(entry.answer)).text
    except ValueError:
        return entry.answer.decode("utf-8", "replace")


def _estimated(asked: Asked, read: AnswerView) -> Usage:
    asked_text = jsontext.dump(asked.body).decode("utf-8", "replace")
    return Usage(estimate_tokens(asked_text), estimate_tokens(read.text), estimated=True)
