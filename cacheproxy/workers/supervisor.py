"""The supervisor: starts the processes that serve, replaces those that die, and all of them for new settings.

It holds the listening sockets and accepts from none, so that nobody who connects is turned away while workers come and
go. It loads neither model nor index. A process that cannot start at first ends everything, with its message; later on
it is tried again, after pauses that grow.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
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
from cacheproxy.workers.serving import MARGIN_S, Serving, attend, refuse_change

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from cacheproxy.address import Address
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.settings import Settings
    from cacheproxy.workers.serving import Operator

log = logging.getLogger(__name__)

_WORKER: Final = "cacheproxy.workers.worker"
_EMBEDDING: Final = "cacheproxy.workers.embedding"
_MODEL: Final = "embedder"


@dataclass(frozen=True, slots=True)
class _Model:
    """The embedding process, as far as workers need to know of it."""

    child: Child | None = None
    """None where there is none, or while it is being started again."""
    path: Path | None = None
    """Where it is asked; None where there is none."""
    hello: JsonObject | None = None
    """What it said that it has."""
    no_model: str = ""
    """Why there is none, where there should be one."""


@dataclass(frozen=True, slots=True)
class _Common:
    """What all workers of one time are started with."""

    settings: Settings
    sockets: Sequence[socket.socket]
    model: _Model


def supervise(settings: Settings, operator: Operator) -> None:
    """Serve until SIGINT or SIGTERM, then let requests under way finish. Raises ``ConfigError``."""
    asyncio.run(attend(_open_supervisor(settings), operator))


@asynccontextmanager
async def _open_supervisor(settings: Settings) -> AsyncIterator[Supervisor]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cacheproxy-")))
        tasks = await stack.enter_async_context(TaskSet("supervisor"))
        front = await stack.enter_async_context(Front(now=now))
        listen, bound = sockets.bind(settings.listen, settings.workers)
        stack.callback(sockets.close, bound)
        admin = await stack.enter_async_context(admin_listener(front.app(), settings.admin_listen))
        supervisor = Supervisor(
            settings, listen=listen, admin=admin, bound=bound, folder=folder, front=front, tasks=tasks
        )
        stack.callback(supervisor.close)
        yield supervisor


class Supervisor:
    """The processes. ``bound`` are listening sockets, which are then this object's."""

    def __init__(
        self,
        settings: Settings,
        *,
        listen: Address,
        admin: Address,
        bound: Sequence[socket.socket],
        folder: Path,
        front: Front,
        tasks: TaskSet,
    ) -> None:
        self._common = _Common(settings, bound, _Model())
        self._listen = listen
        self._admin = admin
        self._folder = folder
        self._front = front
        self._tasks = tasks
        self._workers: dict[int, Child] = {}
        """Those that serve, by the place that each has."""
        self._started = 0
        self._failures: dict[str, int] = {}
        self._stopping = False
        self._replacing = asyncio.Lock()
        self._children: set[Child] = set()
        """Everything that runs, those included that are on their way in or out."""

    # --- starting

    async def start(self) -> Serving:
        """Start everything. Raises ``ConfigError``."""
        common = replace(self._common, model=await self._start_model(self._common.settings))
        workers = await self._start_workers(common)
        self._install(common, workers)
        told = workers[0].ready["told"]
        return Serving(
            self._listen,
            self._admin,
            told["upstream_url"],
            told["store"],
            told["model"],
            told["no_model"],
            common.settings,
        )

    async def _start_model(self, settings: Settings) -> _Model:
        """Start an embedding process, if the settings ask for one."""
        if not derive.needs_process_for_model(settings):
            return _Model()
        path = self._fresh_path("model")
        child = await self._start_child(_MODEL, _EMBEDDING, settings, model=str(path))
        if told := str(child.ready["no_model"]):
            return _Model(no_model=told)
        return _Model(child, path, child.ready["hello"])

    async def _start_workers(self, common: _Common) -> dict[int, Child]:
        """New workers, all ready; if one fails, none. Raises ``ConfigError``."""
        # The first one alone: it makes what is missing, and brings the database up to date.
        first = await self._start_worker(0, common)
        others = (self._start_worker(place, common) for place in range(1, common.settings.workers))
        outcomes = [first, *await asyncio.gather(*others, return_exceptions=True)]
        started = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        for failure in outcomes:
            if isinstance(failure, BaseException):
                for child in started:
                    child.kill()
                raise failure
        return dict(enumerate(started))

    async def _start_worker(self, place: int, common: _Common) -> Child:
        descriptors = [one.fileno() for one in common.sockets]
        model = common.model
        return await self._start_child(
            f"worker {place + 1}",
            _WORKER,
            common.settings,
            descriptors=descriptors,
            listen=str(self._listen),
            sockets=descriptors,
            model=None if model.path is None else {"path": str(model.path), "hello": model.hello},
            no_model=model.no_model,
        )

    async def _start_child(
        self, name: str, module: str, settings: Settings, *, descriptors: Sequence[int] = (), **more: object
    ) -> Child:
        admin = self._fresh_path("admin")
        with translating({OSError: ConfigError}, f"{name} cannot be started"):
            child = await Child.start(name, module, settings, descriptors=descriptors, admin=str(admin), **more)
        self._children.add(child)
        try:
            await child.readied(settings.deadlines.start_s)
        except BaseException:
            child.kill()
            await child.ended()
            self._children.discard(child)
            raise
        self._front.joined(Member(child.pid, admin, serves=module == _WORKER))
        self._tasks.start(self._accompany(child), name=name)
        self._tasks.start(child.watched(settings.deadlines.hung_s, self._seat), name=f"pulse of {name}")
        log.info("%s is ready: process %d", name, child.pid)
        return child

    async def _accompany(self, child: Child) -> None:
        await child.ended()
        self._children.discard(child)
        await self._front.left(child.pid, str(child.goodbye.get("metrics", "")))

    def _install(self, common: _Common, workers: dict[int, Child]) -> None:
        """From here on these serve, and are watched."""
        fresh_model = common.model.path != self._common.model.path
        self._common = common
        self._workers = workers
        for place, child in workers.items():
            self._tasks.start(self._watch_worker(place, child), name=f"watch {child.name}")
        if fresh_model and common.model.child is not None:
            self._tasks.start(self._watch_model(common.model.child), name=f"watch {_MODEL}")
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
        if self._common.model.child is child and not self._stopping:
            self._common = replace(self._common, model=replace(self._common.model, child=None))
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
                await revive()
            except ConfigError as error:
                if not self._stopping:
                    log.error("%s does not start: %s", child.name, error.message)  # noqa: TRY400 - it says what to do
            else:
                return

    # Neither waits for a change of everything, nor lets one wait: what starts slowly, or hangs, must not keep an
    # operator's remedy away. So when it is ready it may not be needed any more.

    async def _revive_worker(self, place: int) -> None:
        common = self._common
        if place in self._workers or place >= common.settings.workers:
            return  # all were replaced meanwhile
        child = await self._start_worker(place, common)
        if common.settings is not self._common.settings:
            child.leave("replaced")
            return
        self._workers[place] = child
        self._tasks.start(self._watch_worker(place, child), name=f"watch {child.name}")
        self._seat()

    async def _revive_model(self) -> None:
        settings, model = self._common.settings, self._common.model
        if model.child is not None or model.path is None:
            return
        model.path.unlink(missing_ok=True)
        child = await self._start_child(_MODEL, _EMBEDDING, settings, model=str(model.path))
        if told := str(child.ready["no_model"]):
            raise ConfigError(told)
        if self._common.model is not model:
            child.leave(how=True)
            return
        self._common = replace(self._common, model=replace(model, child=child))
        self._tasks.start(self._watch_model(child), name=f"watch {_MODEL}")

    def _seat(self) -> None:
        """Tell each worker which sockets are its own now; those of a silent one are another's, until it is heard."""
        answering = [place for place, child in self._workers.items() if not child.silent]
        slots, homes = len(self._common.sockets), self._common.settings.workers
        for place, taken in seated(slots, homes, answering or self._workers).items():
            self._workers[place].say(slots=taken)

    # --- replacing and ending

    async def replace_all(self, settings: Settings) -> None:
        """Serve by other settings: new processes start, and once all are ready the old ones drain.

        Raises ``ConfigError``; then everything is as it was.
        """
        refuse_change(self._common.settings, settings, ("listen", "admin_listen"))
        async with self._replacing:
            before = self._common
            same_model = _model_part(settings) == _model_part(before.settings) and not before.model.no_model
            joined = sockets.join(self._listen, settings.workers - len(before.sockets))
            model = before.model
            try:
                if not same_model:
                    model = await self._start_model(settings)
                common = _Common(settings, [*before.sockets, *joined], model)
                fresh = await self._start_workers(common)
            except BaseException:
                if model is not before.model and model.child is not None:
                    model.child.kill()
                sockets.close(joined)
                raise
            old, unused = list(self._workers.values()), self._common.model.child
            if same_model:  # which may have been started again meanwhile
                common = replace(common, model=self._common.model)
            self._failures.clear()
            self._install(common, fresh)
            self._tasks.start(
                self._retire(old, None if same_model else unused, settings.deadlines.drain_s), name="retire"
            )

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
        deadlines = self._common.settings.deadlines
        unready_s = 0.0 if at_once else deadlines.unready_s
        workers = [child for child in self._children if child.name != _MODEL]
        for child in workers:
            if child.ready:
                child.leave(unready_s)
            else:  # it serves nobody, and hears nothing yet
                child.kill()
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
        sockets.close(self._common.sockets)


def _model_part(settings: Settings) -> object:
    """What the embedding process is made of."""
    return (
        derive.needs_process_for_model(settings),
        settings.embedding_model,
        settings.device,
        settings.batching,
        settings.decision.verifier,
    )
