"""Too much to do, and time to go: who is turned away, who is not, and what load balancers are told."""

from __future__ import annotations

import asyncio
import signal

import pytest
from support.gated import CHAT, asking

MESSAGES = "/v1/messages"


@pytest.fixture
async def full(record, serve_proxy, gated, proven, until):
    """A proxy with as many upstream calls under way as it may have; ``gated.release()`` lets them end."""
    upstream = record(gated)
    http = await proven(upstream, gated, serve_proxy(upstream.v1, limits={"upstream_calls": 2}).url)
    asked = [asyncio.ensure_future(http.send(CHAT, asking(question))) for question in ("One?", "Two?")]
    await until(lambda: len(upstream.requests) == 2)
    yield http
    gated.release()
    assert [told.status for told in await asyncio.gather(*asked)] == [200, 200]


@pytest.mark.parametrize(
    ("path", "headers", "kind"),
    [
        (CHAT, {}, "cacheproxy_overloaded"),
        (MESSAGES, {"anthropic-version": "2023-06-01"}, "overloaded_error"),
        ("/v1/files", {}, "cacheproxy_overloaded"),
    ],
    ids=["openai", "anthropic", "passed through"],
)
async def test_one_call_too_many_is_told_when_to_come_back(full, path, headers, kind):
    told = await full.send(path, asking("Three?", max_tokens=50), headers=headers)

    assert told.status == 503
    assert told.headers["Retry-After"] == "1"
    assert kind in {told.json["error"].get("code"), told.json["error"]["type"]}
    assert "limits.upstream_calls" in told.json["error"]["message"]


async def test_whoever_shares_a_call_is_not_turned_away(full, gated):
    asked = [asyncio.ensure_future(full.send(CHAT, asking("One?"))) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert not any(one.done() for one in asked)
    gated.release()
    assert {(await one).cache for one in asked} == {("Hit", "coalesced")}


async def test_what_is_stored_is_answered_all_the_same_and_it_stays_ready(full):
    assert (await full.send(CHAT, asking("Am I known?"))).cache == ("Hit", "exact")
    assert (await full.send("/readyz", method="GET")).status == 200


async def test_a_call_that_ended_makes_room_for_another(full, gated):
    assert (await full.send(CHAT, asking("Three?"))).status == 503
    gated.release()
    async with asyncio.timeout(30):
        while (told := await full.send(CHAT, asking("Three?"))).status == 503:  # noqa: ASYNC110 - as a caller would
            await asyncio.sleep(0.01)
    assert told.status == 200


async def test_on_sigterm_it_was_ready_until_it_was_gone(spawn, simulated, http, until):
    environ = {"CACHEPROXY_DEADLINES__UNREADY_S": "60"}
    process = spawn("serve", "--mode", "exact", "--upstream-url", f"{simulated}/v1", **environ)
    http.base = process.served().url
    assert (await http.send("/readyz", method="GET")).status == 200
    process.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        while (told := await http.send("/readyz", method="GET")).status == 200:  # noqa: ASYNC110 - as a probe would
            await asyncio.sleep(0.01)

    assert told.status == 503
    assert told.json == {"status": "not ready", "why": "shutting down"}
    assert (await http.ask("Still there?")).status == 200  # from those who did not see it yet
    process.process.send_signal(signal.SIGINT)  # whoever cannot wait
    assert process.process.wait(60) == 0
