"""What users of other caches suffered from, end to end. Each name says what went wrong there; here it does not.

What is not below is tested where it belongs:

    issue                         what went wrong                          tests
    litellm 24579, 25653          responses and messages never cached      e2e/test_openai_sdk, e2e/test_anthropic_sdk
    litellm 32068                 reasoning lost on streamed hits          wire/test_openai_chat, flow/test_proxy
    litellm PR 37742, PR 35273    dead embedder, frozen store hang all     flow/test_recall
    bifrost 4756                  a failed embedding is stored             flow/test_recall
    vllm semantic-router 913      a hit breaks the stream                  e2e/test_openai_sdk
    GPTCache 549                  nobody counts the wrong hits             lab/test_replay
    redis-vl 444, 649             threshold .05 becomes 1.9, 0 is none     test_settings, flow/test_recall
"""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from openai import OpenAI

CHAT = "/v1/chat/completions"


# litellm 12234; langchain 25161: unrelated prompts hit
UNRELATED = (
    "What is the tallest mountain?",
    "How do I bake sourdough bread?",
    "Who wrote the Odyssey?",
    "Explain photosynthesis.",
    "Which team won the first world cup?",
    "Write a haiku about rain.",
    "How does a diesel engine work?",
    "Translate good morning into French.",
)


async def test_every_question_got_one_answer(lenient, http):
    for _ in range(2):
        for question in UNRELATED:
            told = await http.ask(question, base=lenient.url)
            assert f"“{question}”" in told.text
            assert told.cache != ("Hit", "semantic")


# litellm 28778
def test_tool_results_were_lost_and_the_agent_looped(proxy, api_key):
    tool = {
        "type": "function",
        "function": {"name": "get_stock", "parameters": {"type": "object", "properties": {"item": {"type": "string"}}}},
    }
    with OpenAI(base_url=proxy.v1, api_key=api_key, max_retries=0) as client:

        def run(stock):
            """An agent: call the tool until the model says something."""
            messages = [{"role": "user", "content": "Use get_stock, please."}]
            for steps in range(1, 4):
                message = client.chat.completions.create(model="m", messages=messages, tools=[tool]).choices[0].message
                if not message.tool_calls:
                    return steps, message.content
                messages.append(message.to_dict())
                messages += [{"role": "tool", "tool_call_id": c.id, "content": stock} for c in message.tool_calls]
            raise AssertionError("the agent loops")

        assert [run("12 left")[0], run("12 left")[0], run("none left")[0]] == [2, 2, 2]
        assert "12 left" in run("12 left")[1]
        assert "none left" in run("none left")[1]


# litellm 29086
async def test_the_hash_of_the_whole_request_kept_similar_ones_from_hitting(lenient, http, taught):
    await taught(http, lenient, "How do I unlock my PIN?", user="alice", metadata={"run": "1"})
    told = await http.ask("How can I unlock my PIN?", base=lenient.url, user="bob", metadata={"run": "2"}, stream=True)

    assert told.cache == ("Hit", "semantic")
    assert "“How do I unlock my PIN?”" in told.text


# litellm 19575; vllm semantic-router 2134
async def test_another_users_answer_was_served(lenient, http, taught):
    mine = await taught(http, lenient, "What is the code of my safe?")
    other = {"Authorization": f"Bearer {http.key}-other"}
    await http.ask("Am I known?", base=lenient.url, headers=other)
    near = await http.ask("What is the code for my safe?", base=lenient.url, headers=other)
    assert near.cache == ("Miss", "below-threshold")
    assert (await http.ask("What is the code for my safe?", base=lenient.url)).text == mine.text


async def test_a_refused_key_reads_nothing_any_more(record, serve_proxy, http):
    refusing = []

    async def answer(_request, _recorded):
        if refusing:
            return web.json_response({"error": {"message": "revoked"}}, status=401)
        return web.json_response(completion("secret"))

    upstream = record(answer)
    http.base = serve_proxy(upstream.v1).url
    await http.ask("One?")
    assert (await http.ask("One?")).cache == ("Hit", "exact")
    refusing.append(True)
    assert (await http.ask("Two?")).status == 401
    assert (await http.ask("One?")).status == 401


def completion(text, **members):
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **members}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


# litellm 8570
async def test_no_header_named_the_entry(proxy, http, cacheproxy):
    await http.ask("Which entry am I?", base=proxy.url)
    told = await http.ask("Which entry am I?", base=proxy.url)
    status, shown, _ = cacheproxy(
        "cache", "show", told.headers["X-CacheProxy-Entry"], "--json", "--data-dir", str(proxy.settings.data_dir)
    )

    assert status == 0
    assert json.loads(shown)["prompt"] == "Which entry am I?"


# litellm PR 21816; OmniRoute 4308; redis-vl 684: no hit ratio, no savings
async def test_hits_were_billed_and_nothing_told_what_they_saved(serve_proxy, simulated, http, cacheproxy, until):
    served = serve_proxy(f"{simulated}/v1")
    miss = await http.ask("How much am I?", base=served.url)
    hits = [await http.ask("How much am I?", base=served.url) for _ in range(3)]
    cost = float(miss.headers["X-CacheProxy-Cost"])

    assert cost > 0
    assert {hit.headers["X-CacheProxy-Cost"] for hit in hits} == {"0"}
    assert {float(hit.headers["X-CacheProxy-Saved"]) for hit in hits} == {cost}
    metrics = served.metrics()
    assert metrics['cacheproxy_cost_usd_total{kind="upstream",model="gpt-4o-mini"}'] == pytest.approx(cost, rel=0.01)
    assert metrics['cacheproxy_saved_usd_total{layer="exact",model="gpt-4o-mini"}'] == pytest.approx(3 * cost, rel=0.01)
    await until(lambda: served.count("ledger") > 0)
    status, told, _ = cacheproxy("stats", "--json")
    total = json.loads(told)["total"]
    assert (status, total["requests"], total["hit_rate"]) == (0, 4, 0.75)
    assert total["saved_usd"] == pytest.approx(3 * cost, rel=0.01)


# bifrost 2791, 3190
async def test_equal_requests_hashed_differently(proxy, http):
    first = b'{"model":"m","messages":[{"role":"user","content":"Same \xc3\xa4?"}],"top_p":1}'
    await http.send(CHAT, first, base=proxy.url)
    for same in (
        b'{"top_p":1,"messages":[{"content":"Same \xc3\xa4?","role":"user"}],"model":"m"}',
        b'{\n  "model" : "m",\n "messages": [ {"role": "user", "content": "Same \\u00e4?"} ], "top_p": 1 }',
        b'{"model":"m","messages":[{"role":"user","content":"Same \xc3\xa4?"}],"top_p":1,"user":"me","stream":false}',
    ):
        assert (await http.send(CHAT, same, base=proxy.url)).cache == ("Hit", "exact")


# bifrost 7233
async def test_writers_of_one_entry_raced(proxy, http):
    refreshing = {"Cache-Control": "no-cache"}
    told = await asyncio.gather(*(http.ask("Race?", base=proxy.url, headers=refreshing) for _ in range(30)))
    hit = await http.ask("Race?", base=proxy.url)

    assert {answer.cache for answer in told} == {("Refresh", "no-cache")}
    assert hit.cache == ("Hit", "exact")
    assert hit.text == told[0].text


# vllm semantic-router 2691, 1616; GPTCache 694: reversed meaning, .83 to .9997 similar
REVERSED = [
    ("How do I enable 2FA?", "How do I disable 2FA?"),
    ("What is 2+2?", "What is 2+3?"),
    ("Is it safe to mix bleach and ammonia?", "Is it unsafe to mix bleach and ammonia?"),
    ("How do I turn on roaming on my phone?", "How do I turn off roaming on my phone?"),
    ("Can I send it back within 14 days?", "Can I send it back within 30 days?"),
]


@pytest.mark.parametrize(("cached", "asked"), REVERSED)
async def test_the_opposite_was_answered(lenient, http, taught, cached, asked):
    await taught(http, lenient, cached)
    told = await http.ask(asked, base=lenient.url)

    assert float(told.headers["X-CacheProxy-Similarity"]) > 0.8
    assert told.cache[0] == "Miss"
    assert told.cache[1].startswith("guard-")
    assert f"“{asked}”" in told.text


# GPTCache 10
async def test_a_follow_up_was_answered_about_somebody_else(lenient, http):
    def after(person):
        history = [("user", f"Who is {person}?"), ("assistant", "An actor."), ("user", "How old is he?")]
        return {"model": "m", "messages": [{"role": role, "content": content} for role, content in history]}

    await http.ask("Am I known?", base=lenient.url)
    await http.send(CHAT, after("Tom Hanks"), base=lenient.url)
    assert (await http.send(CHAT, after("Keanu Reeves"), base=lenient.url)).cache[0] == "Miss"
    assert (await http.send(CHAT, after("Tom Hanks"), base=lenient.url)).cache == ("Hit", "exact")


# vllm semantic-router 1581
async def test_there_was_no_way_to_get_rid_of_a_false_hit(lenient, http, taught, cacheproxy):
    """Removed while the proxy runs, it is gone from the exact layer, from memory and from the index."""
    await taught(http, lenient, "How do I close my savings account?")
    wrong = await http.ask("How can I close my savings account?", base=lenient.url)
    assert wrong.cache == ("Hit", "semantic")
    command = ("cache", "rm", wrong.headers["X-CacheProxy-Entry"], "--data-dir", str(lenient.settings.data_dir))
    assert cacheproxy(*command)[0] == 0
    probe = {"Cache-Control": "only-if-cached"}

    async def gone(question):
        return (await http.ask(question, base=lenient.url, headers=probe)).status == 504

    for question in ("How do I close my savings account?", "How can I close my savings account?"):
        while not await gone(question):  # noqa: ASYNC110 - the proxy follows what other processes did in its rounds
            await asyncio.sleep(0.05)
    assert cacheproxy(*command)[0] == 1


# redis-vl 603
async def test_a_stale_answer_was_kept_alive_by_its_hits(proxy, http):
    short = {"X-CacheProxy-TTL": "1.5"}
    assert (await http.ask("Am I known?", base=proxy.url)).status == 200
    assert (await http.ask("How long do I live?", base=proxy.url, headers=short)).cache[0] == "Miss"
    hits = 0
    while (told := await http.ask("How long do I live?", base=proxy.url, headers=short)).cache[0] == "Hit":
        hits += 1
        await asyncio.sleep(0.05)
    assert told.cache[1] in {"expired", "no-entry", "no-neighbor"}
    assert hits > 0


# apisix 13578
@pytest.mark.parametrize("changed", [{"model": "other"}, {"temperature": 1}, {"top_k": 3}, {"seed": 4}], ids=str)
async def test_the_key_lacked_the_model(lenient, http, changed):
    await http.ask("Whose answer?", base=lenient.url)
    assert (await http.ask("Whose answer?", base=lenient.url)).cache == ("Hit", "exact")
    assert (await http.ask("Whose answer?", base=lenient.url, **changed)).cache[0] == "Miss"


# higress 4445
async def test_the_structure_was_lost(record, serve_proxy, http):
    rich = completion(
        None,
        tool_calls=[{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
        reasoning_content="hm",
        provider_fields={"x": [1, 2.5, None, {"deep": True}]},
    ) | {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.1}, "provider": "p"}

    async def answer(_request, _recorded):
        return web.json_response(rich)

    upstream = record(answer)
    http.base = serve_proxy(upstream.v1).url
    miss, hit = await http.ask("All of it?"), await http.ask("All of it?")

    assert hit.cache == ("Hit", "exact")
    assert miss.json == rich
    assert {**hit.json, "id": rich["id"], "created": rich["created"]} == rich
