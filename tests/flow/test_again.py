"""The upstream is asked once more: paid for, told, shared with nobody, and kept only where somebody wants that."""

import pytest
from support.candidates import always
from support.judging import Coin, ScriptedJudge, same

from cacheproxy.errors import UpstreamTimeout
from cacheproxy.events import CheckKind
from cacheproxy.model import CheckVerdict
from cacheproxy.upstream.scripted import Answer, Fails

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED} please"


@pytest.fixture
async def served(open_world):
    """A world in which a similar question was answered, and that request."""

    async def build(**settings):
        world = await open_world(
            policy="certified", prior=always(5.0), judge=ScriptedJudge(same), dice=Coin(0.99), **settings
        )
        await world.ask(ASKED)
        hit = await world.ask(SIMILAR)
        assert hit.cache == ("Hit", "semantic")
        asked, recalled = world.proxy._lately.of(hit.headers["X-CacheProxy-Entry"], None)
        return world, asked, recalled

    return build


async def test_a_fresh_answer_is_booked_and_not_stored(served):
    world, asked, recalled = await served()
    fresh = await world.proxy._again.ask(asked)
    assert (fresh.prompt, fresh.cost_usd) == (SIMILAR, recalled.entry.cost_usd)
    assert [(check.kind, check.cost_usd) for check in world.audits] == [(CheckKind.AUDIT, fresh.cost_usd)]
    assert world.questions == [ASKED, SIMILAR]
    assert await world.entries() == 1


async def test_each_call_is_one_of_its_own(served):
    world, asked, _ = await served()
    one, other = await world.proxy._again.ask(asked), await world.proxy._again.ask(asked)
    assert one.id != other.id
    assert world.questions == [ASKED, SIMILAR, SIMILAR]


@pytest.mark.parametrize(
    "failure", [Fails(UpstreamTimeout("slow")), Answer(status=500, chunks=[b"{}"])], ids=["no answer", "status"]
)
async def test_no_answer_is_none(served, api, failure):
    world, asked, _ = await served(script=lambda got: api.echo(got) if api.question_of(got) == ASKED else failure)
    assert await world.proxy._again.ask(asked) is None
    assert [(check.kind, check.verdict) for check in world.audits] == [(CheckKind.AUDIT, CheckVerdict.UNKNOWN)]


@pytest.mark.parametrize(("allowance", "affords"), [(1.0, True), (0.0, False)])
async def test_what_it_may_cost_is_limited(served, allowance, affords):
    world, _, recalled = await served(decision={"audit_allowance_usd": allowance, "audit_share": 0.05})
    assert world.proxy._again.affords(recalled.entry) is affords
