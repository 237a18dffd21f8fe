"""How the adapters ask Redis: what is asked at the same moment travels together, and every asker is answered.

Commands wait in a queue, which a few lanes empty, each with one round trip after another. In a cluster every hash tag
has a queue and lanes of its own, so that a node which is gone holds up its own shards alone. Who stops waiting breaks
no connection. Everything that is sent may arrive twice, after a connection broke: commands and scripts are idempotent.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from redis import exceptions
from redis.asyncio import RedisCluster

from cacheproxy.errors import PortUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.store.redis_client import Client
    from cacheproxy.tasks import TaskSet

Command: TypeAlias = "tuple[Any, ...]"
"""A command's words; its first key is the second of them, or the fourth where a script is run."""

_TOGETHER: Final = 256
"""Commands in one round trip."""
_MOST_WAITING: Final = 20_000
_AGAIN: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ClusterDownError,
    exceptions.SlotNotCoveredError,
)
"""What a cluster's pipeline tells of a node that went: asked again alone, a command finds the node's successor."""
_AWAY: Final = (*_AGAIN, exceptions.ReadOnlyError, exceptions.TryAgainError)
"""A master that is about to be one is a replica still."""
_WRONG: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError, ssl.SSLError)
_FIRST_KEY_OF_SCRIPTS: Final = 3
LANES_OF_A_TAG: Final = 2
"""In a cluster: a look-up need not wait for a long answer that is under way."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. Its first key names the slot; what else it touches is on the same one."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())

    def __call__(self, tag: str, *arguments: Any) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self, 1, tag, *arguments)


@dataclass(slots=True)
class _Queue:
    tag: str
    lanes: int
    waiting: deque[tuple[Command, asyncio.Future[Any]]] = field(default_factory=deque)


class Link:
    """A client shared by many askers. ``lanes`` is how many round trips to one server may be under way."""

    def __init__(self, client: Client, *, lanes: int, tasks: TaskSet) -> None:
        self.client = client
        self.round_trips = 0
        """How many were made, each for any number of commands; in a cluster one to each hash tag counts."""
        self._clustered = isinstance(client, RedisCluster)
        self._lanes_of_each = LANES_OF_A_TAG if self._clustered else lanes
        self._tasks = tasks
        self._queues: dict[str, _Queue] = {}
        self._closed = False

    async def ask(self, *command: Any) -> Any:
        """What Redis answers. Raises ``PortUnavailable``."""
        return await self._put(command)

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """What Redis answers to each. Raises ``PortUnavailable`` when it does not answer one of them."""
        answers = await self.ask_each(commands)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    async def ask_each(self, commands: Sequence[Command]) -> list[Any]:
        """What Redis answers to each, or the ``PortUnavailable`` that came of it."""
        return list(await asyncio.gather(*map(self._put, commands), return_exceptions=True))

    async def ask_alone(self, *command: Any) -> Any:
        """The same on a connection of its own: for a command that waits. Raises ``PortUnavailable``."""
        try:
            answer = await self._alone(command)
        except Exception as error:  # noqa: BLE001 - whatever it is, as for those who ask together
            answer = error
        if isinstance(answer, BaseException):
            raise _translated(answer)
        return answer

    def close(self) -> None:
        """Answer whoever still waits. The lanes end with their tasks."""
        self._closed = True
        for queue in self._queues.values():
            _settle(queue.waiting, [PortUnavailable("the store is closed")] * len(queue.waiting))
            queue.waiting.clear()

    def _put(self, command: Command) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        queue = self._queue(_tag(command) if self._clustered else "")
        if self._closed or len(queue.waiting) >= _MOST_WAITING:
            answer.set_exception(PortUnavailable("the store is closed" if self._closed else "the store is behind"))
            return answer
        queue.waiting.append((command, answer))
        if queue.lanes:
            queue.lanes -= 1
            self._tasks.start(self._empty(queue), name="redis")
        return answer

    def _queue(self, tag: str) -> _Queue:
        queue = self._queues.get(tag)
        if queue is None:
            queue = self._queues[tag] = _Queue(tag, self._lanes_of_each)
        return queue

    async def _empty(self, queue: _Queue) -> None:
        try:
            while queue.waiting:
                batch: list[tuple[Command, asyncio.Future[Any]]] = []
                while queue.waiting and len(batch) < _TOGETHER:
                    asked = queue.waiting.popleft()
                    if not asked[1].done():  # else its asker has left
                        batch.append(asked)
                if batch:
                    await self._settled(batch)
        finally:
            queue.lanes += 1
            if not queue.waiting and queue.lanes == self._lanes_of_each:
                del self._queues[queue.tag]  # leases and inboxes have tags of their own, and there is no end of them

    async def _settled(self, batch: Sequence[tuple[Command, asyncio.Future[Any]]]) -> None:
        answers: list[Any] = [PortUnavailable("the store is closed")] * len(batch)
        try:
            answers = await self._send([command for command, _ in batch])
        except Exception as error:  # noqa: BLE001 - its askers get it, whatever it is; the lane lives on for the others
            answers = [error] * len(batch)
        finally:
            _settle(batch, answers)

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        answers = await self._travel([_words(command) for command in commands])
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
        if unknown:  # a server that was restarted, or took over
            told = await self._travel([_words(commands[place], whole=True) for place in unknown])
            for place, answer in zip(unknown, told, strict=True):
                answers[place] = answer
        return answers

    async def _travel(self, commands: Sequence[Command]) -> list[Any]:
        """One round trip; in place of an answer there may be the error that came."""
        self.round_trips += 1
        if len(commands) == 1:
            return [await self._alone(commands[0])]
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        if self._clustered:
            for place, answer in enumerate(answers):
                if isinstance(answer, _AGAIN):
                    answers[place] = await self._alone(commands[place])
        return answers

    async def _alone(self, command: Command) -> Any:
        try:
            return await self.client.execute_command(*command)
        except exceptions.RedisError as error:
            return error


def is_away(error: BaseException) -> bool:
    """Whether a Redis can be expected to answer later: it cannot be reached, or is on its way.

    A password that it does not take, a certificate, a name that means nothing and whatever else it answers stay wrong.
    """
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return any(isinstance(each, _AWAY) for each in chain) and not any(
        isinstance(each, _WRONG) or (isinstance(each, socket.gaierror) and each.errno != socket.EAI_AGAIN)
        for each in chain
    )


def _words(command: Command, *, whole: bool = False) -> Command:
    script = command[1] if len(command) > 1 else None
    if not isinstance(script, Script):
        return command
    return ("EVAL", script.text, *command[2:]) if whole else ("EVALSHA", script.digest, *command[2:])


def _tag(command: Command) -> str:
    """The hash tag of a command's first key, or the key itself."""
    key = str(command[_FIRST_KEY_OF_SCRIPTS if isinstance(command[1], Script) else 1])
    _, _, after = key.partition("{")
    return after.partition("}")[0] or key


def _settle(batch: Sequence[tuple[Command, asyncio.Future[Any]]], answers: Sequence[Any]) -> None:
    for (_, waiter), answer in zip(batch, answers, strict=True):
        if waiter.done():
            continue
        if isinstance(answer, BaseException):
            waiter.set_exception(_translated(answer))
        else:
            waiter.set_result(answer)


def _translated(error: BaseException) -> PortUnavailable:
    if isinstance(error, PortUnavailable):
        return error
    ours = PortUnavailable(f"redis: {str(error) or type(error).__name__}")
    ours.__cause__ = error
    return ours
