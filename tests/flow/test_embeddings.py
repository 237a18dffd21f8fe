"""Embeddings, cached input by input."""

import asyncio
import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cacheproxy.model import CacheStatus, Layer
from cacheproxy.upstream.scripted import Answer

PATH = "/v1/embeddings"
MODEL = "text-embedding-3-small"


async def embed(world, given, **members):
    told = await world.send({"model": MODEL, "input": given, **members}, path=PATH)
    await world.settled()
    return told


def asked_for(world):
    return [json.loads(received.body)["input"] for received in world.upstream.received]


def vectors(reply):
    assert [row["index"] for row in reply.json["data"]] == list(range(len(reply.json["data"])))
    return [row["embedding"] for row in reply.json["data"]]


def expected(api, inputs):
    return [row["embedding"] for row in api.embedded(inputs)["data"]]


async def test_an_equal_request_is_answered_from_the_cache(open_world):
    world = await open_world()
    first, second = await embed(world, "one"), await embed(world, "one")
    assert (first.cache, second.cache) == (("Miss", "no-entry"), ("Hit", "exact"))
    assert first.json == second.json
    assert len(world.upstream.received) == 1


async def test_only_the_missing_inputs_are_forwarded_and_the_order_is_kept(open_world, api):
    world = await open_world()
    await embed(world, ["b", "d"])
    reply = await embed(world, ["a", "b", "ccc", "d", "ee"])
    assert asked_for(world) == [["b", "d"], ["a", "ccc", "ee"]]
    assert vectors(reply) == expected(api, ["a", "b", "ccc", "d", "ee"])
    assert reply.json["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    assert reply.cache[0] == "Miss"


async def test_a_part_that_was_cached_is_booked_as_saved(open_world):
    price = {"model": MODEL, "input_per_mtok": 1.0, "output_per_mtok": 0.0}
    world = await open_world(prices=[price])
    await embed(world, ["bbbb"])
    await embed(world, ["a", "bbbb"])
    partly = world.told[-1]
    assert (partly.usage.input_tokens, partly.saved_usage.input_tokens) == (1, 4)
    assert partly.saved_usd == pytest.approx(4e-6)
    assert partly.cost_usd == pytest.approx(1e-6)


async def test_a_list_of_inputs_without_a_price_has_none(open_world, api):
    world = await open_world(
        lambda received: api.whole({**api.embedded(json.loads(received.body)["input"]), "model": "private"})
    )
    headers = [(await embed(world, texts)).headers for texts in (["a"], ["a", "b"], ["a", "b"])]
    assert not any("X-CacheProxy-Saved" in told for told in headers)
    assert [told.get("X-CacheProxy-Cost") for told in headers] == [None, None, "0"]
    assert [event.unpriced for event in world.told] == [True] * 3


async def test_what_was_asked_for_one_by_one_answers_a_list(open_world, api):
    world = await open_world()
    for text in ("x", "yy"):
        await embed(world, text)
    reply = await embed(world, ["yy", "x", "yy"])
    assert reply.cache == ("Hit", "exact")
    assert vectors(reply) == expected(api, ["yy", "x", "yy"])
    assert world.told[-1].saved_usage.input_tokens == 5


async def test_token_inputs_are_inputs_like_texts(open_world, api):
    world = await open_world()
    await embed(world, [1, 2, 3])
    reply = await embed(world, [[4], [1, 2, 3]])
    assert asked_for(world) == [[1, 2, 3], [[4]]]
    assert vectors(reply) == expected(api, [[4], [1, 2, 3]])


async def test_base64_and_float_are_different_answers(open_world):
    world = await open_world()
    await embed(world, "x")
    coded = await embed(world, ["x"], encoding_format="base64")
    assert vectors(coded) == ["b64 of x"]
    assert (await embed(world, "x", encoding_format="base64")).cache == ("Hit", "exact")
    assert vectors(await embed(world, "x")) != ["b64 of x"]


@pytest.mark.parametrize("members", [{"dimensions": 256}, {"model": "text-embedding-3-large"}, {"x_unknown": 1}])
async def test_another_model_or_dimension_is_another_entry(open_world, members):
    world = await open_world()
    await embed(world, "x")
    assert (await embed(world, "x", **members)).cache[0] == "Miss"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists=st.lists(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), min_size=1, max_size=6), max_size=5))
async def test_whatever_was_cached_before_each_input_gets_its_own_vector(open_world, api, lists):
    world = await open_world()
    for inputs in lists:
        reply = await embed(world, inputs)
        assert vectors(reply) == expected(api, inputs)
        assert reply.json["usage"]["prompt_tokens"] == sum(map(len, inputs))


async def test_only_if_cached_wants_every_input(open_world):
    world = await open_world()
    await embed(world, "a")
    body = {"model": MODEL, "input": ["a", "b"]}
    reply = await world.send(body, path=PATH, headers={"Cache-Control": "only-if-cached"})
    assert (reply.status, reply.json["error"]["code"]) == (504, "cacheproxy_not_cached")


async def test_no_cache_asks_for_everything_again(open_world):
    world = await open_world()
    await embed(world, ["a", "b"])
    body = {"model": MODEL, "input": ["a", "b"]}
    reply = await world.send(body, path=PATH, headers={"Cache-Control": "no-cache"})
    assert reply.cache == ("Refresh", "no-cache")
    assert asked_for(world) == [["a", "b"], ["a", "b"]]


async def test_the_bytes_of_a_request_with_nothing_cached_are_the_callers(open_world):
    world = await open_world()
    body = b'{"input" : ["a","b"], "model":"m"}'
    await world.send(body, path=PATH)
    assert world.upstream.received[0].body == body


async def test_the_other_bytes_stay_when_only_a_part_is_forwarded(open_world):
    world = await open_world()
    await world.send(b'{"input" : ["a"],\t"model":"m"}', path=PATH)
    await world.settled()
    await world.send(b'{"input" : ["a","b"],\t"model":"m"}', path=PATH)
    assert world.upstream.received[1].body == b'{"input" : ["b"],\t"model":"m"}'


async def test_an_error_is_passed_on_whatever_was_cached(open_world, api):
    answers = iter([api.whole(api.embedded(["a"])), Answer(status=429, headers=[("Retry-After", "1")], chunks=[b"no"])])
    world = await open_world(lambda _: next(answers))
    await embed(world, ["a"])
    reply = await embed(world, ["a", "b"])
    assert (reply.status, reply.body, reply.headers["Retry-After"]) == (429, b"no", "1")


async def test_a_part_in_a_content_coding_is_put_together_with_the_rest(open_world, api):
    def zipped(received):
        inputs = json.loads(received.body)["input"]
        return Answer(
            headers=[("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
            chunks=[gzip.compress(json.dumps(api.embedded(inputs)).encode())],
        )

    world = await open_world(zipped)
    await embed(world, ["a"])
    reply = await embed(world, ["a", "bb"])
    assert vectors(reply) == expected(api, ["a", "bb"])
    assert "Content-Encoding" not in reply.headers


@pytest.mark.parametrize("spoil", ["too large", "a row too few"])
async def test_a_part_that_cannot_be_put_to_the_rest_was_given_for_the_whole(open_world, api, spoil):
    def script(received):
        inputs = json.loads(received.body)["input"]
        if inputs != ["b", "c"]:
            return api.whole(api.embedded(inputs))
        answer = api.embedded(inputs)
        if spoil == "too large":
            return api.whole({**answer, "padding": "x" * 10_000})
        return api.whole({**answer, "data": answer["data"][:1]})

    world = await open_world(script, cache={"max_answer_bytes": 5_000})
    await embed(world, ["a"])
    reply = await embed(world, ["a", "b", "c"])
    assert vectors(reply) == expected(api, ["a", "b", "c"])
    assert asked_for(world)[-1] == ["a", "b", "c"]


@pytest.mark.parametrize("spoil", [{"data": []}, {"data": "x"}, {"data": [{"index": 7, "embedding": [1.0]}]}])
async def test_an_answer_that_does_not_fit_its_inputs_is_passed_on_and_not_stored(open_world, api, spoil):
    answer = {**api.embedded(["a"]), **spoil}
    world = await open_world(lambda _: api.whole(answer))
    assert (await embed(world, ["a"])).json == answer
    assert await world.entries() == 0


@pytest.mark.parametrize("given", [[], [[]], 7, None, ["a", 7], [["a"]]])
async def test_inputs_that_are_none_are_refused(open_world, given):
    world = await open_world()
    assert (await embed(world, given)).status == 400
    assert world.upstream.received == []


async def test_equal_requests_in_flight_share_one_call(open_world, api):
    gate = asyncio.Event()
    cookie = ("Set-Cookie", "session=1")
    headers = [("Content-Type", "application/json"), cookie]
    world = await open_world(lambda _: api.whole(api.embedded(["a", "b"]), head_waits=gate, headers=headers))
    asking = [world.tasks.begin(embed_only(world, ["a", "b"]), name="ask") for _ in range(4)]
    while not world.upstream.received:  # noqa: ASYNC110 - a list sets no event
        await asyncio.sleep(0)
    gate.set()
    replies = [await one for one in asking]
    assert len(world.upstream.received) == 1
    assert {json.dumps(reply.json) for reply in replies} == {json.dumps(api.embedded(["a", "b"]))}
    assert sorted(reply.cache[0] for reply in replies) == ["Hit", "Hit", "Hit", "Miss"]
    assert [reply.cache[0] for reply in replies if "Set-Cookie" in reply.headers] == ["Miss"]
    assert sum(event.layer is Layer.COALESCED for event in world.told) == 3
    assert sum(event.status is CacheStatus.MISS for event in world.told) == 1


async def embed_only(world, given):
    return await world.send({"model": MODEL, "input": given}, path=PATH)


async def test_an_unproven_credential_reads_nothing(open_world):
    world = await open_world(cache={"shared": True})
    await embed(world, ["a"])
    stranger = {"Authorization": "Bearer made-up"}
    reply = await world.send({"model": MODEL, "input": ["a"]}, path=PATH, headers=stranger)
    assert reply.cache == ("Miss", "credential-unproven")
    assert len(world.upstream.received) == 2


async def test_a_request_that_bypasses_is_forwarded_whole(open_world):
    world = await open_world()
    for _ in range(2):
        reply = await world.send({"model": MODEL, "input": "a"}, path=PATH, headers={"Cache-Control": "no-store"})
        assert reply.cache == ("Bypass", "no-store")
    assert len(world.upstream.received) == 2
