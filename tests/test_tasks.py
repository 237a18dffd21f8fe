"""Background tasks have a name, an owner and an end."""

import asyncio
import logging

import pytest

from cacheproxy.tasks import TaskSet


async def test_leaving_the_block_ends_every_task():
    ended = asyncio.Event()

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with TaskSet("owner") as tasks:
        tasks.start(forever(), name="forever")
        await asyncio.sleep(0)
        assert len(tasks) == 1
    assert ended.is_set()
    assert len(tasks) == 0


async def test_a_task_that_fails_unseen_is_reported_by_its_name(caplog: pytest.LogCaptureFixture):
    async def fail():
        raise RuntimeError("lost")

    with caplog.at_level(logging.ERROR):
        async with TaskSet("owner") as tasks:
            tasks.start(fail(), name="failing")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    assert "owner/failing" in caplog.text


async def test_a_begun_task_gives_its_result():
    async def answer():
        return 42

    async with TaskSet("owner") as tasks:
        assert await tasks.begin(answer(), name="answer") == 42


async def test_settling_waits_for_what_ends_and_gives_up_on_what_does_not():
    done = []

    async def soon():
        await asyncio.sleep(0.01)
        done.append("soon")

    async with TaskSet("owner") as tasks:
        await tasks.settle(1.0)
        tasks.start(soon(), name="soon")
        await tasks.settle(10.0)
        assert done == ["soon"]
        tasks.start(asyncio.Event().wait(), name="never")
        await tasks.settle(0.01)
        assert len(tasks) == 1
