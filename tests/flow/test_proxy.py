"""A request told top to bottom, over the whole flow."""

import json

import pytest

from cacheproxy.model import CacheStatus, Layer, Reason
from cacheproxy.upstream.scripted import Answer

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


async def test_an_equal_request_is_answered_from_the_cache(open_world):
    world = await open_world()
    first, second = await world.ask("What is a cache?"), await world.ask("What is a cache?")
    assert first.cache == ("Miss", "no-neighbor")
    assert second.cache == ("Hit", "exact")
    assert first.text == second.text == "Answer to What is a cache?"
    assert len(world.upstream.received) == 1


@pytest.mark.parametrize("first_streams", [True, False])
async def test_one_entry_serves_both_stream_modes(open_world, first_streams):
    world = await open_world()
    first = await world.ask("What is a cache?", stream=first_streams)
    second = await world.ask("What is a cache?", stream=not first_streams)
    assert second.cache == ("Hit", "exact")
    assert first.text == second.text
    assert second.headers["Content-Type"].startswith("application/json" if first_streams else "text/event-stream")
    assert len(world.upstream.received) == 1


async def test_a_hit_has_an_id_and_a_creation_time_of_its_own(open_world):
    world = await open_world()
    first = await world.ask("What is a cache?")
    world.clock.now += 60
    hits = [await world.ask("What is a cache?") for _ in range(2)]
    assert len({reply.json["id"] for reply in (first, *hits)}) == 3
    assert hits[0].json["created"] == int(world.clock.now)
    assert hits[0].json["choices"] == first.json["choices"]
    assert hits[0].json["model"] == first.json["model"]
    assert hits[0].headers["Age"] == "60"


@pytest.mark.parametrize(("hit_usage", "tokens"), [("original", 30), ("zero", 0)])
async def test_a_hit_tells_the_usage_that_the_operator_chose(open_world, hit_usage, tokens):
    world = await open_world(hit_usage=hit_usage)
    await world.ask("What is a cache?")
    assert (await world.ask("What is a cache?")).json["usage"]["total_tokens"] == tokens


# litellm PR 21816, OmniRoute 4308: hits were billed at full cost
async def test_a_hit_was_billed(open_world):
    world = await open_world()
    await world.ask("What is a cache?")
    await world.ask("What is a cache?")
    missed, hit = world.told
    assert missed.cost_usd > 0 == missed.saved_usd
    assert hit.cost_usd == 0 < hit.saved_usd == missed.cost_usd
    assert hit.usage.output_tokens == 0 < hit.saved_usage.output_tokens
    assert (hit.status, hit.layer, missed.reason) == (CacheStatus.HIT, Layer.EXACT, Reason.NO_NEIGHBOR)


async def test_a_similar_request_is_answered_from_the_cache(open_world):
    world = await open_world(threshold=0.8)
    await world.ask("Please tell me what a reverse proxy does")
    similar = await world.ask("Please tell me what a reverse proxy does!", stream=True)
    assert similar.cache == ("Hit", "semantic")
    assert similar.text == "Answer to Please tell me what a reverse proxy does"
    assert 0.8 <= float(similar.headers["X-CacheProxy-Similarity"]) <= 1


async def test_expose_headers_false_hides_every_header_of_ours(open_world):
    world = await open_world(expose_headers=False)
    for _ in range(2):
        for stream in (True, False):
            reply = await world.ask("What is a cache?", stream=stream)
            assert not [name for name in reply.headers if name.lower().startswith(("x-cache", "cache-status", "age"))]


# --- controls


async def test_no_cache_asks_again_and_replaces_the_answer(open_world, api):
    answers = iter(["old", "new"])
    world = await open_world(lambda _: api.whole(api.completion(next(answers))))
    await world.ask("What is a cache?")
    refreshed = await world.ask("What is a cache?", headers={"Cache-Control": "no-cache"})
    assert refreshed.cache == ("Refresh", "no-cache")
    assert (await world.ask("What is a cache?")).text == refreshed.text == "new"
    assert await world.entries() == 1


async def test_refreshing_again_and_again_leaves_no_dead_vectors_behind(open_world):
    world = await open_world()
    for _ in range(12):
        await world.ask("What is a cache?", headers={"Cache-Control": "no-cache"})
    await world.upkeep.follow()
    assert len(world.index) == 1


async def test_no_store_neither_reads_nor_writes(open_world):
    world = await open_world()
    await world.ask("What is a cache?")
    reply = await world.ask("What is a cache?", headers={"Cache-Control": "no-store"})
    await world.ask("What is a proxy?", headers={"Cache-Control": "no-store"})
    assert reply.cache == ("Bypass", "no-store")
    assert len(world.upstream.received) == 3
    assert await world.entries() == 1


async def test_max_age_of_the_caller_is_kept(open_world):
    world = await open_world()
    await world.ask("What is a cache?")
    world.clock.now += 100
    assert (await world.ask("What is a cache?", headers={"Cache-Control": "max-age=100"})).cache == ("Hit", "exact")
    world.clock.now += 1
    assert (await world.ask("What is a cache?", headers={"Cache-Control": "max-age=100"})).cache == ("Miss", "too-old")
    assert (await world.ask("What is a cache?")).cache == ("Hit", "exact")


async def test_max_age_holds_for_similar_requests_too(open_world):
    world = await open_world(threshold=0.8)
    await world.ask("Please tell me what a reverse proxy does")
    world.clock.now += 101
    similar = await world.ask("Please tell me what a reverse proxy does!", headers={"Cache-Control": "max-age=100"})
    assert similar.cache[0] == "Miss"


# redis-vl 603: hits prolonged the life of a stale answer
async def test_hits_prolonged_the_life_of_a_stale_answer(open_world):
    world = await open_world(cache={"ttl_s": 100})
    await world.ask("What is a cache?")
    for _ in range(9):
        world.clock.now += 11
        assert (await world.ask("What is a cache?")).cache == ("Hit", "exact")
    world.clock.now += 11
    assert (await world.ask("What is a cache?")).cache == ("Miss", "expired")


async def test_only_if_cached_gets_a_504_when_nothing_is(open_world):
    world = await open_world()
    headers = {"Cache-Control": "only-if-cached"}
    missed = await world.ask("What is a cache?", headers=headers)
    assert missed.status == 504
    assert missed.json["error"]["code"] == "cacheproxy_not_cached"
    assert world.upstream.received == []
    await world.ask("What is a cache?")
    assert (await world.ask("What is a cache?", headers=headers)).cache == ("Hit", "exact")


@pytest.mark.parametrize(
    ("operator", "caller", "outcome"),
    [
        ("semantic", "exact", ("Miss", "no-entry")),
        ("semantic", "off", ("Bypass", "mode-off")),
        ("semantic", "shadow", ("Miss", "shadow")),
        ("exact", "semantic", ("Miss", "no-entry")),
        ("shadow", "semantic", ("Miss", "shadow")),
        ("off", "semantic", ("Bypass", "mode-off")),
        ("semantic", "semantic", ("Hit", "semantic")),
    ],
)
async def test_the_mode_header_only_tightens(open_world, operator, caller, outcome):
    world = await open_world(mode=operator, threshold=0.8)
    await world.ask("Please tell me what a reverse proxy does")
    reply = await world.ask("Please tell me what a reverse proxy does!", headers={"X-CacheProxy-Mode": caller})
    assert reply.cache == outcome


async def test_a_shadow_names_the_similarity_of_what_it_would_have_served(open_world):
    world = await open_world(mode="shadow", threshold=0.8)
    await world.ask("Please tell me what a reverse proxy does")
    reply = await world.ask("Please tell me what a reverse proxy does!")
    assert reply.text == "Answer to Please tell me what a reverse proxy does!"
    assert float(reply.headers["X-CacheProxy-Similarity"]) >= 0.8
    assert world.told[-1].similarity >= 0.8


ASKED = "Please tell me what a reverse proxy does"
the_same_and_a_similar_question = pytest.mark.parametrize("question", [ASKED, f"{ASKED}!"], ids=["same", "similar"])


@the_same_and_a_similar_question
async def test_namespaces_are_caches_of_their_own(open_world, question):
    world = await open_world(threshold=0.8)
    await world.ask(ASKED, headers={"X-CacheProxy-Namespace": "a"})
    assert (await world.ask(question, headers={"X-CacheProxy-Namespace": "b"})).cache[0] == "Miss"
    assert (await world.ask(question)).cache[0] == "Miss"
    assert (await world.ask(question, headers={"X-CacheProxy-Namespace": "a"})).cache[0] == "Hit"


async def test_a_ttl_header_shortens_a_life(open_world):
    world = await open_world()
    await world.ask("What is a cache?", headers={"X-CacheProxy-TTL": "10"})
    world.clock.now += 10
    assert (await world.ask("What is a cache?")).cache == ("Miss", "expired")


async def test_litellms_cache_object_is_honoured_and_never_forwarded(open_world):
    world = await open_world()
    body = (
        b'{ "model":"m",\n "cache" : {"ttl": 10, "namespace": "n"}, "messages":[{"role":"user","content":"\\u00e9"}] }'
    )
    first = await world.send(body)
    await world.settled()
    assert first.status == 200
    (received,) = world.upstream.received
    assert received.body == b'{ "model":"m",\n "messages":[{"role":"user","content":"\\u00e9"}] }'
    assert (await world.send(body)).cache == ("Hit", "exact")
    world.clock.now += 10
    assert (await world.send(body)).cache == ("Miss", "expired")


async def test_controls_are_not_forwarded(open_world):
    world = await open_world()
    await world.ask("Hi", headers={"X-CacheProxy-Tags": "t", "Cache-Control": "max-age=5", "X-Own": "kept"})
    (received,) = world.upstream.received
    assert received.header("x-own") == "kept"
    assert received.header("x-cacheproxy-tags") is None
    assert received.header("cache-control") is None


async def test_the_original_bytes_are_forwarded(open_world):
    world = await open_world()
    body = (
        b'{"messages" :[ {"role":"user","content":"caf\\u00e9 \xc3\xa9"}],\t"model": "m", "seed": 18446744073709551617}'
    )
    await world.send(body)
    assert world.upstream.received[0].body == body
    assert world.upstream.received[0].url == "https://llm.example/v1/chat/completions"


# --- other dialects


# litellm 24579, 25653: messages were never cached
async def test_anthropic_messages_were_never_cached(open_world):
    world = await open_world()
    body = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "What is a cache?"}],
    }
    headers = {"anthropic-version": "2023-06-01"}
    first = await world.send(body, path=MESSAGES, headers=headers)
    await world.settled()
    second = await world.send(body, path=MESSAGES, headers=headers)
    streamed = await world.send({**body, "stream": True}, path=MESSAGES, headers=headers)
    assert second.cache == streamed.cache == ("Hit", "exact")
    assert first.json["content"] == second.json["content"]
    assert b"event: message_stop" in streamed.body
    assert len(world.upstream.received) == 1


# litellm 32068: reasoning was lost when a hit was streamed
async def test_reasoning_was_lost_when_a_hit_was_streamed(open_world, api):
    world = await open_world(lambda _: api.whole(api.completion("Yes.", reasoning_content="Let me think.")))
    await world.ask("Is it?")
    hit = await world.ask("Is it?", stream=True)
    deltas = [json.loads(data)["choices"][0]["delta"] for data in hit.events if data != "[DONE]"]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Let me think."


# --- bad input


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b"{", 400, "cacheproxy_bad_request", id="broken JSON"),
        pytest.param(b"[]", 400, "cacheproxy_bad_request", id="no object"),
        pytest.param(b'{"messages": 1}', 400, "cacheproxy_bad_request", id="wrong type"),
        pytest.param(b'{"messages": [], "x": NaN}', 400, "cacheproxy_bad_request", id="NaN"),
        pytest.param(b"\xff\xfe", 400, "cacheproxy_bad_request", id="no UTF-8"),
        pytest.param(
            b'{"messages":[],"x":' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "cacheproxy_bad_request", id="deep"
        ),
        pytest.param(
            b'{"messages":[],"x":' + b"[" * 950 + b"]" * 950 + b"}", 400, "cacheproxy_bad_request", id="just deep"
        ),
        pytest.param(b" " * 2000, 413, "cacheproxy_body_too_large", id="too large"),
    ],
)
async def test_bad_input_gets_a_clear_error_in_the_callers_dialect(open_world, body, status, code):
    world = await open_world(limits={"body_bytes": 1000 if status == 413 else 1_000_000})
    reply = await world.send(body)
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    claude = await world.send(body, path=MESSAGES, headers={"anthropic-version": "2023-06-01"})
    assert (claude.status, claude.json["type"], claude.json["error"]["code"]) == (status, "error", code)
    assert world.upstream.received == []


async def test_a_control_that_cannot_be_meant_is_a_bad_request(open_world):
    world = await open_world()
    assert (await world.ask("Hi", headers={"X-CacheProxy-TTL": "soon"})).status == 400


async def test_an_unknown_upstream_is_named_in_a_404(open_world):
    world = await open_world()
    reply = await world.send(world.chat("Hi"), path="/nowhere/v1/chat/completions")
    assert reply.status == 404
    assert "nowhere" in reply.json["error"]["message"]


# --- samples


async def test_with_several_samples_each_is_asked_for_until_there_are_enough(open_world, api):
    numbers = iter(range(100))
    world = await open_world(lambda _: api.whole(api.completion(f"sample {next(numbers)}")), cache={"samples": 3})
    replies = [await world.ask("Draw one") for _ in range(12)]
    assert [reply.cache[0] for reply in replies] == ["Miss"] * 3 + ["Hit"] * 9
    assert replies[1].cache == ("Miss", "sampling")
    assert {reply.text for reply in replies[3:]} <= {"sample 0", "sample 1", "sample 2"}
    assert len(world.upstream.received) == 3


async def test_a_restart_forgets_nothing(open_world):
    world = await open_world(threshold=0.8)
    await world.ask("Please tell me what a reverse proxy does")
    restarted = await open_world(threshold=0.8)
    assert (await restarted.ask("Please tell me what a reverse proxy does")).cache == ("Hit", "exact")
    assert (await restarted.ask("Please tell me what a reverse proxy does!")).cache == ("Hit", "semantic")
    assert restarted.upstream.received == []


# bifrost PR 5769, litellm 19575, vllm semantic-router 2134: another tenant's answer was served
@the_same_and_a_similar_question
async def test_another_tenants_answer_was_served(open_world, question):
    world = await open_world(threshold=0.8)
    await world.ask(ASKED)
    other = {"Authorization": "Bearer sk-other"}
    await world.ask("Let me prove who I am", headers=other)
    assert (await world.ask(question, headers=other)).cache[0] == "Miss"
    assert (await world.ask(question)).cache[0] == "Hit"


async def test_tenants_share_when_the_operator_says_so(open_world):
    world = await open_world(cache={"shared": True})
    await world.ask("What is a cache?")
    other = {"Authorization": "Bearer sk-other"}
    assert (await world.ask("What is a cache?", headers=other)).cache == ("Miss", "credential-unproven")
    assert (await world.ask("What is a cache?", headers=other)).cache == ("Hit", "exact")


async def test_an_upstream_that_says_nothing_of_use_is_still_told(open_world):
    world = await open_world([Answer(status=204, headers=(), chunks=[])])
    reply = await world.ask("Hi")
    assert (reply.status, reply.body) == (204, b"")
    assert world.told[0].http_status == 204


async def test_the_answer_of_a_model_that_always_searches_was_kept(open_world):
    world = await open_world(cache={"searching_models": ["my-agent-*"]})
    for model in ("gpt-4o-search-preview", "my-agent-7"):
        for _ in range(2):
            assert (await world.ask("Who won?", model=model)).cache == ("Bypass", "server-tools")
    assert await world.entries() == 0
