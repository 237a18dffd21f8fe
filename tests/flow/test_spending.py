"""What judges may spend: a little in advance, then a share of what was saved, and no sum twice."""

import pytest
from support.judging import ScriptedJudge

from cacheproxy.flow.spending import ALLOWANCE_USD, Spending

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
