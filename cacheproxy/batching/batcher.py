"""Micro-batching: callers submit single items, a thread computes them in batches.

- An idle batcher starts on its first item at once. Items that arrive while a batch runs wait for the next one; only
  after a batch of several does it wait a moment (``max_wait_s``) for its callers to come back.
- Every caller is answered: with its result, with an error, or with ``PortUnavailable`` when the batcher closes. One
  item that makes the model fail does not fail the others of its batch.
- Equal items that are in the batcher at the same time are computed once.
- Patient items wait until no others do, and go in batches so small that they take a moment on this machine as it is
  now: nobody else waits behind more than one of these. Under steady load one of their batches runs after each few
  others, so that they are late and no worse.
- A caller that leaves takes its item out of the queue. A full queue says ``Overloaded`` at once.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from cacheproxy.errors import Overloaded, PortUnavailable, ProxyError
from cacheproxy.tasks import TaskSet

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

T = TypeVar("T", bound="Hashable")
R = TypeVar("R")

Outcomes: TypeAlias = "Iterable[tuple[int, R | ProxyError]]"
"""One computed batch: positions in what was asked, each with its result or with what is wrong with that item."""

PATIENT_AT_ONCE: Final = 16
"""Patient items in a batch, at most."""
_PATIENT_AT_FIRST: Final = 4
PATIENT_S: Final = 0.05
"""What an urgent item may have to wait for: batches of patient ones that take longer get smaller, down to one item."""
PATIENCE: Final = 8
"""Batches of others that run while patient items wait, until it is their turn."""
log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Slot(Generic[T, R]):
    """An item in the batcher, with everyone who waits for it."""

    item: T
    waiters: set[asyncio.Future[R]] = field(default_factory=set)

    def answer(self, outcome: R | ProxyError) -> None:
        """Wake every waiter. A second answer finds nobody."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if isinstance(outcome, ProxyError):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)
        self.waiters.clear()


class Batcher(Generic[T, R]):
    """Batches the calls of one blocking function, in one thread, for callers on one event loop.

    ``compute`` gets at most ``max_items`` items and yields them batch by batch, in any order; each batch's callers
    are answered when it is yielded. ``on_batch(size, seconds)`` is told about each one, on the event loop.
    ``thread``, an executor with one thread, is for a function that must run where something else ran before.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[T]], Iterable[Outcomes[R]]],
        *,
        name: str,
        max_items: int = 64,
        max_waiting: int = 1024,
        max_wait_s: float = 0.002,
        on_batch: Callable[[int, float], None] | None = None,
        thread: ThreadPoolExecutor | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._compute = compute
        self._name = name
        self._max_items = max_items
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._on_batch = on_batch
        self._waiting: dict[T, _Slot[T, R]] = {}  # a queue: dicts keep their order
        self._patient: dict[T, _Slot[T, R]] = {}
        self._clock = clock
        self._patient_at_once = min(_PATIENT_AT_FIRST, PATIENT_AT_ONCE, max_items)
        self._passed = 0
        self._running: dict[T, _Slot[T, R]] = {}
        self._expected = max_items
        self._gathered = asyncio.Event()
        self._draining = False
        self._closed = False
        self._tasks = TaskSet(name)
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix=name)

    @property
    def waiting(self) -> int:
        """How many items wait for a batch; those being computed are not among them."""
        return len(self._waiting)

    async def submit(self, item: T, *, patient: bool = False) -> R:
        """The item's result. Raises the item's own error, ``Overloaded``, or ``PortUnavailable``."""
        if self._closed:
            raise self._closing()
        slot = self._slot(item, patient=patient)
        waiter: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        slot.waiters.add(waiter)
        try:
            return await waiter
        finally:
            slot.waiters.discard(waiter)
            if not slot.waiters:
                for queue in (self._waiting, self._patient):
                    if queue.get(item) is slot:
                        del queue[item]
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # a caller cancelled in the moment of its answer leaves no "never retrieved" behind

    async def aclose(self) -> None:
        """Answer every caller with ``PortUnavailable`` and take no more. A batch in the thread ends by itself."""
        self._closed = True
        await self._tasks.aclose()
        self._abandon(self._closing())  # the drain answers too, but a task cancelled before its first step does nothing
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _slot(self, item: T, *, patient: bool) -> _Slot[T, R]:
        slot = self._running.get(item) or self._waiting.get(item) or (self._patient.get(item) if patient else None)
        if slot is not None:
            return slot
        queue = self._patient if patient else self._waiting
        if len(queue) >= self._max_waiting:
            raise Overloaded(f"{self._name}: {self._max_waiting} are waiting already; try again later", retry_after_s=1)
        # Whoever waits patiently for the same item is served with the one who does not.
        slot = queue[item] = self._patient.pop(item) if item in self._patient else _Slot(item)
        if len(self._waiting) >= self._expected:
            self._gathered.set()
        if not self._draining:
            self._draining = True
            self._tasks.start(self._drain(), name="drain")
        return slot

    async def _drain(self) -> None:
        """Run batches until nothing waits. Whatever ends it, nobody is left without an answer."""
        try:
            while self._waiting or self._patient:
                patient = self._patients_turn()
                queue = self._patient if patient else self._waiting
                items = list(islice(queue, self._patient_at_once if patient else self._max_items))
                self._running = {item: queue.pop(item) for item in items}
                started = self._clock()
                await self._run(list(self._running.values()))
                if patient:
                    self._adapt(len(items), self._clock() - started)
                elif len(items) > 1:
                    await self._gather(len(items))
        finally:
            self._draining = False
            self._abandon(self._closing() if self._closed else PortUnavailable(f"{self._name} stopped unexpectedly"))

    def _adapt(self, size: int, seconds: float) -> None:
        """Have the next batch of patient items take as long as it may, going by the one that ran."""
        if seconds > PATIENT_S:
            self._patient_at_once = max(1, size // 2)
        elif seconds < PATIENT_S / 2 and size == self._patient_at_once:
            self._patient_at_once = min(2 * size, PATIENT_AT_ONCE, self._max_items)

    def _patients_turn(self) -> bool:
        """Whether the next batch is one of patient items."""
        if self._patient and self._waiting and self._passed < PATIENCE:
            self._passed += 1
            return False
        self._passed = 0
        return bool(self._patient)

    def _abandon(self, why: ProxyError) -> None:
        abandoned = [*self._running.values(), *self._waiting.values(), *self._patient.values()]
        self._running, self._waiting, self._patient = {}, {}, {}
        for slot in abandoned:
            slot.answer(why)

    async def _gather(self, expected: int) -> None:
        """Wait for as many items as the last batch had, but not long."""
        self._expected = expected
        self._gathered.clear()
        if len(self._waiting) < expected:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._max_wait_s):
                    await self._gathered.wait()

    async def _run(self, slots: list[_Slot[T, R]]) -> None:
        loop = asyncio.get_running_loop()
        lost = "returned no result for this item"
        try:
            await loop.run_in_executor(self._thread, self._run_in_thread, loop, slots)
        except RuntimeError as error:  # no thread can be started, or the interpreter is going down
            log.warning("%s: %s", self._name, error)
            lost = str(error)
        for slot in slots:
            if slot.item in self._running:
                self._answer(slot, PortUnavailable(f"{self._name}: {lost}"))

    def _run_in_thread(self, loop: asyncio.AbstractEventLoop, slots: list[_Slot[T, R]]) -> None:
        left, error = self._attempt(loop, slots)
        if error is None or self._closed:  # closing has answered everyone
            return
        log.warning("%s: a batch of %d failed: %r", self._name, len(slots), error)
        for slot in left:
            if len(slots) > 1:  # once more alone, so that the item at fault fails by itself
                if not slot.waiters:
                    continue
                _, error = self._attempt(loop, [slot])
            if error is not None:
                self._tell(loop, [(slot, self._failed(error))])

    def _attempt(
        self, loop: asyncio.AbstractEventLoop, slots: list[_Slot[T, R]]
    ) -> tuple[list[_Slot[T, R]], BaseException | None]:
        """Compute and deliver; the slots that got no answer, and what went wrong."""
        left = dict(enumerate(slots))
        started = perf_counter()
        try:
            for outcomes in self._compute([slot.item for slot in slots]):
                answers = [(left.pop(position), outcome) for position, outcome in outcomes]
                self._tell(loop, answers, perf_counter() - started)
                if self._closed:
                    break
                started = perf_counter()
        except BaseException as error:  # noqa: BLE001 - SystemExit in a model must not take the event loop with it
            return list(left.values()), error
        return list(left.values()), None

    def _tell(
        self,
        loop: asyncio.AbstractEventLoop,
        answers: list[tuple[_Slot[T, R], R | ProxyError]],
        seconds: float | None = None,
    ) -> None:
        """Carry a batch's answers from the thread to the event loop."""
        with suppress(RuntimeError):  # the loop was closed while the batch ran: its callers are gone with it
            loop.call_soon_threadsafe(self._deliver, answers, seconds)

    def _deliver(self, answers: list[tuple[_Slot[T, R], R | ProxyError]], seconds: float | None) -> None:
        for slot, outcome in answers:
            self._answer(slot, outcome)
        if self._on_batch is not None and seconds is not None:
            self._on_batch(len(answers), seconds)

    def _answer(self, slot: _Slot[T, R], outcome: R | ProxyError) -> None:
        if self._running.get(slot.item) is slot:
            del self._running[slot.item]
        slot.answer(outcome)

    def _failed(self, error: BaseException) -> ProxyError:
        return error if isinstance(error, ProxyError) else PortUnavailable(f"{self._name}: {error!r}")

    def _closing(self) -> PortUnavailable:
        return PortUnavailable(f"{self._name} is shut down")
