"""Vectors whose entry was never stored go from the index, and no others."""

import asyncio

import pytest
from support.switch import Holder
from support.waiting import until

from cacheproxy.errors import PortUnavailable
from cacheproxy.flow import prompts
from cacheproxy.index.flat import FlatIndex

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED}!"


@pytest.fixture
def store():
    return Holder()


@pytest.fixture(params=[0, 100], ids=["forgotten prompts", "remembered prompts"])
def remembered(request, monkeypatch):
    """A question is found by its prompt, which the proxy may still know when the entry is gone."""
    monkeypatch.setattr(prompts, "REMEMBERED", request.param)


async def test_a_vector_whose_entry_was_never_stored_goes_once_it_is_found(open_world, store, remembered):
    """It stayed in the index for good: each similar question found it, and nothing that could be served."""
    world = await open_world(threshold=0.8, around_store=store.around)
    store.adapter.failing = {"put": PortUnavailable("full")}
    await world.ask(ASKED)
    world.flow.l1.clear()
    assert len(world.index) == 1
    assert (await world.ask(SIMILAR)).cache == ("Miss", "expired")
    store.adapter.failing = {}
    world.flow.l1.clear()
    await world.ask(f"{ASKED}?")  # finds what SIMILAR left there
    assert len(world.index) == 1  # its own
    assert (await world.ask(ASKED)).cache == ("Hit", "semantic")


async def test_a_store_that_cannot_be_asked_does_not_say_that_it_lacks_anything(open_world, store, remembered):
    world = await open_world(threshold=0.8, around_store=store.around)
    await world.ask(ASKED)
    world.flow.l1.clear()
    store.adapter.failing = dict.fromkeys(("load", "uses", "put"), PortUnavailable("gone"))
    assert (await world.ask(SIMILAR)).cache == ("Miss", "store-unavailable")
    store.adapter.failing = {}
    assert (await world.ask(f"{ASKED}?")).cache == ("Hit", "semantic")


async def test_an_entry_on_its_way_to_the_store_stays_in_the_index(open_world, monkeypatch):
    monkeypatch.setattr(prompts, "REMEMBERED", 0)
    world = await open_world(threshold=0.8)
    put, stored = world.store.put, asyncio.Event()

    async def late(*entries, samples=1):
        await stored.wait()
        await put(*entries, samples=samples)

    monkeypatch.setattr(world.store, "put", late)
    await world.send(world.chat(ASKED))
    await until(lambda: len(world.index) == 1)
    world.flow.l1.clear()
    assert (await world.send(world.chat(SIMILAR))).cache == ("Miss", "expired")
    stored.set()
    await world.settled()
    assert len(world.index) == 2


async def test_an_index_of_all_processes_is_left_alone(open_world, store):
    class Shared(FlatIndex):
        shared = True

    index = Shared()
    world = await open_world(threshold=0.8, around_store=store.around, around_index=lambda _: index)
    store.adapter.failing = {"put": PortUnavailable("full")}
    await world.ask(ASKED)
    world.flow.l1.clear()
    await world.ask(SIMILAR)
    assert len(index) == 2
