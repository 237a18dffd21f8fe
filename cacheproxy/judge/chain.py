"""Judges one after the other, the cheapest first: the first one that can tell is believed.

Here judging fails open: a judge that raises has said nothing, and the next one is asked. Where none can tell, ``same``
is None and ``why`` holds what each of them said.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cacheproxy.errors import ProxyError
from cacheproxy.judge.equality import EqualityJudge
from cacheproxy.judge.semantic import SemanticJudge
from cacheproxy.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.ports import Embedder, Judge
    from cacheproxy.tracing import Trace

log = logging.getLogger(__name__)


class JudgeChain:
    """Asks its judges in turn. The cost is that of all that were asked, ``by`` the one that spoke, if any."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        self._judges = tuple(judges)

    async def judge(self, question: str, cached: str, fresh: str, *, trace: Trace | None = None) -> Verdict:
        """The first verdict that is one. Never raises."""
        cost_usd = 0.0
        reasons: list[str] = []
        for judge in self._judges:
            verdict = await _asked(judge, question, cached, fresh, trace)
            cost_usd += verdict.cost_usd
            if verdict.same is not None:
                return Verdict(verdict.same, cost_usd, verdict.by, verdict.why)
            reasons.append(f"{verdict.by}: {verdict.why}" if verdict.by else verdict.why)
        return Verdict(same=None, cost_usd=cost_usd, why="; ".join(reasons))


def automatic(embedder: Embedder | None, llm: Judge | None) -> JudgeChain:
    """The judge of ``judge: auto``: equality, then meaning and facts, then a model where one is set."""
    semantic = () if embedder is None else (SemanticJudge(embedder),)
    return JudgeChain((EqualityJudge(), *semantic, *(() if llm is None else (llm,))))


async def _asked(judge: Judge, question: str, cached: str, fresh: str, trace: Trace | None) -> Verdict:
    try:
        return await judge.judge(question, cached, fresh, trace=trace)
    except ProxyError as error:
        return Verdict(same=None, why=error.message)
    except Exception:
        log.exception("%s broke its contract", type(judge).__name__)
        return Verdict(same=None, why=f"{type(judge).__name__} failed")
