"""What people say of answers: wrong ones are withdrawn at once, for as long as they are kept, and by nobody else."""

import pytest
from support.candidates import always
from support.judging import ScriptedJudge, different
from support.switch import Holder

from cacheproxy.core.labels import Source
from cacheproxy.errors import PortUnavailable, UnknownEntry
from cacheproxy.flow import feedback
from cacheproxy.flow.feedback import Withdrawn
from cacheproxy.model import Selection

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED} please"
FURTHER = f"{ASKED} exactly"
PATH = "/cacheproxy/feedback"
OTHER = {"Authorization": "Bearer sk-other"}


@pytest.fixture
async def open_serving(open_world):
    """A world that answers similar questions, and audits none of them."""

    async def build(**settings):
        return await open_world(policy="threshold", threshold=0.8, **settings)

    return build


async def say(world, entry, verdict="wrong", *, headers=(), **further):
    return await world.send({"entry": entry, "verdict": verdict, **further}, path=PATH, headers=headers)


def entry_in(reply):
    return reply.headers["X-CacheProxy-Entry"]


async def test_a_wrong_answer_is_served_to_nobody_from_then_on(open_serving):
    world = await open_serving()
    await world.ask(ASKED)
    hit = await world.ask(SIMILAR)
    told = await say(world, entry_in(hit))
    assert (told.status, told.json) == (200, {"entry": entry_in(hit), "suspended": True, "blocked_pairs": 1})
    for question in (SIMILAR, FURTHER, ASKED):
        assert (await world.send(world.chat(question), headers={"Cache-Control": "only-if-cached"})).status == 504
    assert (await world.ask(FURTHER)).cache == ("Miss", "suspended")


async def test_an_exact_answer_that_was_judged_wrong_is_asked_for_anew(open_serving):
    world = await open_serving()
    await world.ask(ASKED)
    entry = entry_in(await world.ask(ASKED))
    assert (await say(world, entry)).json["blocked_pairs"] == 0
    assert (await world.ask(ASKED)).cache == ("Miss", "suspended")
    again = await world.ask(ASKED)
    assert again.cache == ("Hit", "exact")
    assert entry_in(again) != entry


async def test_the_pair_that_went_wrong_does_not_come_back_with_the_entry(open_serving):
    world = await open_serving()
    await world.ask(ASKED)
    entry = entry_in(await world.ask(SIMILAR))
    await say(world, entry)
    assert (await say(world, entry, "right")).json == {"entry": entry, "suspended": False}
    assert (await world.ask(FURTHER)).cache == ("Hit", "semantic")
    assert (await world.ask(SIMILAR)).cache == ("Miss", "suspended")


async def test_what_was_said_survives_a_restart(open_serving):
    world = await open_serving()
    await world.ask(ASKED)
    entry = entry_in(await world.ask(SIMILAR))
    await say(world, entry, note="it speaks of another kind of proxy")
    again = await open_serving()
    assert (await again.ask(FURTHER)).cache == ("Miss", "suspended")
    # Its fresh answer is another one that may be served; here it would hide what was withdrawn.
    (fresh,) = [each for each in await again.store.browse(Selection(), limit=10) if each.prompt == FURTHER]
    await again.upkeep.evict(Selection(ids=[fresh.id]))
    assert dict(await again.labels.suspended()) == {entry: "it speaks of another kind of proxy"}
    await say(again, entry, "right")
    later = await open_serving()
    assert (await later.ask(f"{ASKED}!")).cache == ("Hit", "semantic")
    assert (await later.ask(SIMILAR)).cache == ("Miss", "suspended")


async def test_another_tenant_learns_nothing_and_does_nothing(open_serving):
    world = await open_serving()
    await world.ask(ASKED)
    entry = entry_in(await world.ask(ASKED))
    theirs, unknown = await say(world, entry, headers=OTHER), await say(world, "no-such-entry", headers=OTHER)
    assert (theirs.status, unknown.status) == (404, 404)
    assert theirs.json["error"]["code"] == unknown.json["error"]["code"] == "cacheproxy_unknown_entry"
    assert (await world.ask(ASKED)).cache == ("Hit", "exact")


async def test_an_operator_may_judge_every_entry(open_serving):
    world = await open_serving()
    await world.ask(ASKED)
    entry = entry_in(await world.ask(SIMILAR))
    done = await world.flow.feedback.take({"entry": entry, "verdict": "wrong"}, tenant=None)
    assert done["blocked_pairs"] == 1
    with pytest.raises(UnknownEntry):
        await world.flow.feedback.take({"entry": "no-such-entry", "verdict": "wrong"}, tenant=None)


async def test_feedback_never_enters_what_a_promise_rests_on(open_world):
    world = await open_world(policy="certified", prior=always(5.0), judge=ScriptedJudge(different))
    await world.ask(ASKED)
    entry = entry_in(await world.ask(SIMILAR))
    await world.settled()
    before = list(world.pool.labels)
    await say(world, entry)
    await world.settled()
    assert [label for label in world.pool.labels if label.source is not Source.FEEDBACK] == before


async def test_an_entry_may_be_judged_before_it_is_stored(open_serving):
    world = await open_serving(around_store=(holder := Holder()).around)
    holder.adapter.failing = {"put": PortUnavailable("the disk is slow")}
    await world.ask(ASKED)
    entry = entry_in(await world.ask(ASKED))
    assert (await say(world, entry)).status == 200
    assert (await world.ask(ASKED)).cache == ("Miss", "suspended")


async def test_a_store_that_does_not_answer_is_told_and_nothing_is_done(open_serving):
    world = await open_serving(around_store=(holder := Holder()).around, cache={"l1_bytes": 0})
    await world.ask(ASKED)
    entry = entry_in(await world.ask(ASKED))
    holder.adapter.failing = {"load": PortUnavailable("gone")}
    told = await say(world, entry)
    assert (told.status, told.json["error"]["code"]) == (503, "cacheproxy_port_unavailable")
    assert (await world.ask(ASKED)).cache == ("Hit", "exact")


async def test_a_verdict_that_cannot_be_kept_counts_all_the_same(open_serving):
    world = await open_serving(around_labels=(holder := Holder()).around)
    await world.ask(ASKED)
    entry = entry_in(await world.ask(SIMILAR))
    holder.adapter.failing = dict.fromkeys(("suspend", "block"), PortUnavailable("gone"))
    assert (await say(world, entry)).status == 200
    assert (await world.ask(FURTHER)).cache == ("Miss", "suspended")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"{", "not valid JSON", id="no-json"),
        pytest.param(b"", "not valid JSON", id="empty"),
        pytest.param(b"[" * 15_000, "not valid JSON", id="too-deep"),
        pytest.param(b"[1]", "must be a JSON object", id="no-object"),
        pytest.param({"verdict": "wrong"}, '"entry"', id="no-entry"),
        pytest.param({"entry": 5, "verdict": "wrong"}, '"entry"', id="entry-is-a-number"),
        pytest.param({"entry": "", "verdict": "wrong"}, '"entry"', id="entry-is-empty"),
        pytest.param({"entry": "e"}, '"verdict"', id="no-verdict"),
        pytest.param({"entry": "e", "verdict": "maybe"}, '"verdict"', id="another-verdict"),
        pytest.param({"entry": "e", "verdict": ["wrong"]}, '"verdict"', id="verdict-is-a-list"),
        pytest.param({"entry": "e", "verdict": "wrong", "note": 1}, '"note"', id="note-is-a-number"),
        pytest.param({"entry": "e", "verdict": "wrong", "note": "n" * 1001}, '"note"', id="note-too-long"),
    ],
)
async def test_a_body_that_says_nothing_is_told_what_it_lacks(open_serving, body, said):
    world = await open_serving()
    told = await world.send(body, path=PATH)
    assert (told.status, told.json["error"]["code"]) == (400, "cacheproxy_bad_request")
    assert said in told.json["error"]["message"]


async def test_a_body_may_not_be_long(open_serving):
    world = await open_serving()
    assert (await say(world, "e", note="n" * 20_000)).status == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_posts_are_taken(open_serving, method):
    world = await open_serving()
    told = await world.send(None, path=PATH, method=method)
    assert (told.status, "takes POST" in told.json["error"]["message"]) == (400, True)
    assert world.upstream.received == []


async def test_a_query_does_not_lead_past_it(open_serving):
    world = await open_serving()
    assert (await world.send({}, path=f"{PATH}?x=1")).status == 400
    assert world.upstream.received == []


def test_marks_are_bounded_and_the_oldest_go(monkeypatch):
    monkeypatch.setattr(feedback, "MARKS_KEPT", 2)
    withdrawn = Withdrawn()
    for name in "abc":
        withdrawn.suspend(name, "")
        withdrawn.block(name.encode(), "root")
    assert [withdrawn.holds(name) for name in "abc"] == [False, True, True]
    assert [withdrawn.parts(name.encode(), "root") for name in "abc"] == [False, True, True]
