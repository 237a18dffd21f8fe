"""The health page: breakers, queues, store, index, device, versions. And the settings in force."""

from __future__ import annotations

import platform
import resource
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from cacheproxy import __version__
from cacheproxy.server.api.live_shapes import DeviceTold, Health, IndexTold, QueueTold, SettingsTold, StoreTold

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.ports import Embedder
    from cacheproxy.server.api.calls import Call, Handler

LIBRARIES: Final = (
    "aiohttp",
    "numpy",
    "faiss-cpu",
    "torch",
    "sentence-transformers",
    "redis",
    "uvloop",
    "genai-prices",
)
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while the process runs."""

    started: float
    mode: str
    policy: str
    store: str
    """The database, for people."""
    max_entries: int
    max_bytes: int
    max_calls: int
    """To upstreams, at a time."""
    max_embeddings: int
    """That may wait."""
    max_listeners: int
    """Of events."""
    settings: Mapping[str, Any]
    """By dotted name, secrets masked."""


@runtime_checkable
class Queued(Protocol):
    """Something that others wait for."""

    @property
    def waiting(self) -> int:
        """How many."""


@runtime_checkable
class Placed(Protocol):
    """A model that is somewhere."""

    @property
    def device(self) -> str:
        """Where it runs."""


@runtime_checkable
class OnDevice(Protocol):
    """A model that knows its GPU."""

    def gpu(self) -> tuple[str, int, int] | None:
        """The GPU's name, its used and its whole memory in bytes; None on a CPU."""


class HealthPage:
    """``now`` tells the time; the other callables tell the state of a part."""

    def __init__(
        self,
        facts: Facts,
        *,
        ready: Callable[[], tuple[bool, Mapping[str, object]]],
        shelters: Sequence[Shelter],
        embedder: Embedder | None,
        no_model: str,
        index: object,
        l1: L1,
        entries: Callable[[], Awaitable[int]],
        calls: Callable[[], int],
        listeners: Callable[[], int],
        churn: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._facts = facts
        self._ready = ready
        self._shelters = shelters
        self._embedder = embedder
        self._no_model = no_model
        self._index = index
        self._l1 = l1
        self._entries = entries
        self._calls = calls
        self._listeners = listeners
        self._churn = churn
        self._now = now

    def handlers(self) -> Mapping[str, Handler]:
        """By operation."""
        return {"health": self.health, "settings": self.settings}

    async def health(self, _: Call) -> Health:
        """The whole page."""
        facts, now = self._facts, self._now()
        ready, _state = self._ready()
        return Health(
            ready=ready,
            version=__version__,
            started_at=facts.started,
            uptime_s=now - facts.started,
            mode=facts.mode,
            policy=facts.policy,
            breakers={shelter.port: _state_of(shelter) for shelter in self._shelters},
            queues=self._queues(),
            store=StoreTold(
                where=facts.store,
                entries=await self._entries(),
                max_entries=facts.max_entries,
                max_bytes=facts.max_bytes,
                memory_bytes=self._l1.held_bytes,
                memory_entries=len(self._l1),
            ),
            index=self._told_index(),
            device=self._device(),
            scope_churn=self._churn(),
            memory_bytes=_resident_bytes(),
            versions=versions(),
        )

    async def settings(self, _: Call) -> SettingsTold:
        """What is in force."""
        return SettingsTold(settings=dict(self._facts.settings))

    def _queues(self) -> dict[str, QueueTold]:
        facts = self._facts
        queues = {
            "upstream": QueueTold(waiting=self._calls(), limit=facts.max_calls),
            "events": QueueTold(waiting=self._listeners(), limit=facts.max_listeners),
        }
        if isinstance(self._embedder, Queued):
            queues["embedder"] = QueueTold(waiting=self._embedder.waiting, limit=facts.max_embeddings)
        return queues

    def _told_index(self) -> IndexTold:
        embedder = self._embedder
        return IndexTold(
            vectors=len(self._index) if hasattr(self._index, "__len__") else None,
            scopes=getattr(self._index, "scopes", None),
            model=None if embedder is None else embedder.model,
            dimension=None if embedder is None else embedder.dimension,
            why_none=self._no_model,
        )

    def _device(self) -> DeviceTold:
        embedder = self._embedder
        gpu = embedder.gpu() if isinstance(embedder, OnDevice) else None
        name, used, total = gpu or (None, None, None)
        return DeviceTold(
            name=embedder.device if isinstance(embedder, Placed) else "",
            gpu=name,
            memory_used_bytes=used,
            memory_total_bytes=total,
        )


def versions() -> dict[str, str]:
    """Of Python and of the libraries that are installed here."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _state_of(shelter: Shelter) -> Any:
    return shelter.state.name.lower()


def _resident_bytes() -> int:
    """The most that this process ever had in memory: what the system tells without reading files."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIB
