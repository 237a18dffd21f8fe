"""The operators' door: the dashboard, metrics and the API, behind a token where one is set."""

from __future__ import annotations

import re

import pytest
from support.panel import open_panel


@pytest.fixture
async def panel(tmp_path):
    async with open_panel(tmp_path) as panel:
        yield panel


@pytest.fixture
async def guarded(tmp_path):
    async with open_panel(tmp_path, token="s3cret") as panel:
        yield panel


async def fetched(panel, path, **headers):
    async with panel.session.get(f"{panel.url}{path}", headers=headers) as response:
        return response.status, response.content_type, await response.text()


async def test_the_metrics_are_prometheus_text(panel):
    status, kind, text = await fetched(panel, "/metrics")
    assert (status, kind) == (200, "text/plain")
    assert "# TYPE cacheproxy_requests_total counter" in text


async def test_the_root_is_the_dashboard(panel):
    status, kind, page = await fetched(panel, "/")
    assert (status, kind) == (200, "text/html")
    assert "cacheproxy" in page


async def test_the_page_that_asks_for_the_token_is_served_without_it(guarded):
    status, _, page = await fetched(guarded, "/")
    assert status == 200
    for path in re.findall(r'(?:href|src)="(/dashboard/[^"]+)"', page):
        assert (await fetched(guarded, path))[0] == 200, path


PATHS = ["/metrics", "/api/v1/stats", "/api/v1/openapi.json", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}, {"Authorization": "Bearer s3cret "[:-2]}],
    ids=["none", "wrong", "bare", "short"],
)
async def test_with_a_token_nothing_is_told_without_it(guarded, path, headers):
    status, _, text = await fetched(guarded, path, **headers)
    assert status == 401
    assert "s3cret" not in text


@pytest.mark.parametrize("path", PATHS[:-1])
async def test_with_the_token_everything_is_told(guarded, path):
    assert (await fetched(guarded, path, Authorization="Bearer s3cret"))[0] == 200
