"""Admin planes over real parts."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from support.panel import open_panel


@pytest.fixture
async def panels(tmp_path):
    """Opens admin planes: ``await panels(**settings)``."""
    async with AsyncExitStack() as stack:
        yield lambda **more: stack.enter_async_context(open_panel(tmp_path, **more))


@pytest.fixture
async def panel(panels):
    """One with the policy ``threshold`` at 0.8."""
    return await panels(threshold=0.8)
