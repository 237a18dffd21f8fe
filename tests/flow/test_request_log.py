"""The line of a request: what is in it, and what is never."""

import logging

import pytest

from cacheproxy.events import Served
from cacheproxy.flow.request_log import LOGGER, LONGEST, RequestLog, members
from cacheproxy.model import CacheStatus, Layer, Reason

HIT = Served(
    at=1.0,
    dialect="openai-chat",
    upstream="openai",
    tenant="t1",
    model="gpt-4o",
    http_status=200,
    status=CacheStatus.HIT,
    duration_ms=1.23456,
    layer=Layer.SEMANTIC,
    entry_id="e1",
    similarity=0.987654,
    saved_usd=0.25,
    request_id="req_1",
    trace_id="0af7651916cd43dd8448eb211c80319c",
)


def test_a_hit_is_told_without_what_does_not_apply():
    assert members(HIT) == {
        "request_id": "req_1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "tenant": "t1",
        "dialect": "openai-chat",
        "upstream": "openai",
        "model": "gpt-4o",
        "http_status": 200,
        "status": "Hit",
        "layer": "semantic",
        "entry": "e1",
        "similarity": 0.9877,
        "duration_ms": 1.235,
        "cost_usd": 0.0,
        "saved_usd": 0.25,
    }


def test_a_miss_says_why_and_what_it_took():
    told = members(HIT._replace(status=CacheStatus.MISS, layer=None, reason=Reason.NO_NEIGHBOR, upstream_ms=800.0))
    assert (told["status"], told["reason"], told["upstream_ms"]) == ("Miss", "no-neighbor", 800.0)
    assert "layer" not in told


def test_an_unknown_price_is_not_told_as_nothing():
    assert "cost_usd" not in members(HIT._replace(unpriced=True))


def test_a_question_is_cut_and_stays_on_its_line(caplog):
    with caplog.at_level(logging.INFO, logger=LOGGER):
        RequestLog().served(HIT._replace(prompt="two\nlines" + "x" * LONGEST))
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert len(record.members["prompt"]) == LONGEST


@pytest.mark.parametrize("model", ["m\n2026-01-01 00:00:00 INFO forged", "m\x1b[2J", "m status=Hit", "m\u2028n"])
def test_a_callers_words_cannot_pass_for_a_line_or_a_member(caplog, model):
    with caplog.at_level(logging.INFO, logger=LOGGER):
        RequestLog().served(HIT._replace(model=model, status=CacheStatus.MISS))
    assert f"model={model!r} " in caplog.text
    assert model not in caplog.text.replace(repr(model), "")


@pytest.mark.parametrize(("prompts", "shown"), [(False, False), (True, True)])
async def test_a_question_is_told_only_where_that_is_asked_for(open_world, prompts, shown):
    world = await open_world(log={"prompts": prompts})
    await world.ask("What is my balance?")
    assert (members(world.told[0]).get("prompt") == "What is my balance?") == shown


async def test_the_credential_is_in_no_member(open_world):
    world = await open_world(log={"prompts": True})
    await world.ask("Hi")
    assert "sk-test" not in str(members(world.told[0]))
