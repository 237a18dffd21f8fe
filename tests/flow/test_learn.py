"""What is stored, as what, and for how long."""

import asyncio
import json

import pytest
from support.switch import Holder

from cacheproxy.errors import PortUnavailable
from cacheproxy.flow import learn
from cacheproxy.flow.answers import response_tag
from cacheproxy.model import Selection, Usage
from cacheproxy.upstream.scripted import Answer

ASKED = "Please tell me what a reverse proxy does"
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


async def stored(world):
    return await world.store.browse(Selection(), limit=10)


async def test_an_answer_is_stored_with_all_that_is_known_about_it(open_world):
    world = await open_world()
    await world.ask(ASKED, headers={"X-CacheProxy-Tags": "docs,faq", "X-CacheProxy-Namespace": "n"})
    (entry,) = await stored(world)
    assert (entry.prompt, entry.dialect, entry.upstream) == (ASKED, "openai-chat", "default")
    assert entry.model == "gpt-4o-mini-2024-07-18"
    assert entry.usage == Usage(10, 20)
    assert entry.cost_usd > 0
    assert (entry.created_at, entry.expires_at) == (world.clock.now, world.clock.now + 86_400)
    assert (entry.tags, entry.namespace, entry.semantic) == (("docs", "faq"), "n", True)
    assert "sk-test" not in repr(entry)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("finish", "message"),
    [
        pytest.param("content_filter", {}, id="content filter"),
        pytest.param("stop", {"refusal": "I cannot help with that."}, id="refusal"),
        pytest.param("error", {}, id="unknown finish"),
    ],
)
async def test_refused_and_filtered_answers_are_not_stored(open_world, api, finish, message, stream):
    answer = api.completion("No.", finish=finish, **message)
    world = await open_world(lambda _: api.streamed(answer) if stream else api.whole(answer))
    for _ in range(2):
        assert (await world.ask(ASKED, stream=stream)).cache[0] == "Miss"
    assert await world.entries() == 0


@pytest.mark.parametrize(
    ("finish", "message"),
    [
        pytest.param("length", {}, id="cut by max_tokens"),
        pytest.param("tool_calls", {"tool_calls": [CALL]}, id="tool calls"),
    ],
)
async def test_answers_with_tool_calls_or_cut_short_answer_equal_requests_only(open_world, api, finish, message):
    world = await open_world(lambda _: api.whole(api.completion("So", finish=finish, **message)), threshold=0.8)
    await world.ask(ASKED)
    assert (await world.ask(ASKED)).cache == ("Hit", "exact")
    assert (await world.ask(f"{ASKED}!")).cache[0] == "Miss"
    assert len(world.index) == 0


async def test_a_ttl_of_zero_stores_nothing(open_world):
    world = await open_world()
    headers = {"X-CacheProxy-TTL": "0"}
    for _ in range(2):
        assert (await world.ask(ASKED, headers=headers)).cache[0] == "Miss"
    assert await world.entries() == 0


async def test_volatile_questions_are_kept_for_minutes_and_answer_equal_requests_only(open_world):
    world = await open_world(threshold=0.5)
    await world.ask("What is the latest news?")
    assert (await world.ask("What is the latest news")).cache == ("Miss", "volatile")
    assert (await world.ask("What is the latest news?")).cache == ("Hit", "exact")
    world.clock.now += 300
    assert (await world.ask("What is the latest news?")).cache == ("Miss", "expired")


async def test_tokens_are_estimated_and_marked_so_when_the_upstream_tells_none(open_world, api):
    world = await open_world(lambda _: api.whole(api.completion("Four words or so.", usage=False)))
    await world.ask(ASKED)
    usage = world.told[0].usage
    assert usage.estimated
    assert usage.input_tokens > 0 < usage.output_tokens
    assert world.told[0].cost_usd > 0


async def test_the_answer_of_a_model_without_a_price_was_told_to_cost_nothing(open_world, api, caplog):
    world = await open_world(lambda _: api.whole(api.completion("Hi", model="a-private-model")))
    miss, hit = await world.ask(ASKED), await world.ask(ASKED)
    assert "X-CacheProxy-Cost" not in miss.headers
    assert hit.cache == ("Hit", "exact")
    assert (hit.headers["X-CacheProxy-Cost"], "X-CacheProxy-Saved" in hit.headers) == ("0", False)
    assert [(event.cost_usd, event.saved_usd, event.unpriced) for event in world.told] == [(0.0, 0.0, True)] * 2
    assert caplog.text.count("no price is known for 'a-private-model'") == 1


async def test_an_error_is_not_an_answer_without_a_price(open_world, api):
    world = await open_world(lambda _: api.whole({"error": {}}, status=400))
    await world.ask(ASKED, model="a-private-model")
    assert not world.told[0].unpriced


async def test_own_prices_count(open_world, api):
    prices = [{"model": "a-private-*", "input_per_mtok": 1.0, "output_per_mtok": 2.0}]
    world = await open_world(lambda _: api.whole(api.completion("Hi", model="a-private-model")), prices=prices)
    await world.ask(ASKED)
    assert world.told[0].cost_usd == pytest.approx((10 * 1.0 + 20 * 2.0) / 1e6)


# --- the Responses API, which keeps answers itself


def response(**changes):
    return {
        "id": "resp_original",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "model": "gpt-4o-mini",
        "output": [
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Hi.", "annotations": []}],
            }
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        **changes,
    }


async def test_a_response_that_the_provider_keeps_keeps_its_id_until_it_is_deleted(open_world):
    def script(received):
        if received.method == "DELETE":
            return Answer(chunks=[b'{"deleted": true}'])
        return Answer(chunks=[json.dumps(response()).encode()])

    world = await open_world(script)
    body = {"model": "gpt-4o-mini", "input": "Hi"}
    await world.send(body, path="/v1/responses")
    await world.settled()
    hit = await world.send(body, path="/v1/responses")
    assert (hit.cache, hit.json["id"]) == (("Hit", "exact"), "resp_original")
    (entry,) = await stored(world)
    assert response_tag("resp_original") in entry.tags
    await world.send(None, path="/v1/responses/resp_original", method="DELETE")
    assert (await world.send(body, path="/v1/responses")).cache[0] == "Miss"


async def test_a_response_that_the_provider_does_not_keep_gets_a_new_id(open_world):
    world = await open_world(lambda _: Answer(chunks=[json.dumps(response(store=False)).encode()]))
    body = {"model": "gpt-4o-mini", "input": "Hi", "store": False}
    await world.send(body, path="/v1/responses")
    await world.settled()
    hit = await world.send(body, path="/v1/responses")
    assert hit.cache == ("Hit", "exact")
    assert hit.json["id"] != "resp_original"


class Stalled:
    """A store whose first write waits for a gate."""

    def __init__(self, store, gate):
        self._store = store
        self._gate = gate

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def put(self, *entries, samples=1):
        await self._gate.wait()
        await self._store.put(*entries, samples=samples)


async def test_large_answers_piled_up_in_memory_while_the_store_was_stalled(open_world, monkeypatch):
    monkeypatch.setattr(learn, "MOST_WAITING_BYTES", 2_000)
    gate = asyncio.Event()
    world = await open_world(around_store=lambda store: Stalled(store, gate), exact_only=True)
    questions = [f"Question {letter}" for letter in "abcdefgh"]
    for question in questions:
        await world.send(world.chat(question))
    for question in questions:
        assert (await world.send(world.chat(question))).cache == ("Hit", "exact")
    gate.set()
    await world.settled()
    assert 0 < await world.entries() < len(questions)


async def test_a_purge_reaches_an_answer_that_the_store_did_not_take(open_world):
    store = Holder()
    world = await open_world(around_store=store.around)
    store.adapter.failing["put"] = PortUnavailable("full")
    await world.ask("Do you keep me?")
    store.adapter.failing.clear()
    await world.upkeep.purge(Selection())
    assert (await world.ask("Do you keep me?")).cache[0] == "Miss"


async def test_a_purge_by_another_process_reaches_it_too(open_world):
    store = Holder()
    one, other = await open_world(around_store=store.around), await open_world()
    await one.ask("Does the store have me?")
    store.adapter.failing["put"] = PortUnavailable("full")
    await one.ask("Do you keep me?")
    assert (await one.ask("Do you keep me?")).cache[0] == "Hit"
    await other.store.remove(Selection())
    await one.upkeep.follow()
    assert (await one.ask("Do you keep me?")).cache[0] == "Miss"


async def test_an_answer_that_only_memory_has_goes_when_the_store_takes_answers_again(open_world, monkeypatch):
    monkeypatch.setattr(learn, "MOST_WAITING", 0)
    world = await open_world()
    await world.ask("Do you keep me?")
    assert (await world.ask("Do you keep me?")).cache[0] == "Hit"
    monkeypatch.undo()
    await world.ask("Do you take this?")
    assert (await world.ask("Do you keep me?")).cache[0] == "Miss"


async def test_so_many_answers_are_only_in_memory_and_no_more(open_world, monkeypatch):
    monkeypatch.setattr(learn, "MOST_WAITING", 0)
    monkeypatch.setattr(learn, "MOST_UNSTORED", 2)
    world = await open_world()
    for question in "abc":
        await world.ask(question)
    assert len(world.flow.l1) == 0
