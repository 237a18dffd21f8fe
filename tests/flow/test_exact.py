"""The exact layer, over a store that can be held up."""

import asyncio

import pytest

from cacheproxy.errors import PortUnavailable
from cacheproxy.flow.exact import Exact
from cacheproxy.flow.feedback import Withdrawn
from cacheproxy.flow.l1 import L1
from cacheproxy.flow.shelter import Shelter
from cacheproxy.model import Reason
from cacheproxy.server.metrics import Metrics

KEY = b"key-a"


class Shelf:
    """A store that finds what lies on it."""

    def __init__(self, *entries):
        self.entries = entries
        self.finds = 0
        self.gate = None
        self.error = None

    def may_hold(self, key):
        return True

    async def find(self, key):
        self.finds += 1
        found = [entry for entry in self.entries if entry.key == key]
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return found


@pytest.fixture
def exact_over(clock):
    def build(store, *, samples=1, draw=0.0, l1_bytes=100_000, withdrawn=None):
        shelter = Shelter("store", deadline_s=10, clock=clock, watch=Metrics())
        l1 = L1(l1_bytes)
        exact = Exact(
            store=store,
            reads=shelter,
            l1=l1,
            samples=samples,
            withdrawn=withdrawn or Withdrawn(),
            now=clock,
            draw=lambda: draw,
        )
        return exact, l1

    return build


async def test_what_was_found_once_is_found_in_memory(exact_over, make_entry):
    exact, _ = exact_over(shelf := Shelf(make_entry()))
    assert await exact.find(KEY, max_age_s=None) == make_entry()
    assert await exact.find(KEY, max_age_s=None) == make_entry()
    assert shelf.finds == 1


async def test_nothing_is_no_entry(exact_over):
    exact, _ = exact_over(Shelf())
    assert await exact.find(KEY, max_age_s=None) is Reason.NO_ENTRY


@pytest.mark.parametrize(
    ("age_s", "max_age_s", "reason"),
    [(3600, None, Reason.EXPIRED), (100, 99, Reason.TOO_OLD), (100, 0, Reason.TOO_OLD)],
)
async def test_a_stale_entry_tells_why(exact_over, make_entry, clock, age_s, max_age_s, reason):
    exact, _ = exact_over(Shelf(make_entry()))
    clock.now += age_s
    assert await exact.find(KEY, max_age_s=max_age_s) is reason


async def test_a_store_that_fails_is_told_and_memory_still_serves(exact_over, make_entry):
    exact, l1 = exact_over(shelf := Shelf())
    shelf.error = PortUnavailable("gone")
    assert await exact.find(KEY, max_age_s=None) is Reason.STORE_UNAVAILABLE
    l1.keep([make_entry()])
    assert await exact.find(KEY, max_age_s=None) == make_entry()


async def test_an_answer_learnt_while_the_store_was_asked_is_not_replaced_by_an_older_one(exact_over, make_entry):
    old, new = make_entry(), make_entry(id="new")
    exact, l1 = exact_over(shelf := Shelf(old))
    shelf.gate = asyncio.Event()
    asking = asyncio.gather(exact.find(KEY, max_age_s=None))
    await asyncio.sleep(0)
    l1.keep([new])
    shelf.gate.set()
    assert await asking == [new]
    assert l1.find(KEY) == (new,)


@pytest.mark.parametrize(("draw", "chosen"), [(0.0, 0), (0.34, 1), (0.999999, 2)])
async def test_one_of_several_samples_is_drawn(exact_over, make_entry, draw, chosen):
    samples = [make_entry(id=f"{number}") for number in range(3)]
    exact, _ = exact_over(Shelf(*samples), samples=3, draw=draw)
    assert await exact.find(KEY, max_age_s=None) == samples[chosen]


async def test_too_few_samples_ask_for_more(exact_over, make_entry):
    exact, l1 = exact_over(Shelf(make_entry(id="1"), make_entry(id="2")), samples=3)
    assert await exact.find(KEY, max_age_s=None) is Reason.SAMPLING
    l1.drop_key(KEY)
    l1.keep([make_entry(id="2")])
    assert await exact.find(KEY, max_age_s=None) is Reason.SAMPLING
    assert len(l1.find(KEY)) == 2


async def test_stale_samples_do_not_count(exact_over, make_entry, clock):
    samples = [make_entry(id="1"), make_entry(id="2", expires_at=clock.now + 10)]
    exact, _ = exact_over(Shelf(*samples), samples=2)
    clock.now += 10
    assert await exact.find(KEY, max_age_s=None) is Reason.SAMPLING


async def test_a_store_that_certainly_holds_nothing_is_not_asked(exact_over):
    shelf = Shelf()
    shelf.may_hold = lambda key: False
    exact, _ = exact_over(shelf)
    assert await exact.find(KEY, max_age_s=None) is Reason.NO_ENTRY
    assert shelf.finds == 0


async def test_a_suspended_entry_is_not_served_until_it_is_lifted(exact_over, make_entry):
    withdrawn = Withdrawn()
    exact, _ = exact_over(Shelf(make_entry()), withdrawn=withdrawn)
    withdrawn.suspend("id-a", "")
    assert await exact.find(KEY, max_age_s=None) is Reason.SUSPENDED
    withdrawn.lift("id-a")
    assert (await exact.find(KEY, max_age_s=None)).id == "id-a"
