"""Prompts of indexed entries: from memory where they are known, else from the store, and never without bound."""

import pytest

from cacheproxy.errors import PortUnavailable
from cacheproxy.flow import prompts
from cacheproxy.flow.l1 import L1
from cacheproxy.flow.prompts import Prompts
from cacheproxy.flow.shelter import Shelter
from cacheproxy.server.metrics import Metrics


class Shelf:
    """A store that loads what lies on it."""

    def __init__(self, *entries):
        self.entries = {entry.id: entry for entry in entries}
        self.loads = []
        self.error = None

    async def load(self, ids):
        self.loads.append(list(ids))
        if self.error is not None:
            raise self.error
        return [self.entries[entry_id] for entry_id in ids if entry_id in self.entries]


@pytest.fixture
def prompts_over(clock):
    def build(store, l1=None):
        shelter = Shelter("store", deadline_s=10, clock=clock, watch=Metrics())
        return Prompts(store=store, loading=shelter, l1=l1 or L1(100_000))

    return build


async def test_a_prompt_is_asked_of_the_store_once(prompts_over, make_entry):
    store = Shelf(make_entry("a"), make_entry("b"))
    known = prompts_over(store)
    first = await known.of(["id-a", "id-b", "id-gone"])
    assert {entry_id: prompt.text for entry_id, prompt in first.items()} == {
        "id-a": "What is a?",
        "id-b": "What is b?",
    }
    assert await known.of(["id-b", "id-a"]) == first
    assert store.loads == [["id-a", "id-b", "id-gone"]]


async def test_an_entry_in_memory_need_not_be_loaded(prompts_over, make_entry):
    store, l1, entry = Shelf(), L1(100_000), make_entry("a")
    l1.keep((entry,))
    found = await prompts_over(store, l1).of(["id-a"])
    assert (found["id-a"].text, found["id-a"].expires_at) == (entry.prompt, entry.expires_at)
    assert store.loads == []


async def test_what_had_to_be_loaded_is_handed_on(prompts_over, make_entry):
    known, loaded = prompts_over(Shelf(make_entry("a"), make_entry("b"))), {}
    known.learn(make_entry("a"))
    await known.of(["id-a", "id-b"], loaded)
    assert loaded == {"id-b": make_entry("b")}


async def test_a_store_that_does_not_answer_is_told_apart_from_an_entry_that_is_gone(prompts_over, make_entry):
    store = Shelf(make_entry("a"))
    known = prompts_over(store)
    assert await known.of(["id-gone"]) == {}
    store.error = PortUnavailable("gone")
    assert await known.of(["id-a"]) is None


async def test_what_is_gone_is_forgotten(prompts_over, make_entry):
    known = prompts_over(Shelf())
    known.learn(make_entry("a"))
    known.forget(["id-a", "id-never-seen"])
    assert await known.of(["id-a"]) == {}


async def test_what_was_used_longest_ago_is_forgotten_first(prompts_over, make_entry, monkeypatch):
    monkeypatch.setattr(prompts, "REMEMBERED", 2)
    store = Shelf()
    known = prompts_over(store)
    known.learn(make_entry("a"))
    known.learn(make_entry("b"))
    await known.of(["id-a"])
    known.learn(make_entry("c"))
    assert set(await known.of(["id-a", "id-b", "id-c"])) == {"id-a", "id-c"}
