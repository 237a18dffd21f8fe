"""The operators' door: metrics and statistics, behind a token where one is set."""

from __future__ import annotations

import re

import pytest

from cacheproxy.address import Address
from cacheproxy.errors import PortUnavailable
from cacheproxy.model import GROUPINGS, Tally
from cacheproxy.server.admin import build_admin
from cacheproxy.server.decisions import Decisions
from cacheproxy.server.listen import admin_listener
from cacheproxy.server.metrics import Metrics


class Books:
    """A ledger that remembers how it was asked."""

    def __init__(self, failing=None):
        self.asked = []
        self._failing = failing

    def served(self, event):
        pass

    def audited(self, event):
        pass

    async def flush(self):
        self.asked.append("flush")
        if self._failing:
            raise self._failing

    async def tallies(self, by, *, since=0.0, until=None):
        self.asked.append((list(by), since))
        sums = {"cost_usd": 0.5, "saved_usd": 0.25, "audit_usd": 0.0625, "judge_usd": 0.125}
        return [Tally(group=dict.fromkeys(by, "x"), requests=3, **sums)]


@pytest.fixture
def admin(session):
    """``admin(path)``: status, headers and body of a GET on an admin plane."""

    async def get(path, *, books=None, token=None, headers=None):
        app = build_admin(metrics=Metrics(), ledger=books or Books(), decisions=Decisions([], None, None), token=token)
        async with (
            admin_listener(app, Address("127.0.0.1", 0)) as address,
            session.get(f"http://{address}{path}", headers=headers or {}) as response,
        ):
            kind = response.content_type
            return response.status, kind, await (response.json() if kind == "application/json" else response.text())

    return get


async def test_the_metrics_are_prometheus_text(admin):
    status, kind, text = await admin("/metrics")
    assert (status, kind) == (200, "text/plain")
    assert "# TYPE cacheproxy_requests_total counter" in text


async def test_the_root_is_the_dashboard(admin):
    status, kind, page = await admin("/")
    assert (status, kind) == (200, "text/html")
    assert "cacheproxy" in page


async def test_statistics_are_grouped_and_fresh(admin):
    books = Books()
    status, _, told = await admin("/api/v1/stats?by=model,layer&since=12.5", books=books)

    assert status == 200
    assert books.asked == ["flush", (["model", "layer"], 12.5)]
    assert told["by"] == ["model", "layer"]
    assert told["rows"][0]["group"] == {"model": "x", "layer": "x"}
    assert told["rows"][0]["saved_usd"] == 0.25
    assert told["rows"][0]["net_saved_usd"] == 0.0625


@pytest.mark.parametrize("name", GROUPINGS)
async def test_each_grouping_is_taken(admin, name):
    assert (await admin(f"/api/v1/stats?by={name}"))[0] == 200


async def test_without_a_grouping_there_is_one_sum(admin):
    books = Books()
    assert (await admin("/api/v1/stats", books=books))[0] == 200
    assert books.asked[1] == ([], 0.0)


@pytest.mark.parametrize(
    ("query", "says"),
    [("by=colour", "'colour'"), ("by=model,", None), ("since=monday", "since"), ("since=nan", "since")],
)
async def test_a_wrong_question_is_told_what_is_right(admin, query, says):
    status, _, told = await admin(f"/api/v1/stats?{query}")
    assert status == (200 if says is None else 400)
    assert says is None or says in told["error"]["message"]


async def test_a_ledger_that_fails_is_a_503_and_no_outage(admin):
    status, _, told = await admin("/api/v1/stats", books=Books(PortUnavailable("the disk is full")))
    assert status == 503
    assert told["error"]["message"] == "the disk is full"


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/stats", "/nowhere"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}, {"Authorization": "Bearer s3cret "[:-2]}],
    ids=["none", "wrong", "bare", "short"],
)
async def test_with_a_token_nothing_is_told_without_it(admin, path, headers):
    status, _, told = await admin(path, token="s3cret", headers=headers)
    assert status == 401
    assert "s3cret" not in str(told)


async def test_the_page_that_asks_for_the_token_is_served_without_it(admin):
    status, _, page = await admin("/", token="s3cret")
    assert status == 200
    for path in re.findall(r'(?:href|src)="(/dashboard/[^"]+)"', page):
        assert (await admin(path, token="s3cret"))[0] == 200, path


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/stats"])
async def test_with_the_token_everything_is_told(admin, path):
    assert (await admin(path, token="s3cret", headers={"Authorization": "Bearer s3cret"}))[0] == 200
