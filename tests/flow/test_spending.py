"""What judges may spend: a little in advance, then a share of what was saved, and no sum twice."""

import pytest
from support.candidates import always
from support.judging import ScriptedJudge

from cacheproxy.flow.spending import ALLOWANCE_USD, AuditLimit, Spending

ASKED = "Please tell me what a reverse proxy does"


async def saved(open_world):
    """What a hit is told as."""
    world = await open_world(judge=ScriptedJudge())
    await world.ask(ASKED)
    await world.ask(ASKED)
    return world.told[-1]


def test_the_first_verdicts_are_paid_in_advance():
    spending = Spending(0.05)
    assert spending.reserve(ALLOWANCE_USD)
    assert not spending.reserve(1e-9)


async def test_a_share_of_what_was_saved_may_be_spent(open_world):
    spending, hit = Spending(0.5), await saved(open_world)
    assert hit.saved_usd > 0
    assert spending.reserve(ALLOWANCE_USD)
    spending.served(hit)
    assert not spending.reserve(hit.saved_usd)
    assert spending.reserve(0.4 * hit.saved_usd)


@pytest.mark.parametrize(("spent", "left"), [(0.0, True), (ALLOWANCE_USD, False)])
def test_what_a_reservation_came_to_is_what_counts(spent, left):
    spending = Spending(0.05)
    assert spending.reserve(ALLOWANCE_USD)
    spending.settle(ALLOWANCE_USD, spent)
    assert spending.reserve(ALLOWANCE_USD / 2) is left


async def test_audits_have_an_allowance_and_then_a_share_of_what_was_saved(open_world):
    world = await open_world(judge=ScriptedJudge(), policy="certified", prior=always(5.0), audit_rate=1)
    await world.ask(ASKED)
    await world.ask(f"{ASKED} please")
    (hit,) = [event for event in world.told if event.saved_usd]
    (audit,) = [event for event in world.audits if event.cost_usd]
    limit = AuditLimit(0.5, audit.cost_usd)
    assert limit.allows(audit.cost_usd)
    limit.audited(audit)
    assert not limit.allows(audit.cost_usd / 4)
    limit.served(hit)
    assert limit.allows(hit.saved_usd / 2)
    assert not limit.allows(hit.saved_usd)


async def test_what_judges_cost_is_not_on_the_account_of_audits(open_world):
    world = await open_world(judge=ScriptedJudge(cost_usd=100.0), policy="certified")
    await world.ask(ASKED)
    await world.ask(f"{ASKED} please")
    limit = AuditLimit(0.0, 1.0)
    for event in world.audits:
        limit.audited(event)
    assert world.audits
    assert limit.allows(1.0)
