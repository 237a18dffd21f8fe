"""What pools promise, why requests hit or missed, what other thresholds would do, and a word on entries."""

from __future__ import annotations

import pytest
from support.candidates import always, features, label, rule
from support.judging import ScriptedJudge, different, same

from cacheproxy.core.labels import Source
from cacheproxy.flow.pools import LivePool
from cacheproxy.server.api.decision import told_pool

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED} please"
ID_HEADER = "x-request-id"


@pytest.fixture
async def believing(panels):
    """A panel whose policy is sure of everything, and whose judge says the same of everything."""
    return await panels(policy="certified", prior=always(5.0), judge=ScriptedJudge(same))


async def test_a_pool_before_its_first_verdict(panel):
    (pool,) = (await panel.told("/decision"))["pools"]
    assert (pool["pool"], pool["stage"], pool["budget"]) == ("default", "uncertified", 0.01)
    assert (pool["wrong_per_hit"], pool["wrong_per_hit_bound"], pool["proven_in_service"]) == (None, 1.0, False)
    assert (pool["rule_from_labels"], pool["thresholds"]) == (None, [])


async def test_a_pool_tells_its_promise_and_how_it_fares(panel):
    pool = panel.flow.pools.named("default")
    pool.rule = rule(2.0, b50=(float("inf"), float("inf")), b100=(1.5, 3.0))
    for number in range(20):
        pool.add(label(number, right=number != 7, source=Source.AUDIT))
    pool.hits, pool.shadowed, pool.shadowed_wrong = 400, 9, 2
    pool.saw(features())
    (told,) = (await panel.told("/decision"))["pools"]
    assert (told["stage"], told["rule_from_labels"]) == ("estimated", 100)
    assert (told["audits"], told["wrong_audits"], told["wrong_per_hit"]) == (20, 1, 0.05)
    assert 0.05 < told["wrong_per_hit_bound"] < 1
    assert (told["semantic_hits"], told["shadow_hits"], told["shadow_wrong"]) == (400, 9, 2)
    assert told["thresholds"] == [
        {"budget": 0.005, "estimated": None, "certified": None},
        {"budget": 0.01, "estimated": 1.5, "certified": 3.0},
    ]


async def test_the_judge_tells_how_often_it_called_the_same_different(panel):
    assert (await panel.told("/decision"))["judge"] == {
        "pairs": 0,
        "disagreed": 0,
        "low": 0.0,
        "high": 1.0,
        "missed": pytest.approx(0.0591),
    }
    for number in range(100):
        panel.flow.pools.pairs.measured(agreed=number >= 27)
    judge = (await panel.told("/decision"))["judge"]
    assert (judge["pairs"], judge["disagreed"], judge["missed"]) == (100, 27, pytest.approx(1 - 0.85**2))
    assert 0.18 < judge["low"] < 0.27 < judge["high"] < 0.37


def fill(panel, *, right=60, wrong=20):
    """Labels and traffic: right ones are similar, wrong ones are not."""
    pool = panel.flow.pools.named("default")
    for number in range(right):
        pool.add(label(number, right=True, similarity=0.9 + number / 1000, root=f"r{number}"))
    for number in range(wrong):
        pool.add(label(number, right=False, similarity=0.5 + number / 100, root=f"w{number}"))
    for each in list(pool.labels):
        pool.saw(each.features)
    return pool


async def test_labels_are_counted_by_similarity_and_by_chance(panel):
    fill(panel)
    told = await panel.told("/decision/labels?bins=10")
    assert (told["pool"], told["labels"]) == ("default", 80)
    for name in ("similarity", "p"):
        assert len(told[name]["edges"]) == 11
        assert sum(told[name]["right_misses"]) == 60
        assert sum(told[name]["wrong_misses"]) == 20
        assert sum(told[name]["right_audits"]) == sum(told[name]["wrong_audits"]) == 0
    assert told["similarity"]["right_misses"][9] == 60
    assert told["similarity"]["wrong_misses"][5] + told["similarity"]["wrong_misses"][6] == 20


async def test_before_the_first_label_histograms_and_curves_are_empty(panel):
    told = await panel.told("/decision/labels")
    assert (told["labels"], sum(told["p"]["right_misses"])) == (0, 0)
    curve = await panel.told("/decision/curve")
    assert (curve["points"], curve["labels"], curve["requests"]) == ([], 0, 0)


async def test_a_curve_says_what_each_threshold_would_come_to(panel):
    fill(panel)
    told = await panel.told("/decision/curve?score=similarity")
    points = told["points"]
    assert (told["labels"], told["requests"]) == (80, 80)
    assert (points[0]["hit_rate"], points[0]["wrong_per_hit"]) == (1.0, 0.25)
    assert points[0]["threshold"] == 0.5
    assert points[-1]["wrong_per_hit"] == 0.0
    assert [point["threshold"] for point in points] == sorted(point["threshold"] for point in points)
    assert [point["hit_rate"] for point in points] == sorted((point["hit_rate"] for point in points), reverse=True)
    at_08 = next(point for point in points if point["threshold"] >= 0.8)
    assert (at_08["hit_rate"], at_08["wrong"], at_08["labels"]) == (0.75, 0, 60)


async def test_the_threshold_in_force_is_the_operating_point(panel):
    fill(panel)
    told = await panel.told("/decision/curve?score=similarity")
    assert (told["operating"]["threshold"], told["operating"]["hit_rate"]) == (0.8, 0.75)
    assert (await panel.told("/decision/curve?score=p"))["operating"] is None


async def test_a_certified_policy_operates_on_chances(believing):
    fill(believing)
    told = await believing.told("/decision/curve")
    assert told["operating"]["threshold"] == pytest.approx(0.976, abs=0.001)
    assert (await believing.told("/decision/curve?score=similarity"))["operating"] is None


async def test_a_tripped_pool_serves_at_no_threshold(believing):
    fill(believing).trip()
    told = await believing.told("/decision/curve")
    assert (told["stage"], told["operating"]) == ("shadow", None)


async def test_points_are_at_most_as_many_as_asked(panel):
    fill(panel)
    assert len((await panel.told("/decision/curve?score=similarity&points=7"))["points"]) == 7


@pytest.mark.parametrize("path", ["/decision/labels?pool=unknown", "/decision/curve?pool=unknown"])
async def test_a_pool_that_there_is_not_is_told_with_those_that_there_are(panel, path):
    status, told = await panel.get(path)
    assert status == 404
    assert "default" in told["error"]["message"]


async def test_near_misses_are_the_likeliest_candidates_that_were_not_served(panels):
    panel = await panels(threshold=0.99)
    for question in (ASKED, SIMILAR, "Please tell me what a walrus eats"):
        await panel.ask(question)
    told = (await panel.told("/decision/near-misses"))["near_misses"]
    assert [miss["prompt"] for miss in told] == [SIMILAR, "Please tell me what a walrus eats"]
    assert (told[0]["entry_prompt"], told[0]["reason"]) == (ASKED, "below-threshold")
    assert told[0]["similarity"] > told[1]["similarity"]
    assert len((await panel.told("/decision/near-misses?limit=1"))["near_misses"]) == 1
    assert (await panel.told("/decision/near-misses?pool=other"))["near_misses"] == []


async def test_a_near_miss_tells_its_chance_and_what_became_of_it(panels):
    panel = await panels(policy="certified", prior=always(1.0), judge=ScriptedJudge(different))
    await panel.ask(ASKED)
    await panel.ask(SIMILAR)
    (miss,) = (await panel.told("/decision/near-misses"))["near_misses"]
    assert (miss["p"], miss["threshold_p"]) == (pytest.approx(0.731, abs=0.001), pytest.approx(0.976, abs=0.001))
    assert miss["verdict"] == "wrong"


async def test_one_request_is_explained_by_its_id(believing):
    await believing.ask(ASKED)
    hit = await believing.ask(SIMILAR)
    (decision,) = (await believing.told(f"/explain?request={hit[ID_HEADER]}"))["decisions"]
    assert (decision["outcome"], decision["entry"], decision["prompt"]) == ("hit", hit["X-CacheProxy-Entry"], SIMILAR)
    assert decision["candidate"]["lambda"] == 3.7
    assert decision["nearest"][0]["prompt"] == ASKED


async def test_requests_are_explained_by_entry_and_the_latest_first(believing):
    for question in (ASKED, SIMILAR, "How tall is the Eiffel Tower?"):
        await believing.ask(question)
    latest = (await believing.told("/explain?limit=2"))["decisions"]
    assert [decision["prompt"] for decision in latest] == ["How tall is the Eiffel Tower?", SIMILAR]
    entry = latest[1]["entry"]
    about = (await believing.told(f"/explain?entry={entry}"))["decisions"]
    assert about == latest
    assert (await believing.told(f"/explain?entry={entry}&limit=1"))["decisions"] == latest[:1]
    assert (await believing.told("/explain?entry=unknown"))["decisions"] == []


async def test_a_request_that_is_not_remembered_is_a_404(panel):
    status, told = await panel.get("/explain?request=req_99")
    assert (status, told["error"]["code"]) == (404, "not_found")


async def test_the_ids_of_recent_requests_lead_to_their_explanations(believing):
    await believing.ask(ASKED)
    await believing.ask(SIMILAR)
    hit, miss = (await believing.told("/requests"))["requests"]
    assert (hit["layer"], miss["layer"]) == ("semantic", None)
    for request in (hit, miss):
        (decision,) = (await believing.told(f"/explain?request={request['request_id']}"))["decisions"]
        assert decision["outcome"] == ("hit" if request is hit else "miss")


async def test_an_operators_word_withdraws_an_entry(believing):
    await believing.ask(ASKED)
    hit = await believing.ask(SIMILAR)
    entry = hit["X-CacheProxy-Entry"]
    said = {"entry": entry, "verdict": "wrong", "note": "outdated"}
    assert await believing.post("/feedback", said) == (200, {"entry": entry, "suspended": True, "blocked_pairs": 1})
    again = await believing.ask(SIMILAR)
    assert again.get("X-CacheProxy-Entry") != entry


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"entry": "unknown", "verdict": "wrong"}, 404),
        ({"entry": "e", "verdict": "maybe"}, 400),
        ({"verdict": "wrong"}, 400),
        ({"entry": "e", "verdict": "wrong", "note": "x" * 1001}, 400),
    ],
)
async def test_what_cannot_be_taken_is_told(panel, said, status):
    assert (await panel.post("/feedback", said))[0] == status


async def test_a_get_of_feedback_is_refused(panel):
    status, told = await panel.get("/feedback")
    assert (status, told["error"]["code"]) == (405, "method_not_allowed")


def test_a_pool_without_a_rule_has_no_thresholds():
    assert told_pool(LivePool("default", budget=0.01, prior=None)).thresholds == ()
