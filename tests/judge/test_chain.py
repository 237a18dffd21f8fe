"""The chain believes the first judge that can tell, adds up what was spent, and never raises."""

from __future__ import annotations

import asyncio

import pytest

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import PortUnavailable
from cacheproxy.judge.chain import JudgeChain, automatic
from cacheproxy.model import Verdict

SILENT = Verdict(same=None, cost_usd=0.25, by="first", why="no idea")
SPEAKS = Verdict(same=False, cost_usd=0.5, by="second", why="another number")


class Scripted:
    """A judge that says one thing, or fails."""

    def __init__(self, says: Verdict | BaseException) -> None:
        self.says = says
        self.asked = 0

    async def judge(self, question, cached, fresh, *, trace=None):
        self.asked += 1
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says


async def test_the_first_verdict_is_believed_and_all_costs_add_up():
    last = Scripted(SPEAKS)
    verdict = await JudgeChain([Scripted(SILENT), Scripted(SPEAKS), last]).judge("q", "a", "b")
    assert verdict == Verdict(same=False, cost_usd=0.75, by="second", why="another number")
    assert last.asked == 0


async def test_where_none_can_tell_the_reasons_are_told():
    verdict = await JudgeChain([Scripted(SILENT), Scripted(SILENT)]).judge("q", "a", "b")
    assert verdict == Verdict(same=None, cost_usd=0.5, why="first: no idea; first: no idea")


@pytest.mark.parametrize("error", [PortUnavailable("the embedder is gone"), ZeroDivisionError()], ids=["ours", "bug"])
async def test_a_judge_that_fails_is_passed_over(error, caplog):
    verdict = await JudgeChain([Scripted(error), Scripted(SPEAKS)]).judge("q", "a", "b")
    assert verdict.same is False
    assert ("broke its contract" in caplog.text) == isinstance(error, ZeroDivisionError)
    assert (await JudgeChain([Scripted(error)]).judge("q", "a", "b")).same is None


async def test_cancelling_is_no_verdict():
    with pytest.raises(asyncio.CancelledError):
        await JudgeChain([Scripted(asyncio.CancelledError())]).judge("q", "a", "b")


@pytest.mark.parametrize(
    ("cached", "fresh", "by"),
    [
        ("Paris", "paris", "equality"),
        ("It takes 3 days to arrive at your door.", "It takes 5 days to arrive at your door.", "semantic"),
        ("It will be sent by post.", "We have mailed the parcel already.", "second"),
    ],
)
async def test_the_automatic_judge_asks_the_cheapest_first(cached, fresh, by):
    judge = automatic(HashedEmbedder(), Scripted(SPEAKS))
    if by == "second":
        judge = automatic(None, Scripted(SPEAKS))
    assert (await judge.judge("q", cached, fresh)).by == by
