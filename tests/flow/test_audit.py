"""Verdicts: what is judged, what the verdict becomes, and what it must never do to a request."""

import asyncio
from dataclasses import replace

import pytest
from support.candidates import always
from support.judging import Coin, ScriptedJudge, cannot_tell, different, same
from support.waiting import until

from cacheproxy.core.features import Record
from cacheproxy.core.labels import Source
from cacheproxy.errors import UpstreamTimeout
from cacheproxy.events import CheckKind
from cacheproxy.flow import audit
from cacheproxy.model import CheckVerdict, Selection
from cacheproxy.upstream.scripted import Answer, Fails

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED} please"
BELIEVING = always(5.0)
"""A prior to which everything similar is right, so that the bootstrap rule serves."""


@pytest.fixture
async def open_judged(open_world):
    """A world under the certified policy, and its judge."""

    async def build(says=same, *, script=None, **settings):
        judge = settings.pop("judge", None) or ScriptedJudge(says)
        given = {} if script is None else {"script": script}
        world = await open_world(judge=judge, policy="certified", **{**given, **settings})
        return world, judge

    return build


def gated(api):
    """An upstream that answers only when it is let go, and its gate."""
    gate = asyncio.Event()
    gate.set()

    return (lambda received: replace(api.echo(received), head_waits=gate)), gate


async def entry_of(world, question):
    """The stored entry of a question."""
    return next(entry for entry in await world.store.browse(Selection(), limit=100) if entry.prompt == question)


async def root_of(world, question):
    entry = await entry_of(world, question)
    roots = await world.store.roots([entry.id])
    return roots.get(entry.id)


# --- misses


async def test_a_miss_with_a_candidate_is_judged_and_becomes_a_label(open_judged):
    world, judge = await open_judged()
    await world.ask(ASKED)
    reply = await world.ask(SIMILAR)
    assert reply.cache == ("Miss", "uncertified")
    assert judge.asked == [(SIMILAR, f"Answer to {ASKED}", f"Answer to {SIMILAR}")]
    (label,) = world.pool.labels
    first = await entry_of(world, ASKED)
    assert (label.root, label.right, label.source, label.inclusion) == (first.id, True, Source.MISS, 1.0)
    assert label.principal == first.tenant
    assert label.features.similarity == pytest.approx(0.964, abs=0.001)


async def test_a_verdict_is_told_with_whose_answer_it_is_on(open_judged):
    world, _ = await open_judged()
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    checked = world.audits[-1].checked
    assert (checked.pool, checked.entry_id, checked.hit, checked.by) == (
        "default",
        (await entry_of(world, ASKED)).id,
        False,
        "scripted",
    )
    assert world.flow.explanations.request(checked.request_id).prompt == SIMILAR


async def test_a_label_holds_what_was_known_before_its_verdict(open_judged):
    world, _ = await open_judged()
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    await world.ask(f"{ASKED}!")
    first, second = world.pool.labels
    assert (first.features.right, second.features.right > 0) == (0.0, True)


async def test_a_miss_without_a_candidate_is_not_judged(open_judged):
    world, judge = await open_judged()
    await world.ask(ASKED)
    assert judge.asked == []
    assert not world.pool.labels


async def test_an_answer_that_says_the_same_becomes_a_further_key_of_the_cached_one(open_judged):
    world, _ = await open_judged(same)
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    root = (await entry_of(world, ASKED)).id
    assert await root_of(world, SIMILAR) == root
    assert await world.index.keys_of((await entry_of(world, ASKED)).scope, root) == 2


@pytest.mark.parametrize("says", [different, cannot_tell], ids=["different", "not told"])
async def test_an_answer_that_is_not_confirmed_stands_alone(open_judged, says):
    world, _ = await open_judged(says)
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    own = (await entry_of(world, SIMILAR)).id
    assert await root_of(world, SIMILAR) == own
    assert [label.right for label in world.pool.labels] == [False]


async def test_a_verdict_that_nobody_could_give_is_told_as_such_and_counts_as_not_right(open_judged):
    world, _ = await open_judged(cannot_tell)
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    assert [(check.kind, check.verdict) for check in world.audits] == [(CheckKind.JUDGE, CheckVerdict.UNKNOWN)]
    assert [label.right for label in world.pool.labels] == [False]


async def test_one_answer_has_so_many_further_keys_and_what_comes_after_stays_exact(open_judged):
    world, _ = await open_judged(same, decision={"aliases": 1})
    for question in (ASKED, SIMILAR, f"{ASKED}!", f"{ASKED} exactly"):
        await world.ask(question)
    first = await entry_of(world, ASKED)
    assert await world.index.keys_of(first.scope, first.id) == 2
    assert len(world.index) == 2
    assert (await world.ask(f"{ASKED}!")).cache == ("Hit", "exact")


async def test_a_fresh_answer_may_belong_to_one_that_is_less_near(open_judged):
    farther = f"{ASKED} exactly"
    world, judge = await open_judged(lambda cached, fresh: cached.endswith("exactly") and fresh.endswith("please"))
    await world.ask(ASKED)
    await world.ask(farther)
    judge.asked.clear()
    await world.ask(f"{ASKED} please")
    assert [cached for _, cached, _ in judge.asked] == [f"Answer to {ASKED}", f"Answer to {farther}"]
    assert await root_of(world, f"{ASKED} please") == (await entry_of(world, farther)).id
    # The candidate alone is labelled; the other verdict only enters that answer's record.
    assert [label.right for label in world.pool.labels] == [False, False]
    assert world.pool.records[(await entry_of(world, farther)).id] == Record(1, 0)


async def test_an_entry_that_went_meanwhile_is_not_judged(open_judged, api):
    script, gate = gated(api)
    world, judge = await open_judged(script=script)
    await world.ask(ASKED)
    gate.clear()
    asking = asyncio.create_task(world.ask(SIMILAR))
    await until(lambda: len(world.upstream.received) == 2)
    await world.upkeep.evict(Selection())
    gate.set()
    await asking
    await world.settled()
    assert judge.asked == []
    assert not world.pool.labels
    assert await root_of(world, SIMILAR) == (await entry_of(world, SIMILAR)).id


# --- hits


async def test_a_hit_is_answered_before_its_audit_is(open_judged, api):
    script, gate = gated(api)
    world, judge = await open_judged(script=script, prior=BELIEVING, audit_rate=1)
    await world.ask(ASKED)
    gate.clear()
    hit = await world.send(world.chat(SIMILAR))
    assert hit.cache == ("Hit", "semantic")
    assert judge.asked == []
    gate.set()
    await world.settled()
    assert judge.asked == [(SIMILAR, f"Answer to {ASKED}", f"Answer to {SIMILAR}")]
    (label,) = world.pool.labels
    assert (label.right, label.source, label.inclusion) == (True, Source.AUDIT, 1.0)
    assert (world.pool.monitor.audits, world.pool.monitor.wrong) == (1, 0)


@pytest.mark.parametrize(("falls", "audited"), [(0.19, True), (0.21, False)])
async def test_a_coin_decides_which_hits_are_audited_and_its_chance_is_kept(open_judged, falls, audited):
    world, _ = await open_judged(prior=BELIEVING, dice=Coin(falls))
    await world.ask(ASKED)
    assert (await world.ask(SIMILAR)).cache == ("Hit", "semantic")
    assert [label.inclusion for label in world.pool.labels] == ([0.2] if audited else [])
    assert len(world.questions) == 1 + audited


async def test_an_audit_keeps_the_fresh_answer_for_the_one_who_asked(open_judged):
    world, _ = await open_judged(prior=BELIEVING, audit_rate=1)
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    again = await world.ask(SIMILAR)
    assert (again.cache, again.text) == (("Hit", "exact"), f"Answer to {SIMILAR}")


async def test_an_audit_of_a_stream_reads_the_stream(open_judged):
    world, judge = await open_judged(prior=BELIEVING, audit_rate=1)
    await world.ask(ASKED)
    assert (await world.ask(SIMILAR, stream=True)).cache == ("Hit", "semantic")
    assert judge.asked == [(SIMILAR, f"Answer to {ASKED}", f"Answer to {SIMILAR}")]


async def test_an_audit_is_booked_as_a_cost_and_is_no_request(open_judged):
    world, judge = await open_judged(prior=BELIEVING, audit_rate=1)
    judge.cost_usd = 0.25
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    assert len(world.told) == 2
    asked_again, judged = world.audits
    assert (asked_again.kind, asked_again.verdict) == (CheckKind.AUDIT, None)
    assert asked_again.cost_usd == world.told[0].cost_usd > 0
    assert (judged.kind, judged.verdict, judged.cost_usd) == (CheckKind.JUDGE, CheckVerdict.RIGHT, 0.25)


@pytest.mark.parametrize("failure", ["status", "no answer"])
async def test_an_upstream_that_fails_an_audit_says_nothing_of_the_hit(open_judged, api, failure):
    def script(received):
        if api.question_of(received) == ASKED:
            return api.echo(received)
        if failure == "no answer":
            return Fails(UpstreamTimeout("too slow"))
        return Answer(status=500, chunks=[b"{}"])

    world, judge = await open_judged(script=script, prior=BELIEVING, audit_rate=1)
    await world.ask(ASKED)
    assert (await world.ask(SIMILAR)).cache == ("Hit", "semantic")
    assert judge.asked == []
    assert not world.pool.labels
    assert [(check.kind, check.verdict) for check in world.audits] == [(CheckKind.AUDIT, CheckVerdict.UNKNOWN)]


# --- what must not go wrong


async def test_a_broken_judge_breaks_no_request_and_teaches_nothing(open_judged):
    def breaks(_cached, _fresh):
        raise RuntimeError("bug")

    world, _ = await open_judged(breaks, prior=BELIEVING, audit_rate=1)
    await world.ask(ASKED)
    assert (await world.ask(f"{ASKED} exactly")).cache == ("Hit", "semantic")
    assert (await world.ask("How tall is the Eiffel Tower?")).status == 200
    assert not world.pool.labels
    assert (await world.ask(f"{ASKED} exactly")).cache == ("Hit", "exact")


async def test_a_judge_that_hangs_is_given_up(open_judged, monkeypatch):
    monkeypatch.setattr("cacheproxy.assembly.JUDGE_DEADLINE_S", 0.01)
    world, judge = await open_judged()
    judge.gate.clear()
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    assert not world.pool.labels
    assert judge.at_work == 0
    assert await root_of(world, SIMILAR) == (await entry_of(world, SIMILAR)).id


async def test_judges_at_work_are_few_however_many_answers_come(open_judged, monkeypatch):
    monkeypatch.setattr(audit, "AT_ONCE", 2)
    world, judge = await open_judged()
    await world.ask(ASKED)
    judge.gate.clear()
    for mark in ("!", "!!", "!!!", " exactly"):
        await world.send(world.chat(ASKED + mark))
    auditor = world.proxy._learner._auditor
    await until(lambda: auditor._waiting == 4 and judge.at_work == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert judge.at_work == 2
    judge.gate.set()
    await world.settled()
    assert len(world.pool.labels) == 4


async def test_a_crowd_before_the_judge_is_sent_away_and_still_stored(open_judged, monkeypatch):
    monkeypatch.setattr(audit, "MOST_WAITING", 0)
    world, judge = await open_judged()
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    assert judge.asked == []
    assert await root_of(world, SIMILAR) == (await entry_of(world, SIMILAR)).id


async def test_a_plain_threshold_asks_no_judge(open_world):
    judge = ScriptedJudge()
    world = await open_world(judge=judge, policy="threshold", threshold=0.8)
    await world.ask(ASKED)
    assert (await world.ask(SIMILAR)).cache == ("Hit", "semantic")
    await world.ask("Please tell me what a forward proxy does")
    assert judge.asked == []


async def test_vcache_explores_until_it_has_observed_enough(open_world):
    judge = ScriptedJudge(same)
    world = await open_world(judge=judge, policy="vcache", max_wrong_per_hit=0.3)
    for mark in ("", "!", "!!", "!!!", " exactly"):
        await world.ask(ASKED + mark)
    assert {cached for _, cached, _ in judge.asked} >= {f"Answer to {ASKED}"}
    (observed,) = world.pool.observed.values()
    assert [right for _, right in observed] == [True] * 4
    assert world.pool.rule is None
