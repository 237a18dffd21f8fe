"""The supervisor: starts the processes that serve, replaces those that die, and all of them for new settings.

It holds the listening sockets and accepts from none, so that nobody who connects is turned away while workers come and
go. It loads neither model nor index. A process that cannot start at first ends everything, with its message; later on
it is tried again, after pauses that grow.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cacheproxy import derive
from cacheproxy.errors import ConfigError, translating
from cacheproxy.opening import now
from cacheproxy.server.front import Front, Member
from cacheproxy.server.listen import admin_listener
from cacheproxy.tasks import TaskSet
from cacheproxy.workers import sockets
from cacheproxy.workers.child import Child
from cacheproxy.workers.seating import STEADY_S, pause_s, seated

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from cacheproxy.address import Address
    from cacheproxy.settings import Settings

log = logging.getLogger(__name__)

MARGIN_S: Final = 10.0
"""For what comes after the last answer: storing what was learnt, closing the store."""
HUNG_S: Final = 20.0
"""A process whose event loop stands still for so long is not busy."""
_WORKER: Final = "cacheproxy.workers.worker"
_EMBEDDING: Final = "cacheproxy.workers.embedding"
_MODEL: Final = "embedder"
_STARTED: Final = "started"
_RELOAD: Final = "reload"
_DRAIN: Final = "drain"
_NOW: Final = "now"


@dataclass(frozen=True, slots=True)
class Serving:
    """Workers that serve."""

    data: Address
    admin: Address
    upstream_url: str
    store: str
    model: str
    no_model: str
    settings: Settings


def supervise(
    settings: Settings,
    *,
    read: Callable[[], Settings],
    on_settings: Callable[[Settings], None],
    on_ready: Callable[[Serving], None],
) -> None:
    """Serve until SIGINT or SIGTERM, then let requests under way finish. Raises ``ConfigError``.

    On SIGHUP ``read`` gives the settings anew, and ``on_settings`` is told those that are taken.
    """
    asyncio.run(_supervise(settings, read, on_settings, on_ready))


async def _supervise(
    settings: Settings,
    read: Callable[[], Settings],
    on_settings: Callable[[Settings], None],
    on_ready: Callable[[Serving], None],
) -> None:
    wishes: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number, wish in ((signal.SIGINT, _NOW), (signal.SIGTERM, _DRAIN), (signal.SIGHUP, _RELOAD)):
        loop.add_signal_handler(number, wishes.put_nowait, wish)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cacheproxy-")))
        tasks = await stack.enter_async_context(TaskSet("supervisor"))
        front = await stack.enter_async_context(Front(now=now))
        listen, bound = sockets.bind(settings.listen, settings.workers)
        supervisor = Supervisor(settings, listen=listen, bound=bound, folder=folder, front=front, tasks=tasks)
        stack.callback(supervisor.close)
        admin = await stack.enter_async_context(admin_listener(front.app(), settings.admin_listen))

        async def reload() -> None:
            try:
                fresh = read()
                await supervisor.replace_all(fresh)
            except ConfigError as error:
                log.error("the settings stay as they were: %s", error.message)  # noqa: TRY400 - it says what to do
            else:
                on_settings(fresh)
                log.info("%d workers serve by the settings as they are now", fresh.workers)

        starting = tasks.begin(supervisor.start(), name="start")
        starting.add_done_callback(lambda _: wishes.put_nowait(_STARTED))
        while (wish := await wishes.get()) not in {_NOW, _DRAIN}:
            if wish == _STARTED:
                await starting  # raises what kept it from starting
                on_ready(supervisor.serving(admin))
            else:
                tasks.start(reload(), name="reload")
        await supervisor.stop(at_once=wish == _NOW)


class Supervisor:
    """The processes. ``bound`` are listening sockets, which are then this object's."""

    def __init__(
        self,
        settings: Settings,
        *,
        listen: Address,
        bound: Sequence[socket.socket],
        folder: Path,
        front: Front,
        tasks: TaskSet,
    ) -> None:
        self._settings = settings
        self._listen = listen
        self._sockets = list(bound)
        self._folder = folder
        self._front = front
        self._tasks = tasks
        self._workers: dict[int, Child] = {}
        """Those that serve, by the place that each has."""
        self._model: Child | None = None
        self._model_path: Path | None = None
        self._no_model = ""
        self._started = 0
        self._failures: dict[str, int] = {}
        self._stopping = False
        self._changing = asyncio.Lock()
        self._children: set[Child] = set()
        """Everything that runs, those included that are on their way in or out."""

    # --- starting

    async def start(self) -> None:
        """Start everything. Raises ``ConfigError``."""
        async with self._changing:
            await self._start_model(self._settings)
            self._install(await self._start_workers(self._settings))

    def serving(self, admin: Address) -> Serving:
        """What serves."""
        told = self._workers[0].ready["told"]
        return Serving(
            self._listen,
            admin,
            told["upstream_url"],
            told["store"],
            told["model"],
            told["no_model"],
            self._settings,
        )

    async def _start_model(self, settings: Settings) -> None:
        """Start the embedding process, if the settings ask for one, in place of what was known of another."""
        self._model, self._model_path, self._no_model = None, None, ""
        if not derive.needs_process_for_model(settings):
            return
        path = self._fresh_path("model")
        child = await self._start_child(_MODEL, _EMBEDDING, settings, model=str(path))
        if told := str(child.ready["no_model"]):
            self._no_model = told
            return
        self._model, self._model_path = child, path

    async def _start_workers(self, settings: Settings) -> dict[int, Child]:
        """New workers, all ready; if one fails, none. Raises ``ConfigError``."""
        started: dict[int, Child] = {}
        try:
            # The first one alone: it makes what is missing, and brings the database up to date.
            started[0] = await self._start_worker(0, settings)
            others = range(1, settings.workers)
            starting = {place: self._tasks.begin(self._start_worker(place, settings), name="start") for place in others}
            if starting:
                await asyncio.wait(starting.values())
            started |= {place: task.result() for place, task in starting.items() if task.exception() is None}
            for task in starting.values():
                task.result()
        except BaseException:
            for child in started.values():
                child.kill()
            raise
        return started

    async def _start_worker(self, place: int, settings: Settings) -> Child:
        return await self._start_child(
            f"worker {place + 1}",
            _WORKER,
            settings,
            descriptors=[one.fileno() for one in self._sockets],
            listen=str(self._listen),
            sockets=[one.fileno() for one in self._sockets],
            model=None if self._model_path is None else str(self._model_path),
            no_model=self._no_model,
        )

    async def _start_child(
        self, name: str, module: str, settings: Settings, *, descriptors: Sequence[int] = (), **more: object
    ) -> Child:
        admin = self._fresh_path("admin")
        with translating({OSError: ConfigError}, f"{name} cannot be started"):
            child = await Child.start(name, module, settings, descriptors=descriptors, admin=str(admin), **more)
        self._children.add(child)
        try:
            await child.readied()
        except BaseException:
            child.kill()
            self._children.discard(child)
            raise
        self._front.joined(Member(child.pid, admin, serves=module == _WORKER))
        self._tasks.start(self._accompany(child), name=name)
        self._tasks.start(child.watched(HUNG_S), name=f"pulse of {name}")
        log.info("%s is ready: process %d", name, child.pid)
        return child

    async def _accompany(self, child: Child) -> None:
        await child.ended()
        self._children.discard(child)
        await self._front.left(child.pid, str(child.goodbye.get("metrics", "")))

    def _install(self, workers: dict[int, Child]) -> None:
        """From here on these serve, and are watched."""
        self._workers = workers
        for place, child in workers.items():
            self._tasks.start(self._watch_worker(place, child), name=f"watch {child.name}")
        if self._model is not None:
            self._tasks.start(self._watch_model(self._model), name=f"watch {_MODEL}")
        self._seat()

    def _fresh_path(self, kind: str) -> Path:
        self._started += 1
        return self._folder / f"{kind}-{self._started}"

    # --- watching

    async def _watch_worker(self, place: int, child: Child) -> None:
        since = time.monotonic()
        await child.gone.wait()
        if self._workers.get(place) is child and not self._stopping:
            del self._workers[place]
            self._seat()
            await self._again(child, since, partial(self._revive_worker, place))

    async def _watch_model(self, child: Child) -> None:
        since = time.monotonic()
        await child.gone.wait()
        if self._model is child and not self._stopping:
            self._model = None
            await self._again(child, since, self._revive_model)

    async def _again(self, child: Child, since: float, revive: Callable[[], Awaitable[None]]) -> None:
        """Start another one in its place, until that works."""
        log.error("%s (process %d) %s, unasked: it is started again", child.name, child.pid, child.ending)
        if time.monotonic() - since > STEADY_S:
            self._failures.pop(child.name, None)
        while not self._stopping:
            failures = self._failures.get(child.name, 0)
            self._failures[child.name] = failures + 1
            await asyncio.sleep(pause_s(failures))
            try:
                async with self._changing:
                    await revive()
            except ConfigError as error:
                log.error("%s does not start: %s", child.name, error.message)  # noqa: TRY400 - it says what to do
            else:
                return

    async def _revive_worker(self, place: int) -> None:
        if place in self._workers or place >= self._settings.workers:
            return  # all were replaced meanwhile
        child = await self._start_worker(place, self._settings)
        self._workers[place] = child
        self._tasks.start(self._watch_worker(place, child), name=f"watch {child.name}")
        self._seat()

    async def _revive_model(self) -> None:
        path = self._model_path
        if self._model is not None or path is None:
            return
        path.unlink(missing_ok=True)
        child = await self._start_child(_MODEL, _EMBEDDING, self._settings, model=str(path))
        if told := str(child.ready["no_model"]):
            raise ConfigError(told)
        self._model = child
        self._tasks.start(self._watch_model(child), name=f"watch {_MODEL}")

    def _seat(self) -> None:
        """Tell each worker which sockets are its own now."""
        for place, slots in seated(len(self._sockets), self._settings.workers, self._workers.keys()).items():
            self._workers[place].say(slots=slots)

    # --- replacing and ending

    async def replace_all(self, settings: Settings) -> None:
        """Serve by other settings: new processes start, and once all are ready the old ones drain.

        Raises ``ConfigError``; then everything is as it was.
        """
        for name in ("listen", "admin_listen"):
            if getattr(settings, name) != getattr(self._settings, name):
                raise ConfigError(f"{name} cannot change while it is listened on: restart for that")
        async with self._changing:
            before = (self._model, self._model_path, self._no_model)
            bound = len(self._sockets)
            same_model = _model_part(settings) == _model_part(self._settings) and not self._no_model
            try:
                self._sockets += sockets.join(self._listen, settings.workers - bound)
                if not same_model:
                    await self._start_model(settings)
                fresh = await self._start_workers(settings)
            except ConfigError:
                if self._model is not None and self._model is not before[0]:
                    self._model.kill()
                self._model, self._model_path, self._no_model = before
                sockets.close(self._sockets[bound:])
                del self._sockets[bound:]
                raise
            old = list(self._workers.values())
            self._settings = settings
            self._failures.clear()
            self._install(fresh)
            unused = None if same_model else before[0]
            self._tasks.start(self._retire(old, unused, settings.deadlines.drain_s), name="retire")

    async def _retire(self, workers: Sequence[Child], model: Child | None, drain_s: float) -> None:
        for child in workers:
            child.leave("replaced")
        await self._gone(workers, drain_s + MARGIN_S)
        if model is not None:
            model.leave(how=True)
            await self._gone([model], MARGIN_S)

    async def stop(self, *, at_once: bool) -> None:
        """End everything: the workers let requests under way finish, then the model goes.

        Unless it is to be ``at_once``, load balancers get time to see it first.
        """
        self._stopping = True
        deadlines = self._settings.deadlines
        unready_s = 0.0 if at_once else deadlines.unready_s
        workers = [child for child in self._children if child.name != _MODEL]
        for child in workers:
            child.leave(unready_s)
        await self._gone(workers, unready_s + deadlines.drain_s + MARGIN_S)
        # The model's process has nothing to finish: it is killed with whatever else is left.

    async def _gone(self, children: Sequence[Child], patience_s: float) -> None:
        ending = [self._tasks.begin(child.stop(patience_s), name="stop") for child in children]
        for child, by_itself in zip(children, await asyncio.gather(*ending), strict=True):
            if not by_itself:
                log.warning("%s (process %d) did not end in %.0f s and was killed", child.name, child.pid, patience_s)

    def close(self) -> None:
        """Let go of the sockets, and end at once what still runs."""
        self._stopping = True
        for child in list(self._children):
            child.kill()
        sockets.close(self._sockets)


def _model_part(settings: Settings) -> object:
    """What the embedding process is made of."""
    return (
        derive.needs_process_for_model(settings),
        settings.embedding_model,
        settings.device,
        settings.batching,
        settings.decision.verifier,
    )
