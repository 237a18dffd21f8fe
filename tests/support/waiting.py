"""Waiting for what must come."""

import asyncio


async def until(condition):
    """Let everything else run until something holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the conditions are counters, which set no event
            await asyncio.sleep(0)
