"""``HttpUpstream`` with several patiences, and the two ways that it sends."""

from __future__ import annotations

import pytest
from support.sockets import LENIENT, SHORT, get, post

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


@pytest.fixture(params=["quick", "session"])
def ask(request):
    """A request for each of the two ways there are to send one."""
    return get if request.param == "session" else lambda url, headers=(): post(url, b"{}", headers)
