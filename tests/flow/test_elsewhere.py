"""Processes of one store: what one learns the others take over."""

import pytest
from support.candidates import always, label
from support.judging import ScriptedJudge, different, same
from support.promises import ASKED, SIMILAR, break_the_promise, teach
from support.switch import Holder

from cacheproxy.core.labels import FIRST_FIT, Source
from cacheproxy.core.pool import Stage
from cacheproxy.errors import PortUnavailable

BELIEVING = always(5.0)
FEEDBACK = "/cacheproxy/feedback"


@pytest.fixture
async def open_one(open_world):
    async def build(says=same, **settings):
        return await open_world(
            **{"judge": ScriptedJudge(says), "policy": "certified", "max_wrong_per_hit": 0.01, **settings}
        )

    return build


async def told(*worlds):
    """What each said is heard by all."""
    for world in worlds:
        await world.upkeep.flush()
    for world in worlds:
        await world.upkeep.follow()
        await world.flow.elsewhere.follow()
        await world.settled()


async def test_labels_count_once_in_each_process_wherever_they_came_in(open_one):
    one, other = await open_one(), await open_one()
    teach(one, 5)
    teach(other, 5, start=5)
    for _ in range(2):
        await told(one, other)
    assert {verdict.root for verdict in one.pool.labels} == {verdict.root for verdict in other.pool.labels}
    assert (one.pool.total, len(one.pool.labels), other.pool.total, len(other.pool.labels)) == (10, 10, 10, 10)
    assert await one.labels.total("default") == 10


async def test_each_process_makes_the_same_rule_of_labels_that_came_in_elsewhere(open_one):
    one, other = await open_one(), await open_one()
    teach(one, FIRST_FIT)
    await told(one, other)
    assert one.pool.rule is not None
    assert other.pool.rule.model.weights.tolist() == one.pool.rule.model.weights.tolist()


async def test_a_promise_that_breaks_in_one_process_is_broken_in_all(open_one):
    one, other = await open_one(different, prior=BELIEVING, audit_rate=1), await open_one(prior=BELIEVING)
    teach(other, 5)
    await told(one, other)
    await break_the_promise(one)
    await told(one, other)
    assert (other.pool.stage, len(other.pool.labels)) == (Stage.SHADOW, 0)
    assert (await other.ask(SIMILAR[3])).cache == ("Miss", "tripped")
    assert (one.pool.monitor.trips, other.pool.monitor.trips) == (1, 1)


async def test_labels_on_their_way_are_forgotten_with_a_promise_that_broke_elsewhere(open_one):
    one, other = await open_one(different, prior=BELIEVING, audit_rate=1), await open_one(prior=BELIEVING)
    teach(other, 5)
    await break_the_promise(one)
    await other.flow.elsewhere.follow()
    await told(one, other)
    assert await one.labels.total("default") == 0


async def test_audits_of_all_processes_watch_over_the_promise_together(open_one):
    one, other = await open_one(), await open_one()
    for world in (one, other):
        verdict = label(world.clock.now, right=True, source=Source.AUDIT, root=str(id(world)))
        world.flow.pools.add(world.pool, verdict)
    await told(one, other)
    assert (one.pool.monitor.audits, other.pool.monitor.audits) == (2, 2)


class Hurried:
    """Labels, of which another process adds one just before they are read."""

    def __init__(self, labels, add):
        self._labels = labels
        self._add = add

    def __getattr__(self, name):
        return getattr(self._labels, name)

    async def recent(self, pool, limit):
        await self._add()
        return await self._labels.recent(pool, limit)


async def test_a_process_that_starts_while_others_learn_counts_each_label_once(open_one):
    one = await open_one()

    async def add():
        teach(one, 1)
        await one.upkeep.flush()

    await add()
    other = await open_one(around_labels=lambda labels: Hurried(labels, add))
    await told(one, other)
    assert (other.pool.total, len(other.pool.labels)) == (2, 2)


async def test_looks_at_the_certificate_are_counted_through_a_restart(open_one, monkeypatch):
    monkeypatch.setattr("cacheproxy.store.sqlite_labels.LABELS_STORED", 20)
    one = await open_one()
    teach(one, 50)
    await one.upkeep.flush()
    again = await open_one()
    assert (again.pool.total, again.pool.earlier) == (20, 30)


async def entry_of(world, question):
    """The entry that a question is answered from."""
    await world.ask(question)
    return (await world.ask(question)).headers["X-CacheProxy-Entry"]


async def said(world, entry_id, verdict):
    return await world.send({"entry": entry_id, "verdict": verdict}, path=FEEDBACK)


async def test_an_answer_that_is_withdrawn_in_one_process_is_withdrawn_in_all(open_one):
    one, other = await open_one(policy="threshold", threshold=0.8), await open_one(policy="threshold", threshold=0.8)
    entry = await entry_of(one, ASKED)
    await told(one, other)
    assert (await other.ask(ASKED)).cache == ("Hit", "exact")
    await said(one, entry, "wrong")
    await told(one, other)
    assert (await other.ask(ASKED)).cache == ("Miss", "suspended")
    await said(one, entry, "right")
    await told(one, other)
    assert not other.flow.withdrawn.holds(entry)


async def test_the_pair_that_led_to_a_wrong_answer_is_blocked_wherever_it_was_said(open_one):
    one, other = await open_one(policy="threshold", threshold=0.8), await open_one(policy="threshold", threshold=0.8)
    entry = await entry_of(one, ASKED)
    await told(one, other)
    assert (await other.ask(SIMILAR[0])).cache == ("Hit", "semantic")
    await said(one, entry, "wrong")
    for _ in range(2):
        await told(one, other)
    assert len(await one.labels.blocked()) == 1
    assert one.flow.withdrawn._blocked == other.flow.withdrawn._blocked != {}


async def test_an_answer_that_the_store_does_not_know_to_be_withdrawn_stays_so_here(open_one):
    one, other = await open_one(around_labels=(holder := Holder()).around), await open_one()
    entry = await entry_of(one, ASKED)
    holder.adapter.failing = {"suspend": PortUnavailable("gone")}
    await said(one, entry, "wrong")
    await other.labels.suspend("another", other.clock.now, "")
    await told(one, other)
    assert one.flow.withdrawn.holds(entry)
    assert one.flow.withdrawn.holds("another")


async def test_marks_that_could_not_be_read_are_read_the_next_time(open_one):
    one, other = await open_one(around_labels=(holder := Holder()).around), await open_one()
    await other.labels.suspend("entry", other.clock.now, "")
    holder.adapter.failing = {"suspended": PortUnavailable("gone")}
    await told(one, other)
    assert not one.flow.withdrawn.holds("entry")
    holder.adapter.failing = {}
    await told(one, other)
    assert one.flow.withdrawn.holds("entry")


async def test_a_credential_that_was_refused_in_one_process_reads_nothing_in_any(open_one):
    one, other = await open_one(), await open_one()
    for world in (one, other):
        await world.ask(ASKED)
    (credential,) = other.flow.elsewhere._proofs._accepted
    await one.store.revoke(credential)
    await told(one, other)
    assert (await other.ask(ASKED)).cache == ("Miss", "credential-unproven")


async def test_what_was_said_to_be_wrong_while_the_store_was_away_reaches_the_others_when_it_is_back(open_one):
    labels = Holder()
    one, other = await open_one(around_labels=labels.around), await open_one()
    entry = await entry_of(one, ASKED)
    await told(one, other)
    labels.adapter.failing["suspend"] = PortUnavailable("away")
    assert (await one.send({"entry": entry, "verdict": "wrong", "note": "no"}, path=FEEDBACK)).json["suspended"]
    await told(one, other)
    assert not other.flow.withdrawn.holds(entry)
    labels.adapter.failing.clear()
    await told(one, other)
    assert other.flow.withdrawn.holds(entry)
    assert await other.labels.suspended() == {entry: "no"}


async def test_an_answer_that_is_right_again_before_the_store_is_back_stays_right(open_one, monkeypatch):
    one, other = await open_one(), await open_one()
    entry = await entry_of(one, ASKED)
    suspend = one.labels.suspend

    async def slow(*given):
        await one.flow.feedback.take({"entry": entry, "verdict": "right"}, tenant=None)
        await suspend(*given)

    one.flow.withdrawn.suspend(entry, "no")
    monkeypatch.setattr(one.labels, "suspend", slow)
    await told(one, other)
    assert await other.labels.suspended() == {}
    assert not other.flow.withdrawn.holds(entry)
