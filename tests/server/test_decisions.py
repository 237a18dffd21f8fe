"""The operators' view of decisions, over HTTP: pools, explanations, and a word on entries."""

from __future__ import annotations

import pytest
from cacheproxy.server.decisions import Decisions
from support.candidates import features, label, rule

from cacheproxy.address import Address
from cacheproxy.core.pool import Source
from cacheproxy.errors import BadRequest, UnknownEntry
from cacheproxy.flow.pools import LivePool
from cacheproxy.server.admin import build_admin
from cacheproxy.server.listen import admin_listener
from cacheproxy.server.metrics import Metrics


class Told:
    """An explanation that tells its name."""

    def __init__(self, name):
        self.name = name

    def told(self):
        return {"request_id": self.name}


class Known:
    """Explanations of twenty-five requests, of which each third had an entry before it."""

    def __init__(self):
        self._all = [Told(f"req_{number}") for number in range(25)]

    def request(self, request_id):
        return next((each for each in self._all if each.name == request_id), None)

    def entry(self, entry_id):
        return self._all[::3] if entry_id == "e" else []

    def latest(self, limit):
        return self._all[:limit]


class Ear:
    """Takes feedback, and keeps what was said."""

    def __init__(self, error=None):
        self.heard = []
        self._error = error

    async def take(self, said, *, tenant):
        if self._error is not None:
            raise self._error
        self.heard.append((said, tenant))
        return {"entry": said["entry"], "suspended": True}


@pytest.fixture
def pool():
    return LivePool("default", budget=0.01, prior=None)


@pytest.fixture
def ear():
    return Ear()


@pytest.fixture
def admin(session, pool, ear):
    """``admin(path, body=None)``: status and JSON of a GET, or of a POST of the body."""

    async def call(path, body=None, *, feedback=ear):
        decisions = Decisions([pool], Known(), feedback)
        app = build_admin(metrics=Metrics(), ledger=None, decisions=decisions, token=None)
        async with admin_listener(app, Address("127.0.0.1", 0)) as address:
            url = f"http://{address}{path}"
            asking = session.get(url) if body is None else session.post(url, data=body)
            async with asking as response:
                return response.status, await response.json() if response.content_type == "application/json" else None

    return call


async def test_a_pool_before_its_first_verdict(admin):
    status, told = await admin("/api/v1/decision")
    assert status == 200
    (pool,) = told["pools"]
    assert (pool["pool"], pool["stage"], pool["budget"]) == ("default", "uncertified", 0.01)
    assert (pool["wrong_per_hit"], pool["wrong_per_hit_bound"], pool["proven_in_service"]) == (None, 1.0, False)
    assert "thresholds" not in pool


async def test_a_pool_tells_its_promise_and_how_it_fares(admin, pool):
    pool.rule = rule(2.0, b50=(float("inf"), float("inf")), b100=(1.5, 3.0))
    for number in range(20):
        pool.add(label(number, right=number != 7, source=Source.AUDIT))
    pool.hits, pool.shadowed, pool.shadowed_wrong = 400, 9, 2
    pool.saw(features())
    (told,) = (await admin("/api/v1/decision"))[1]["pools"]
    assert (told["stage"], told["rule_from_labels"]) == ("estimated", 100)
    assert (told["audits"], told["wrong_audits"], told["wrong_per_hit"]) == (20, 1, 0.05)
    assert 0.05 < told["wrong_per_hit_bound"] < 1
    assert (told["semantic_hits"], told["shadow_hits"], told["shadow_wrong"]) == (400, 9, 2)
    assert told["thresholds"] == [
        {"budget": 0.005, "estimated": None, "certified": None},
        {"budget": 0.01, "estimated": 1.5, "certified": 3.0},
    ]


async def test_one_request_is_explained_by_its_id(admin):
    assert await admin("/api/v1/explain?request=req_3") == (200, {"decisions": [{"request_id": "req_3"}]})


async def test_a_request_that_is_not_remembered_is_a_404(admin):
    status, told = await admin("/api/v1/explain?request=req_99")
    assert (status, told["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("query", "count"),
    [("", 20), ("?limit=3", 3), ("?limit=0", 1), ("?limit=9999", 25), ("?entry=e", 9), ("?entry=e&limit=2", 2)],
)
async def test_several_are_told_up_to_a_limit(admin, query, count):
    status, told = await admin(f"/api/v1/explain{query}")
    assert (status, len(told["decisions"])) == (200, count)


async def test_an_entry_that_nobody_had_before_them_has_no_decisions(admin):
    assert await admin("/api/v1/explain?entry=unknown") == (200, {"decisions": []})


async def test_a_limit_that_is_no_number_is_told(admin):
    status, told = await admin("/api/v1/explain?limit=many")
    assert (status, told["error"]["code"]) == (400, "bad_request")


async def test_an_operators_word_holds_for_every_tenant(admin, ear):
    said = '{"entry": "e", "verdict": "wrong"}'
    assert await admin("/api/v1/feedback", said) == (200, {"entry": "e", "suspended": True})
    assert ear.heard == [({"entry": "e", "verdict": "wrong"}, None)]


@pytest.mark.parametrize("body", ["{", "[]", "5", "\xff", "[" * 50_000], ids=["cut", "list", "number", "latin", "deep"])
async def test_what_is_no_json_object_is_told(admin, body):
    status, told = await admin("/api/v1/feedback", body.encode("latin-1"))
    assert status == 400
    assert "JSON" in told["error"]["message"]


@pytest.mark.parametrize("error", [BadRequest("say which"), UnknownEntry("there is no entry")])
async def test_what_cannot_be_taken_is_told_as_callers_are_told(admin, error):
    status, told = await admin("/api/v1/feedback", "{}", feedback=Ear(error))
    assert (status, told["error"]) == (error.status, {"code": error.code, "message": error.message})


async def test_a_get_of_feedback_is_refused(admin):
    assert (await admin("/api/v1/feedback"))[0] == 405
