"""Stores of every kind that there is."""

from contextlib import AsyncExitStack

import pytest
from support.stores import SqliteWorld


@pytest.fixture(params=["sqlite"])
async def world(request, tmp_path):
    async with AsyncExitStack() as stack:
        match request.param:
            case "sqlite":
                yield SqliteWorld(tmp_path, stack)


@pytest.fixture
async def store(world):
    return await world.open()
