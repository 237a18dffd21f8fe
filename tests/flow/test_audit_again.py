"""Verdicts that are asked for twice, chains of small differences, and what a complaint sets off."""

import pytest
from support.candidates import always
from support.judging import Coin, ScriptedJudge, cannot_tell, different, same

from cacheproxy.core.judge_noise import Noise
from cacheproxy.core.labels import Source
from cacheproxy.errors import UpstreamTimeout
from cacheproxy.events import CheckKind
from cacheproxy.flow import audit
from cacheproxy.model import Selection
from cacheproxy.upstream.scripted import Fails

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED} please"
BELIEVING = always(5.0)
"""A prior to which everything similar is right."""
ALWAYS, NEVER = Coin(0.0), Coin(0.99)
"""Dice by which each hit is audited and each audit repeated, or none."""


def in_turn(*verdicts):
    """A judge's verdicts one after the other."""
    left = list(verdicts)
    return lambda _cached, _fresh: left.pop(0)


async def entry_of(world, question):
    return next(entry for entry in await world.store.browse(Selection(), limit=100) if entry.prompt == question)


async def root_of(world, question):
    entry = await entry_of(world, question)
    return (await world.store.roots([entry.id]))[entry.id]


@pytest.fixture
async def open_judged(open_world):
    async def build(says, **settings):
        judge = ScriptedJudge(says)
        return await open_world(judge=judge, policy="certified", **{"dice": NEVER, **settings}), judge

    return build


# --- a second look


@pytest.mark.parametrize(
    ("verdicts", "right"),
    [
        pytest.param((True,), True, id="right-at-once"),
        pytest.param((False, True), True, id="right-after-all"),
        pytest.param((None, True), True, id="told-at-last"),
        pytest.param((False, False), False, id="wrong-twice"),
        pytest.param((False, None), False, id="never-confirmed"),
    ],
)
async def test_a_surprising_verdict_is_asked_for_twice(open_judged, verdicts, right):
    world, judge = await open_judged(in_turn(*verdicts), prior=BELIEVING, decision={"bootstrap_similarity": 1.0})
    await world.ask(ASKED)
    assert (await world.ask(SIMILAR)).cache[0] == "Miss"
    assert [label.right for label in world.pool.labels] == [right]
    assert len(judge.asked) == len(verdicts)
    assert world.questions == [ASKED, SIMILAR, SIMILAR][: 1 + len(verdicts)]
    assert [check.kind for check in world.audits].count(CheckKind.AUDIT) == len(verdicts) - 1


async def test_a_verdict_that_was_to_be_expected_is_believed(open_judged):
    world, judge = await open_judged(different, prior=always(0.5))
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    assert [label.right for label in world.pool.labels] == [False]
    assert len(judge.asked) == 1
    assert world.questions == [ASKED, SIMILAR]


async def test_a_second_answer_is_not_bought_past_the_limit(open_judged):
    decision = {"audit_allowance_usd": 0, "audit_share": 0, "bootstrap_similarity": 1.0}
    world, judge = await open_judged(different, prior=BELIEVING, decision=decision)
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    assert [label.right for label in world.pool.labels] == [False]
    assert len(judge.asked) == 1


async def test_past_the_limit_hits_are_audited_at_the_least_rate(open_judged):
    for allowance, audited in ((1, True), (0, False)):
        decision = {"audit_allowance_usd": allowance, "audit_share": 0}
        world, _ = await open_judged(same, prior=BELIEVING, dice=Coin(0.15), decision=decision)
        await world.ask(ASKED)
        assert (await world.ask(f"{SIMILAR}{'!' * allowance}")).cache == ("Hit", "semantic")
        assert bool(world.audits) is audited


# --- joining a group


def near(most):
    """Answers are numbers of letters; these are the same when they are as near as that."""
    return lambda cached, fresh: abs(len(cached) - len(fresh)) <= most


async def test_a_chain_of_small_differences_does_not_make_far_answers_one(open_judged):
    world, _ = await open_judged(near(2))
    questions = [ASKED + "!" * count for count in (0, 2, 4, 6, 8)]
    for question in questions:
        await world.ask(question)
    roots = [await root_of(world, question) for question in questions]
    texts = {(await entry_of(world, question)).id: len(question) for question in questions}
    assert roots[0] == roots[1] != roots[2]
    assert all(abs(texts[root] - len(question)) <= 2 for root, question in zip(roots, questions, strict=True))


async def test_an_answer_that_agrees_with_the_root_as_well_joins(open_judged):
    world, judge = await open_judged(same)
    for mark in ("", "!", "!!"):
        await world.ask(ASKED + mark)
    assert await root_of(world, f"{ASKED}!!") == await root_of(world, ASKED)
    assert [cached for _, cached, _ in judge.asked][-1] == f"Answer to {ASKED}"


async def test_where_the_root_is_gone_the_oldest_nearby_stands_for_it(open_judged):
    world, judge = await open_judged(same)
    for mark in ("", "!"):
        await world.ask(ASKED + mark)
    root = await entry_of(world, ASKED)
    await world.upkeep.evict(Selection(ids=[root.id]))
    judge.asked.clear()
    await world.ask(f"{ASKED}!!")
    assert await root_of(world, f"{ASKED}!!") == root.id
    assert {cached for _, cached, _ in judge.asked} == {f"Answer to {ASKED}!"}


# --- the judge measured


async def test_two_fresh_answers_to_one_question_measure_the_judge(open_judged):
    world, judge = await open_judged(in_turn(True, False), prior=BELIEVING, dice=ALWAYS)
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    assert world.questions == [ASKED, SIMILAR, SIMILAR]
    assert judge.asked[1] == (SIMILAR, f"Answer to {SIMILAR}", f"Answer to {SIMILAR}")
    assert world.flow.pools.pairs.noise == Noise(1, 1)
    assert [label.right for label in world.pool.labels] == [True]


@pytest.mark.parametrize(
    ("wanted", "decision"),
    [
        pytest.param(0, {}, id="often-enough"),
        pytest.param(200, {"audit_allowance_usd": 0, "audit_share": 0}, id="too-dear"),
    ],
)
async def test_it_is_measured_so_often_and_within_the_limit(open_judged, monkeypatch, wanted, decision):
    monkeypatch.setattr(audit, "PAIRS_WANTED", wanted)
    world, judge = await open_judged(same, prior=BELIEVING, dice=ALWAYS, decision=decision)
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    assert len(judge.asked) == 1
    assert world.flow.pools.pairs.noise == Noise()


# --- complaints


async def complain(world, hit):
    entry = hit.headers["X-CacheProxy-Entry"]
    told = await world.send({"entry": entry, "verdict": "wrong"}, path="/cacheproxy/feedback")
    await world.settled()
    assert told.json["suspended"] is True
    return entry


@pytest.mark.parametrize(("says", "suspended"), [(same, False), (different, True), (cannot_tell, True)])
async def test_a_complaint_is_looked_into_and_the_suspension_ends_where_it_is_not_confirmed(
    open_judged, says, suspended
):
    world, judge = await open_judged(says, prior=BELIEVING)
    await world.ask(ASKED)
    entry = await complain(world, await world.ask(SIMILAR))
    assert judge.asked == [(SIMILAR, f"Answer to {ASKED}", f"Answer to {SIMILAR}")]
    assert (entry in await world.labels.suspended()) is suspended
    assert world.flow.withdrawn.holds(entry) is suspended
    (label,) = world.pool.labels
    assert (label.source, label.right) == (Source.FEEDBACK, not suspended)
    assert world.pool.monitor.audits == 0
    assert (await world.ask(SIMILAR)).cache == ("Miss", "suspended")


@pytest.mark.parametrize("why", ["no answer", "too dear"])
async def test_where_nothing_new_is_learnt_the_complaint_stands(open_judged, api, why):
    failing = {
        "no answer": {
            "script": lambda got: api.echo(got) if api.question_of(got) == ASKED else Fails(UpstreamTimeout(""))
        },
        "too dear": {"decision": {"audit_allowance_usd": 0, "audit_share": 0}},
    }
    world, judge = await open_judged(same, prior=BELIEVING, **failing[why])
    await world.ask(ASKED)
    entry = await complain(world, await world.ask(SIMILAR))
    assert world.flow.withdrawn.holds(entry)
    assert judge.asked == []
    assert not world.pool.labels


async def test_an_answer_to_the_very_question_is_asked_for_by_whoever_asks_next(open_judged):
    world, judge = await open_judged(same, prior=BELIEVING)
    await world.ask(ASKED)
    entry = await complain(world, await world.ask(ASKED))
    assert judge.asked == []
    assert world.questions == [ASKED]
    assert world.flow.withdrawn.holds(entry)
