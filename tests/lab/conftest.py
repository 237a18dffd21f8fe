"""A running simulated upstream, as the tests of the lab share it."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from cacheproxy.lab.simulate import SimulateOptions, serving
from cacheproxy.upstream.simulated import knowledge_of

KNOWLEDGE = knowledge_of(
    [
        ("Where is my card?", "card_arrival"),
        ("Has my card been sent", "card_arrival"),
        ("What is the rate?", "exchange_rate"),
    ]
)


@asynccontextmanager
async def simulated(**options):
    """Serves a simulated upstream; gives its base URL, without ``/v1``."""
    asked = SimulateOptions(**{"port": 0, "knowledge": KNOWLEDGE, **options})
    async with serving(asked, now=lambda: 1_700_000_000.5) as url:
        yield url.removesuffix("/v1")


@pytest.fixture
def simulate():
    return simulated


@pytest.fixture
async def base():
    async with simulated() as base:
        yield base
