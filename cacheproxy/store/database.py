"""One SQLite file, three threads: the event loop never waits for the disk.

Writes queue up for one thread, which commits everything that waits in a single transaction (group commit,
together.py). Reads have a thread and a connection of their own and never wait for writes (WAL). So have surveys, which
read much for people who look: no request waits behind them. Every waiter is
answered, at the latest when the database is closed; work that was accepted is done even if its waiter has left.

Whatever fails is ``PortUnavailable``; a file that cannot be opened at all is ``ConfigError``.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cacheproxy.errors import ConfigError, PortUnavailable, ProxyError, translating
from cacheproxy.store.dbfile import is_corruption, open_connections, suspect
from cacheproxy.store.together import Done, Failed, Outcome, Share, attempt, run_together
from cacheproxy.values import value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from cacheproxy.store.dbfile import Connections
    from cacheproxy.store.together import Work

__all__ = ["Database", "Done", "Failed", "Outcome", "Share", "open_database"]

T = TypeVar("T")
log = logging.getLogger(__name__)

_FOREIGN: Final[dict[type[BaseException], type[ProxyError]]] = {
    sqlite3.Error: PortUnavailable,
    OSError: PortUnavailable,
    UnicodeError: PortUnavailable,  # a lone surrogate in a text column
}
_MAX_TOGETHER: Final = 512
"""A transaction of so many pieces of work takes no more: bounds how long the first waits for the last."""
_LINGER_S: Final = 0.01
"""How long a writer that is busy anyway waits for company before a commit. Most of what a transaction costs is its
statements and its commit, however much is in it: an entry among thirty takes half the time of one among eight."""
_MAX_WAITING: Final = 4096
_MAX_WAITING_BYTES: Final = 64 << 20


@value(frozen=True, slots=True, eq=False)
class _Job:
    work: Work[Any]
    answer: asyncio.Future[Any]
    weight: int = 0
    in_transaction: bool = False
    settled: Callable[[Outcome], None] | None = None


class Database:
    """An open database. Made by ``open_database``, used from one event loop. ``clock`` as there."""

    def __init__(self, path: Path, connections: Connections, *, clock: Callable[[], float]) -> None:
        self.path = path
        self.clock = clock
        writer, reader, surveyor = connections
        self._writes = _Worker("store-writer", lambda jobs: _write(writer, jobs), writer.close, linger_s=_LINGER_S)
        self._reads = _Worker("store-reader", lambda jobs: [attempt(job.work, reader) for job in jobs], reader.close)
        self._surveys = _Worker(
            "store-surveyor", lambda jobs: [attempt(job.work, surveyor) for job in jobs], surveyor.close
        )

    async def write(
        self,
        work: Work[T],
        *,
        doing: str,
        weight: int = 0,
        settled: Callable[[Outcome], None] | None = None,
    ) -> T:
        """Run ``work`` in a transaction and return its value once that is committed.

        It may run several times (alone, after a failure of its group), and with others in one transaction; a
        ``Share`` is merged with others of its kind. ``weight`` is the memory that waits with it, in bytes.
        ``settled`` is told the outcome before anybody else, even if the waiter has left: in the writer's thread, or
        at once when the work is refused.
        """
        return await self._ask(self._writes, doing, work, weight=weight, in_transaction=True, settled=settled)

    async def write_each(
        self, works: Sequence[tuple[Work[T], int]], *, doing: str, settled: Callable[[Outcome], None] | None = None
    ) -> None:
        """``write`` for several works with their weights, all asked for before any is waited for.

        Raises the first failure, once every one has ended.
        """
        new_future = asyncio.get_running_loop().create_future
        jobs = [_Job(work, new_future(), weight, in_transaction=True, settled=settled) for work, weight in works]
        taken, failure = self._writes.submit(jobs)
        for job in taken:
            if job.answer.done() and job.answer.exception() is None:
                continue  # like most: they are answered together with the first
            try:
                await self._answered(job.answer, doing)
            except PortUnavailable as error:
                failure = failure or error
        if failure is not None:
            raise failure

    async def follow(self, work: Work[T], *, doing: str) -> T:
        """Run ``work``, which only reads, on the writer's connection after every write that was asked before it."""
        return await self._ask(self._writes, doing, work)

    async def read(self, work: Work[T], *, doing: str) -> T:
        """Run ``work``, which only reads, on the reader's connection."""
        return await self._ask(self._reads, doing, work)

    async def survey(self, work: Work[T], *, doing: str) -> T:
        """Run ``work``, which reads much, on a connection that no request waits for."""
        return await self._ask(self._surveys, doing, work)

    async def aclose(self) -> None:
        """Finish what was accepted, refuse what comes, close the file."""
        await asyncio.gather(self._reads.aclose(), self._surveys.aclose(), self._writes.aclose())

    async def _ask(
        self,
        worker: _Worker,
        doing: str,
        work: Work[T],
        *,
        weight: int = 0,
        in_transaction: bool = False,
        settled: Callable[[Outcome], None] | None = None,
    ) -> T:
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        _, refusal = worker.submit([_Job(work, answer, weight, in_transaction, settled)])
        if refusal is not None:
            raise refusal
        return await self._answered(answer, doing)

    async def _answered(self, answer: asyncio.Future[T], doing: str) -> T:
        try:
            with translating(_FOREIGN, doing):
                return await answer
        except PortUnavailable as error:
            if isinstance(error.__cause__, sqlite3.Error) and is_corruption(error.__cause__):
                await asyncio.to_thread(suspect, self.path)
            raise


@asynccontextmanager
async def open_database(path: Path, *, clock: Callable[[], float]) -> AsyncIterator[Database]:
    """Open or create the database file at ``path``; its missing folders too, readable by their owner alone.

    A corrupt file is moved aside and replaced by an empty one. ``clock`` gives seconds since the epoch. Raises
    ``ConfigError``.
    """
    with translating(
        {sqlite3.Error: ConfigError, OSError: ConfigError},
        f"cannot open the store at {path} (--data-dir or --store names another)",
    ):
        connections = await asyncio.to_thread(open_connections, path, now=clock())
    database = Database(path, connections, clock=clock)
    try:
        yield database
    finally:
        await database.aclose()


class _Worker:
    """A thread that runs jobs in their order, a batch at a time, and answers each. ``submit`` is the loop's alone.

    After a batch of several it waits ``linger_s`` for the next one to gather; a job that comes alone never waits.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[_Job]], list[Outcome]],
        close: Callable[[], None],
        *,
        linger_s: float = 0.0,
    ) -> None:
        self._run = run
        self._close = close
        self._linger_s = linger_s
        self._in_company = False
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Sequence[_Job] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._waiting_bytes = 0
        self._closing = False
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[_Job]) -> tuple[Sequence[_Job], PortUnavailable | None]:
        """Hand jobs over at once, as each time may cost the loop the interpreter: which were taken, why not all."""
        taken: list[_Job] = []
        first: PortUnavailable | None = None
        for job in jobs:
            if refusal := self._refusal(job):
                first = first or refusal
                if job.settled is not None:
                    job.settled(Failed(refusal))
                continue
            self._waiting += 1
            self._waiting_bytes += job.weight
            taken.append(job)
        if taken:
            self._queue.put(taken)
        return taken, first

    def _refusal(self, job: _Job) -> PortUnavailable | None:
        if self._closing:
            return PortUnavailable("the store is closed")
        if self._waiting >= _MAX_WAITING or (self._waiting and self._waiting_bytes + job.weight > _MAX_WAITING_BYTES):
            return PortUnavailable("the store is behind: too much waits for it")
        return None

    async def aclose(self) -> None:
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await self._ended.wait()
        self._thread.join()

    def _live(self) -> None:
        try:
            while jobs := self._next_jobs():
                ran = attempt(self._run, jobs)
                self._deliver(jobs, ran.value if isinstance(ran, Done) else [ran] * len(jobs))
        finally:
            self._close()
            with suppress(RuntimeError):  # the loop is gone, and with it everybody who could wait
                self._loop.call_soon_threadsafe(self._ended.set)

    def _next_jobs(self) -> list[_Job]:
        """Everything that waits, at least one job; nothing once all is done and the worker closes."""
        jobs: list[_Job] = []
        more = self._queue.get()
        if self._in_company and self._linger_s:
            time.sleep(self._linger_s)
        while more is not None:
            jobs += more
            if len(jobs) >= _MAX_TOGETHER:
                break
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
        else:
            if jobs:
                self._queue.put(None)  # end the next time
        self._in_company = len(jobs) > 1
        return jobs

    def _deliver(self, jobs: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
        with suppress(RuntimeError):  # as above
            self._loop.call_soon_threadsafe(self._answer, jobs, outcomes)

    def _answer(self, jobs: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            self._waiting -= 1
            self._waiting_bytes -= job.weight
            if job.answer.done():
                continue
            match outcome:
                case Done(value):
                    job.answer.set_result(value)
                case Failed(error):
                    job.answer.set_exception(error)


def _write(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> list[Outcome]:
    """The outcomes of a batch: the transaction first, then what reads behind it."""
    writes = [job for job in jobs if job.in_transaction]
    written = run_together(connection, [job.work for job in writes]) if writes else []
    for job, outcome in zip(writes, written, strict=True):
        if job.settled is not None and isinstance(failed := attempt(job.settled, outcome), Failed):
            log.error("bookkeeping after a write failed", exc_info=failed.error)
    outcomes = iter(written)
    return [next(outcomes) if job.in_transaction else attempt(job.work, connection) for job in jobs]
