"""Pools while they run: promises that are kept, broken and restored, labels that come and go, restarts."""

import math
import threading

import pytest
from support.candidates import always, features, label, rule
from support.judging import ScriptedJudge, different, same
from support.promises import ASKED, SIMILAR, audit_wrong_hits, break_the_promise, teach
from support.waiting import until

from cacheproxy.core import pool
from cacheproxy.core.labels import FIRST_FIT, LABELS_KEPT, LABELS_LIVE_S, LABELS_STORED, Source
from cacheproxy.core.pool import Stage
from cacheproxy.flow import pools
from cacheproxy.flow.pools import LivePool

BELIEVING = always(5.0)
LEGAL = {"X-CacheProxy-Namespace": "legal"}
BUDGET = 0.01


@pytest.fixture
async def open_certified(open_world):
    async def build(says=same, **settings):
        return await open_world(judge=ScriptedJudge(says), policy="certified", max_wrong_per_hit=BUDGET, **settings)

    return build


# --- a promise


async def test_labels_lead_to_a_rule_that_serves(open_certified):
    world = await open_certified()
    await world.ask(ASKED)
    assert (await world.ask(SIMILAR[0])).cache == ("Miss", "uncertified")
    teach(world)
    await world.settled()
    assert world.pool.stage in {Stage.ESTIMATED, Stage.CERTIFIED}
    assert (await world.ask(SIMILAR[1])).cache == ("Hit", "semantic")


async def test_too_many_wrong_audits_end_similar_answers_at_once(open_certified):
    world = await open_certified(different, prior=BELIEVING, audit_rate=1)
    await break_the_promise(world)
    assert (world.pool.stage, world.pool.monitor.trips) == (Stage.SHADOW, 1)
    assert (await world.ask(SIMILAR[3])).cache == ("Miss", "tripped")
    assert (await world.ask(ASKED)).cache == ("Hit", "exact")


async def test_a_broken_promise_forgets_its_labels(open_certified):
    world = await open_certified(different, prior=BELIEVING, audit_rate=1)
    await break_the_promise(world)
    await world.flow.pools.flush()
    assert list(await world.labels.recent("default", 9)) == []
    assert not world.pool.labels


async def test_a_broken_promise_stays_broken_through_a_restart(open_certified):
    world = await open_certified(different, prior=BELIEVING, audit_rate=1)
    await break_the_promise(world)  # and no flush: the process ends here
    again = await open_certified(prior=BELIEVING)
    assert again.pool.stage is Stage.SHADOW
    assert (await again.ask(SIMILAR[3])).cache == ("Miss", "tripped")


async def test_new_labels_bring_a_promise_back(open_certified):
    world = await open_certified(different, prior=BELIEVING, audit_rate=1)
    await break_the_promise(world)
    teach(world)
    await world.settled()
    assert world.pool.stage in {Stage.ESTIMATED, Stage.CERTIFIED}
    world.flow.pools.add(world.pool, label(world.clock.now, right=True, root="last"))
    await world.upkeep.flush()
    again = await open_certified(prior=BELIEVING)
    assert again.pool.stage in {Stage.ESTIMATED, Stage.CERTIFIED}


# --- restarts


async def test_labels_survive_a_restart_and_lead_to_the_same_rule(open_certified):
    world = await open_certified()
    teach(world, FIRST_FIT)  # exactly one fit, so that the rule rests on all of them
    await world.settled()
    assert world.pool.rule is not None
    await world.upkeep.flush()
    again = await open_certified()
    assert list(again.pool.labels) == list(world.pool.labels)
    assert again.pool.rule.model.weights.tolist() == world.pool.rule.model.weights.tolist()
    assert again.pool.rule.thresholds == world.pool.rule.thresholds


async def test_a_restart_looks_at_no_other_labels_than_those_that_the_last_rule_was_made_from(open_certified):
    """Each start fitted on all that had come since too, with confidence that the rule before had spent already."""
    world = await open_certified()
    for count in (FIRST_FIT, 30, 39, 51, 30):  # a fit at 100, 130, 169 and 220
        teach(world, count, start=world.pool.total)
        await world.settled()
    await world.upkeep.flush()
    again = await open_certified()
    assert (again.pool.rule.labels, again.pool.total) == (world.pool.rule.labels, world.pool.total) == (220, 250)
    assert again.pool.rule.model.weights.tolist() == world.pool.rule.model.weights.tolist()
    assert [each.certified for each in again.pool.rule.thresholds.values()] == [
        each.certified for each in world.pool.rule.thresholds.values()
    ]
    for each in (world, again):
        teach(each, 35, start=250)
        await each.settled()
        assert each.pool.rule.labels == 220
        teach(each, 1, start=285)
        await each.settled()
        assert each.pool.rule.labels == 286


async def test_a_restart_of_a_pool_that_had_more_labels_than_count_makes_its_last_rule_again(
    open_certified, monkeypatch
):
    world, fitted = await open_certified(), []
    monkeypatch.setattr(
        pool, "refit", lambda labels, *_, total, earlier, **__: fitted.append((labels, total + earlier))
    )
    monkeypatch.setattr(LivePool, "adopt", lambda *_: None)
    labels = [label(world.clock.now, right=True, root=f"root {number}") for number in range(LABELS_STORED + 1_000)]
    await world.labels.add("default", labels)
    again = await open_certified()
    due = pool.fits_at(len(labels))
    assert fitted[0] == (labels[due - LABELS_KEPT : due], due)
    assert list(again.pool.labels) == labels[-LABELS_KEPT:]


async def test_where_the_labels_of_the_last_rule_are_gone_a_restart_estimates_and_proves_nothing(open_certified):
    world = await open_certified()
    for count, later_s in ((2_000, LABELS_LIVE_S / 2), (300, LABELS_LIVE_S / 2 + 1)):
        labels = [label(world.clock.now, right=True, root=f"root {number}") for number in range(count)]
        await world.labels.add("default", labels)
        world.clock.now += later_s
    await world.store.sweep(world.clock.now)
    rule = (await open_certified()).pool.rule
    assert rule.labels == 300
    assert {each.certified for each in rule.thresholds.values()} == {math.inf}


async def test_an_estimated_promise_is_not_lost_with_the_traffic_of_the_run_before(open_certified):
    world = await open_certified()
    teach(world, 250)
    await world.settled()
    assert world.pool.stage is Stage.ESTIMATED
    await world.upkeep.flush()
    again = await open_certified()
    assert again.pool.stage is Stage.ESTIMATED


async def test_an_audit_stands_for_the_hits_that_it_was_drawn_from(open_certified):
    world = await open_certified()
    verdict = label(world.clock.now, right=True, source=Source.AUDIT)
    await world.labels.add("default", [verdict, label(world.clock.now, right=False)])
    await world.labels.add("default", [label(world.clock.now, right=True, root="seldom")])
    again = await open_certified()
    assert len(again.pool.traffic) == 3


async def test_labels_that_aged_out_do_not_count_after_a_restart(open_certified):
    world = await open_certified()
    teach(world, 5)
    await world.upkeep.flush()
    world.clock.now += pools.LABELS_LIVE_S + 1
    assert not (await open_certified()).pool.labels


async def test_a_stricter_budget_after_a_restart_keeps_the_labels(open_world):
    loose = await open_world(policy="certified", max_wrong_per_hit=0.2)
    for number in range(40):
        verdict = label(loose.clock.now, right=number % 10 != 0, root=f"root {number}", source=Source.AUDIT)
        loose.flow.pools.add(loose.pool, verdict)
    assert loose.pool.monitor.trips == 0
    await loose.upkeep.flush()
    strict = await open_world(policy="certified", max_wrong_per_hit=0.01)
    assert (strict.pool.stage, len(strict.pool.labels)) == (Stage.BOOTSTRAP, 40)


# --- fits in a thread


@pytest.fixture
def held_fit(monkeypatch):
    """Fits that wait, in their thread, for the event; the events of those that began."""
    release, begun = threading.Event(), []
    real = pool.refit

    def held(*given, **named):
        begun.append(named["total"])
        assert release.wait(60)
        return real(*given, **named)

    monkeypatch.setattr(pool, "refit", held)
    yield release, begun
    release.set()


async def test_requests_are_answered_while_a_rule_is_fitted(open_certified, held_fit):
    release, begun = held_fit
    world = await open_certified()
    teach(world, FIRST_FIT)
    await until(lambda: begun)
    assert (await world.send(world.chat(ASKED))).status == 200
    release.set()
    await world.settled()
    assert world.pool.rule is not None


async def test_labels_that_come_during_a_fit_wait_for_the_next_one(open_certified, held_fit):
    release, begun = held_fit
    world = await open_certified()
    teach(world, FIRST_FIT)
    await until(lambda: begun)
    teach(world, FIRST_FIT, start=FIRST_FIT)
    release.set()
    await world.settled()
    assert world.pool.rule.labels == FIRST_FIT
    teach(world, 1, start=2 * FIRST_FIT)
    await world.settled()
    # The one that was due last meanwhile, as after a restart: what came since has its turn at 220.
    assert (world.pool.rule.labels, begun) == (169, [FIRST_FIT, 169])


async def test_a_rule_fitted_on_labels_of_a_broken_promise_is_dropped(open_certified, held_fit):
    release, begun = held_fit
    world = await open_certified()
    teach(world, FIRST_FIT)
    await until(lambda: begun)
    audit_wrong_hits(world)
    assert world.pool.tripped
    release.set()
    await world.settled()
    assert (world.pool.rule, world.pool.stage) == (None, Stage.SHADOW)


# --- namespaces


async def test_a_namespace_is_a_pool_of_its_own(open_certified):
    world = await open_certified(different, prior=BELIEVING, audit_rate=1)
    for question in (ASKED, SIMILAR[3]):
        await world.ask(question, headers=LEGAL)
    assert len(world.flow.pools.named("legal").labels) == 1
    assert not world.pool.labels
    await break_the_promise(world)
    assert (await world.ask(SIMILAR[0], headers=LEGAL)).cache == ("Hit", "semantic")
    assert (await world.ask(SIMILAR[3])).cache == ("Miss", "tripped")


async def test_a_namespace_has_its_own_budget(open_certified):
    world = await open_certified(namespaces={"legal": {"max_wrong_per_hit": 0.002}})
    assert world.pool.budget == BUDGET
    assert world.flow.pools.named("legal").budget == 0.002
    assert world.flow.pools.named("other").budget == BUDGET


async def test_a_namespace_has_its_own_mode(open_certified):
    world = await open_certified(
        prior=BELIEVING, namespaces={"legal": {"mode": "exact"}, "trial": {"mode": "shadow"}, "none": {"mode": "off"}}
    )
    told = {}
    for name in ("", "legal", "trial", "none"):
        headers = {"X-CacheProxy-Namespace": name} if name else {}
        await world.ask(ASKED, headers=headers)
        told[name] = (await world.ask(SIMILAR[0], headers=headers)).cache
    assert told == {
        "": ("Hit", "semantic"),
        "legal": ("Miss", "no-entry"),
        "trial": ("Miss", "shadow"),
        "none": ("Bypass", "mode-off"),
    }


async def test_a_crowd_of_namespaces_shares_the_default_pool(open_certified, monkeypatch):
    monkeypatch.setattr(pools, "MOST_POOLS", 3)
    world = await open_certified(namespaces={"legal": {"max_wrong_per_hit": 0.002}})
    named = world.flow.pools.named
    assert named("first").name == "first"
    assert named("second") is named("third") is named("default")
    assert named("legal").budget == 0.002


# --- what is asked for


@pytest.mark.parametrize(("asked", "told"), [("0.001", ("Miss", "below-threshold")), ("0.1", ("Hit", "semantic"))])
async def test_a_caller_may_tighten_the_budget_and_not_loosen_it(open_certified, asked, told):
    world = await open_certified()
    await world.ask(ASKED)
    world.pool.rule = rule(2.0, b10=(3.0, 3.0), b100=(1.0, 3.0))
    assert (await world.ask(SIMILAR[0], headers={"X-CacheProxy-Max-Wrong": asked})).cache == told


async def test_a_budget_over_the_operators_does_not_help(open_certified):
    world = await open_certified()
    await world.ask(ASKED)
    world.pool.rule = rule(2.0, b100=(3.0, 3.0), b1000=(1.0, 1.0))
    headers = {"X-CacheProxy-Max-Wrong": "0.1"}
    assert (await world.ask(SIMILAR[0], headers=headers)).cache == ("Miss", "below-threshold")


async def test_before_there_is_a_rule_a_tightened_budget_means_exact_only(open_certified):
    world = await open_certified(prior=BELIEVING)
    await world.ask(ASKED)
    headers = {"X-CacheProxy-Max-Wrong": "0.001"}
    assert (await world.ask(SIMILAR[0], headers=headers)).cache == ("Miss", "uncertified")
    assert (await world.ask(SIMILAR[1])).cache == ("Hit", "semantic")


async def test_a_plain_threshold_keeps_no_budget_and_does_not_pretend_to(open_world):
    world = await open_world(policy="threshold", threshold=0.8)
    await world.ask(ASKED)
    headers = {"X-CacheProxy-Max-Wrong": "0.1"}
    assert (await world.ask(SIMILAR[0], headers=headers)).cache == ("Miss", "uncertified")


# --- shadow mode


async def test_in_shadow_mode_nothing_similar_is_served_and_everything_is_labelled(open_certified):
    world = await open_certified(different, prior=BELIEVING, mode="shadow")
    await world.ask(ASKED)
    assert (await world.ask(SIMILAR[0])).cache == ("Miss", "shadow")
    assert (await world.ask("Please tell me what a forward proxy does")).cache == ("Miss", "below-threshold")
    assert [(verdict.right, verdict.source) for verdict in world.pool.labels] == [(False, Source.MISS)] * 2
    assert (world.pool.shadowed, world.pool.shadowed_wrong, world.pool.hits) == (1, 1, 0)


async def test_a_caller_may_ask_for_shadow(open_certified):
    world = await open_certified(prior=BELIEVING)
    await world.ask(ASKED)
    headers = {"X-CacheProxy-Mode": "shadow"}
    assert (await world.ask(SIMILAR[0], headers=headers)).cache == ("Miss", "shadow")


async def test_a_candidate_counts_as_traffic_whatever_becomes_of_it(open_certified):
    world = await open_certified(mode="shadow", prior=BELIEVING)
    await world.ask(ASKED)
    await world.ask(SIMILAR[0])
    assert len(world.pool.traffic) == 1
    assert world.pool.traffic[0] != features()
