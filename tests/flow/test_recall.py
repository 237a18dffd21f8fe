"""The semantic layer: what is found, what is refused, and what is done without when a part of it fails."""

import asyncio
from collections import Counter

import numpy as np
import pytest
from support.switch import Holder

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import Overloaded, PortUnavailable

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED}!"
OTHER = "How tall is the Eiffel Tower?"


class Embeds:
    """An embedder of which each call goes as it is told."""

    model, dimension = "test", 8

    def __init__(self, how):
        self.texts = []
        self._how = how

    async def embed(self, text):
        self.texts.append(text)
        return await self._how(text)


def constant(value):
    async def embed(text):
        return np.full(8, value, np.float32) if value else np.zeros(8, np.float32)

    return Embeds(embed)


def failing(error):
    async def embed(text):
        raise error

    return Embeds(embed)


# --- the empty scope


async def test_no_question_waits_behind_one_whose_answer_is_being_put_away(open_world):
    """Each look-up that came too late was embedded once more, before those of the next questions."""
    patient = constant(1.0)
    world = await open_world(embedder=failing(PortUnavailable("slow")), patient=patient)
    await world.send(world.chat(ASKED))
    await world.settled()
    told = await world.send(world.chat(OTHER))
    assert told.cache == ("Miss", "embedder-unavailable")
    await world.settled()
    assert patient.texts == [ASKED, OTHER]


async def test_an_empty_scope_is_forwarded_at_once_and_embedded_afterwards(open_world):
    embedded = asyncio.Event()
    hashed = HashedEmbedder(8)

    async def embed(text):
        await embedded.wait()
        return await hashed.embed(text)

    world = await open_world(embedder=Embeds(embed))
    first = await world.send(world.chat(ASKED))
    assert first.cache == ("Miss", "no-neighbor")
    embedded.set()
    await world.settled()
    assert len(world.index) == 1


async def test_a_question_that_came_while_the_first_was_being_embedded_is_compared_too(open_world):
    world = await open_world(threshold=0.8)
    await world.send(world.chat(ASKED))
    await world.send(world.chat("Something else entirely"))
    await world.settled()
    assert len(world.index) == 2


# --- what must never be served


# litellm 12234: every question got one answer
@pytest.mark.parametrize("value", [0, np.nan], ids=["zero", "not a number"])
async def test_every_question_got_one_answer_when_vectors_had_no_direction(open_world, value):
    world = await open_world(embedder=constant(value))
    questions = ["What is a cache", "Who wrote Faust", "How do I bake bread", "Where is Rome"]
    for question in questions:
        assert (await world.ask(question)).text == f"Answer to {question}"
    assert world.questions == questions
    assert len(world.index) == 0


async def test_every_question_gets_its_own_answer(open_world):
    world = await open_world()
    questions = ["What is a cache", "Who wrote Faust", "How do I bake bread", "What is 2+2?", "What is 2+3?"]
    for _ in range(2):
        assert [(await world.ask(question)).text for question in questions] == [f"Answer to {q}" for q in questions]


@pytest.mark.parametrize(
    ("cached", "asked", "reason"),
    [
        ("How do I enable 2FA?", "How do I disable 2FA?", "guard-antonyms"),  # vllm semantic-router 2691
        ("What is 2+2?", "What is 2+3?", "guard-numbers"),  # vllm semantic-router 1616
        ("Where is Paris?", "Where is London?", "guard-entities"),
    ],
)
async def test_prompts_with_equal_vectors_never_get_each_others_answer_when_a_guard_objects(
    open_world, cached, asked, reason
):
    world = await open_world(embedder=constant(1.0))
    await world.ask(cached)
    reply = await world.ask(asked)
    assert reply.cache == ("Miss", reason)
    assert reply.text == f"Answer to {asked}"
    assert reply.headers["X-CacheProxy-Similarity"] == "1.0000"


# GPTCache 10: "how old is he" was answered about another person
async def test_a_follow_up_was_answered_from_another_conversation(open_world):
    world = await open_world(embedder=constant(1.0))

    def after(person):
        turns = [("user", f"Who is {person}?"), ("assistant", f"{person} acts."), ("user", "How old is he?")]
        return {"model": "m", "messages": [{"role": role, "content": text} for role, text in turns]}

    await world.send(after("Tom Hanks"))
    await world.settled()
    assert (await world.send(after("Keanu Reeves"))).cache == ("Miss", "no-neighbor")


# bifrost 4756: a failed embedding was stored, and then served
@pytest.mark.parametrize("error", [PortUnavailable("dead"), RuntimeError("bug")], ids=["as promised", "unforeseen"])
async def test_a_failed_embedding_was_stored(open_world, error):
    world = await open_world(embedder=failing(error))
    await world.ask(ASKED)
    assert len(world.index) == 0
    assert [row async for row in world.store.vectors()] == []
    assert (await world.ask(ASKED)).cache == ("Hit", "exact")
    assert (await world.ask(SIMILAR)).cache[0] == "Miss"


async def test_a_vector_of_the_wrong_dimension_is_never_kept(open_world):
    dimensions = iter([8, 5, 5])

    async def embed(text):
        return np.ones(next(dimensions), np.float32)

    world = await open_world(embedder=Embeds(embed))
    await world.ask(ASKED)
    assert (await world.ask("Something else")).cache == ("Miss", "index-unavailable")
    assert (await world.ask("Something else")).cache == ("Hit", "exact")
    assert len(world.index) == 1


async def test_a_turn_over_the_window_is_told_as_such_and_stays_exact(open_world):
    world = await open_world(embedder=HashedEmbedder(window=10))
    await world.ask(ASKED)
    long = "word " * 11
    assert (await world.ask(long)).cache == ("Miss", "turn-too-long")
    assert (await world.ask(long)).cache == ("Hit", "exact")


async def test_without_a_model_only_equal_requests_are_answered(open_world):
    world = await open_world(exact_only=True)
    assert (await world.ask(ASKED)).cache == ("Miss", "no-embedder")
    assert (await world.ask(ASKED)).cache == ("Hit", "exact")


async def test_an_entry_that_expired_is_not_served_to_similar_requests(open_world):
    world = await open_world(threshold=0.8, cache={"ttl_s": 600})
    await world.ask(ASKED)
    assert (await world.ask(SIMILAR, headers={"Cache-Control": "only-if-cached"})).cache == ("Hit", "semantic")
    world.clock.now += 600
    assert (await world.ask(SIMILAR)).cache == ("Miss", "expired")


async def test_an_entry_too_old_for_its_caller_was_told_to_be_below_the_threshold(open_world):
    world = await open_world(threshold=0.8)
    await world.ask(ASKED)
    world.clock.now += 60
    assert (await world.ask(SIMILAR, headers={"Cache-Control": "max-age=30"})).cache == ("Miss", "too-old")


async def test_a_similarity_below_the_threshold_is_told(open_world):
    world = await open_world(threshold=0.99)
    await world.ask(ASKED)
    reply = await world.ask("Please tell me what a forward proxy does")
    assert reply.cache == ("Miss", "below-threshold")
    assert 0 < float(reply.headers["X-CacheProxy-Similarity"]) < 0.99


# langchain 25161: unrelated prompts hit at a threshold of zero; redis-vl 649: zero was taken for none
async def test_a_threshold_of_zero_is_a_threshold(open_world):
    world = await open_world(threshold=0)
    await world.ask("tell me about caches")
    assert (await world.ask("tell me about queues")).cache[1] != "below-threshold"


# --- fail open


async def test_an_embedder_that_is_overloaded_is_a_miss(open_world):
    hashed = HashedEmbedder(8)
    world = await open_world(embedder=(embedder := Embeds(hashed.embed)))
    await world.ask(ASKED)
    embedder._how = failing(Overloaded("full"))._how
    assert (await world.ask(SIMILAR)).cache == ("Miss", "embedder-unavailable")


# litellm PR 37742: a dead embedder held a request for 685 s
async def test_a_dead_embedder_held_every_request(open_world, monkeypatch):
    monkeypatch.setattr("cacheproxy.flow.recall.PLACING_S", 0.01)
    hashed = HashedEmbedder(8)
    world = await open_world(embedder=(embedder := Embeds(hashed.embed)), deadlines={"embedder_ms": 50})
    await world.ask(ASKED)
    embedder._how = lambda _: asyncio.Event().wait()
    asked = [f"Question of the kind {word}" for word in ("ab", "cd", "ef", "gh", "ij", "kl", "mn")]
    for question in asked:
        reply = await world.send(world.chat(question))
        assert reply.cache == ("Miss", "embedder-unavailable")
    on_the_way = [text for text in embedder.texts if text in asked]
    # After five failures the breaker is open, and nobody waits for the embedder any more.
    assert on_the_way.count(asked[0]) >= 1
    assert {shelter.port: shelter.state.name for shelter in world.flow.shelters}["embedder"] == "OPEN"
    world.clock.now += 5
    embedder._how = hashed.embed
    assert (await world.send(world.chat("Another question"))).cache[1] in {"below-threshold", "no-neighbor"}
    assert {shelter.port: shelter.state.name for shelter in world.flow.shelters}["embedder"] == "CLOSED"


async def test_embeddings_that_hang_in_the_background_come_to_an_end(open_world, monkeypatch):
    monkeypatch.setattr("cacheproxy.flow.recall.PLACING_S", 0.01)
    world = await open_world(embedder=Embeds(lambda _: asyncio.Event().wait()))
    await world.ask(ASKED)
    assert len(world.tasks) == 0
    assert not world.proxy._recall._coming


# litellm PR 35273: a frozen Redis hung every request
@pytest.mark.parametrize(
    "how", ["hang", PortUnavailable("gone"), RuntimeError("bug")], ids=["hangs", "fails", "breaks"]
)
async def test_a_frozen_store_hung_every_request(open_world, how):
    deadlines = {"store_ms": 200 if how == "hang" else 20_000}
    before = await open_world()
    await before.ask(ASKED)
    world = await open_world(around_store=(holder := Holder()).around, deadlines=deadlines, cache={"l1_bytes": 0})
    await world.ask(ASKED)  # proves the credential, and asks for no prompt
    holder.adapter.failing = dict.fromkeys(("find", "load", "put", "proven_at", "set_vector"), how)
    for number in range(6):
        reply = await world.send(world.chat(f"{ASKED} {number}"))
        assert (reply.status, reply.cache) == (200, ("Miss", "store-unavailable"))
    assert {shelter.port: shelter.state.name for shelter in world.flow.shelters}["store"] == "OPEN"
    world.clock.now += 5
    holder.adapter.failing = {}
    assert (await world.send(world.chat(ASKED))).cache == ("Hit", "exact")
    assert {shelter.port: shelter.state.name for shelter in world.flow.shelters}["store"] == "CLOSED"


@pytest.mark.parametrize(
    "how", ["hang", PortUnavailable("gone"), RuntimeError("bug")], ids=["hangs", "fails", "breaks"]
)
async def test_an_index_that_fails_is_a_miss(open_world, how):
    deadlines = {"store_ms": 200 if how == "hang" else 20_000}
    world = await open_world(around_index=(holder := Holder()).around, deadlines=deadlines, threshold=0.8)
    await world.ask(ASKED)
    holder.adapter.failing = {"is_empty": how, "nearest": how}
    for number in range(4):
        reply = await world.send(world.chat(SIMILAR + "!" * number))
        assert (reply.status, reply.cache) == (200, ("Miss", "index-unavailable"))
    assert (await world.send(world.chat(ASKED))).cache == ("Hit", "exact")


async def test_an_index_that_cannot_add_leaves_the_entry_exact(open_world):
    world = await open_world(around_index=(holder := Holder()).around, threshold=0.8)
    holder.adapter.failing = {"add": PortUnavailable("full")}
    await world.ask(ASKED)
    assert (await world.ask(ASKED)).cache == ("Hit", "exact")
    assert (await world.ask(SIMILAR)).cache[0] == "Miss"


async def test_a_store_that_cannot_write_still_answers(open_world):
    world = await open_world(around_store=(holder := Holder()).around)
    holder.adapter.failing = {"put": PortUnavailable("read-only"), "set_vector": PortUnavailable("read-only")}
    assert (await world.ask(ASKED)).status == 200
    assert (await world.ask(ASKED)).cache == ("Hit", "exact")  # from memory
    assert await world.entries() == 0


class Counted:
    """An adapter whose calls are counted."""

    def __init__(self, adapter):
        self.adapter = adapter
        self.calls = Counter()

    def __getattr__(self, name):
        self.calls[name] += 1
        return getattr(self.adapter, name)


async def test_a_hit_on_a_similar_question_is_loaded_once_with_all_that_is_near(open_world):
    before = await open_world(threshold=0.8)
    await before.ask(ASKED)
    counted = []

    def counting(store):
        counted.append(Counted(store))
        return counted[0]

    world = await open_world(threshold=0.8, around_store=counting)
    assert (await world.send(world.chat(SIMILAR))).cache == ("Hit", "semantic")
    assert {name: counted[0].calls[name] for name in ("find", "load")} == {"find": 0, "load": 1}
