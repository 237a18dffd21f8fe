"""Every operation of the table has a handler, and no handler is without its operation."""

from __future__ import annotations

import pytest

from cacheproxy.server.api.operations import OPERATIONS

PLAIN = [each for each in OPERATIONS if each.method == "GET" and "{" not in each.path and each.name != "events"]


@pytest.mark.parametrize("operation", PLAIN, ids=lambda operation: operation.name)
async def test_each_answers_in_what_it_says(panel, operation):
    await panel.ask("What does a reverse proxy do?")
    async with panel.session.get(f"{panel.url}/api/v1{operation.path}") as response:
        assert response.status == 200
        assert response.content_type == operation.answers_in


async def test_the_document_is_served(panel):
    told = await panel.told("/openapi.json")
    assert told["openapi"] == "3.1.0"
    assert "/api/v1/overview" in told["paths"]
