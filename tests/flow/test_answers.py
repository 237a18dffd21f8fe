"""What is read out of an answer, and what cannot be."""

from cacheproxy.flow.answers import response_tag, text_of
from cacheproxy.model import Selection

ASKED = "Please tell me what a reverse proxy does"


async def stored(world):
    (entry,) = await world.store.browse(Selection(), limit=10)
    return entry


async def test_an_answer_becomes_an_entry_with_its_price(open_world, api):
    world = await open_world()
    await world.ask(ASKED)
    entry = await stored(world)
    assert (entry.prompt, entry.model, entry.semantic) == (ASKED, "gpt-4o-mini-2024-07-18", True)
    assert entry.cost_usd == world.told[0].cost_usd > 0
    assert entry.expires_at - entry.created_at == world.settings.cache.ttl_s


async def test_an_answer_that_cannot_be_read_has_no_entry_and_no_price(open_world, api):
    world = await open_world(script=lambda _: api.whole(["no answer"]))
    reply = await world.ask(ASKED)
    assert reply.status == 200
    assert world.told[0].cost_usd == 0.0
    assert await world.entries() == 0


async def test_its_text_is_what_was_said(open_world, make_entry):
    world = await open_world()
    seen = []
    decide = world.proxy._recall.decide

    async def watched(asked):
        seen.append(asked)
        return await decide(asked)

    world.proxy._recall.decide = watched
    await world.ask(ASKED)
    assert text_of(seen[0], make_entry("a cache")) == "It is a cache."
    assert text_of(seen[0], make_entry("b", answer=b"no json")) == "no json"


def test_a_retained_answer_is_found_by_its_id():
    assert response_tag("resp_1") == "response:resp_1"
