"""What waits is written once, in order, however often writing fails."""

import asyncio
from collections import Counter

from cacheproxy.flow.outbox import Outbox


class Written:
    """Notes what it is given; the first so many writes fail."""

    def __init__(self, failures=0):
        self.failures = failures
        self.batches = []

    async def __call__(self, batch):
        self.batches.append((batch.number, list(batch.content)))
        self.failures -= 1
        return self.failures < 0


async def test_what_waits_is_written_at_once_and_then_no_more():
    outbox, written = Outbox(list), Written()
    outbox.waiting += [1, 2]
    for _ in range(2):
        await outbox.send(written)
    assert written.batches == [(1, [1, 2])]
    assert len(outbox) == 0


async def test_a_batch_that_failed_is_written_again_as_it_was_before_what_came_later():
    outbox, written = Outbox(list), Written(failures=2)
    for thing in (1, 2, 3):
        outbox.waiting.append(thing)
        await outbox.send(written)
    assert written.batches == [(1, [1]), (1, [1]), (1, [1]), (2, [2, 3])]


async def test_what_is_not_known_to_be_written_counts():
    outbox = Outbox(Counter)
    outbox.waiting.update("ab")
    await outbox.send(Written(failures=1))
    outbox.waiting["c"] += 1
    assert len(outbox) == 3


async def test_what_is_forgotten_while_it_is_written_is_not_written_again():
    outbox, go_on = Outbox(list), asyncio.Event()
    batches = []

    async def fails(batch):
        batches.append(batch.number)
        await go_on.wait()
        return False

    outbox.waiting.append(1)
    sending = asyncio.ensure_future(outbox.send(fails))
    await asyncio.sleep(0)
    outbox.clear()
    outbox.waiting.append(2)
    go_on.set()
    await sending
    await outbox.send(fails)
    assert batches == [1, 2]


async def test_two_who_send_at_once_lose_nothing():
    outbox, written = Outbox(list), Written()
    outbox.waiting.append(1)

    async def slowly(batch):
        await asyncio.sleep(0)
        return await written(batch)

    await asyncio.gather(outbox.send(slowly), outbox.send(slowly))
    outbox.waiting.append(2)
    await outbox.send(slowly)
    assert dict(written.batches) == {1: [1], 2: [2]}
