"""``HttpUpstream`` with several patiences."""

from __future__ import annotations

import pytest
from support.sockets import LENIENT, SHORT

from cacheproxy.upstream.http import HttpUpstream


@pytest.fixture
async def upstream():
    async with HttpUpstream() as upstream:
        yield upstream


@pytest.fixture
async def hasty():
    async with HttpUpstream(SHORT) as upstream:
        yield upstream


@pytest.fixture
async def lenient():
    async with HttpUpstream(LENIENT) as upstream:
        yield upstream
