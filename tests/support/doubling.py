"""A model that doubles numbers, as slowly as a test wants, and callers of it."""

import asyncio
import threading


class Model:
    """Doubles numbers. Each call is recorded, and waits until it is let through."""

    def __init__(self, *, gated=False):
        self.calls = []
        self.threads = set()
        self.started = threading.Semaphore(0)
        self._gate = threading.Semaphore(0) if gated else None

    def __call__(self, items):
        self.calls.append(list(items))
        self.threads.add(threading.current_thread().name)
        self.started.release()
        if self._gate is not None:
            assert self._gate.acquire(timeout=30)
        yield from self.answer(items)

    def answer(self, items):
        yield [(position, item * 2) for position, item in enumerate(items)]

    def let_through(self, calls=1):
        self._gate.release(calls)

    async def has_started(self):
        assert await asyncio.to_thread(self.started.acquire, timeout=30)


def submitting(batcher, *items):
    return [asyncio.ensure_future(batcher.submit(item)) for item in items]


async def settled(tasks):
    return await asyncio.gather(*tasks, return_exceptions=True)
