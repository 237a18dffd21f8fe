"""The judge that needs nothing: two answers are equal but for their spelling, or are values that differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cacheproxy.core.agreement import same_answer
from cacheproxy.model import Verdict

if TYPE_CHECKING:
    from cacheproxy.tracing import Trace

NAME = "equality"


class EqualityJudge:
    """Canonical equality (see ``core.agreement.same_answer``). Cannot tell about prose that is worded differently."""

    async def judge(
        self,
        question: str,  # noqa: ARG002 - equal answers to anything
        cached: str,
        fresh: str,
        *,
        trace: Trace | None = None,  # noqa: ARG002 - nobody is called
    ) -> Verdict:
        """The verdict, at no cost."""
        return equality(cached, fresh)


def equality(cached: str, fresh: str) -> Verdict:
    """The same as a function, for judges that begin with it."""
    match same_answer(cached, fresh):
        case True:
            return Verdict(same=True, by=NAME, why="equal but for spelling")
        case False:
            return Verdict(same=False, by=NAME, why="two values that differ")
        case None:
            return Verdict(same=None, by=NAME, why="worded differently")
