"""The latest requests and checks, and counters since the start: an observer that live pages look at.

What it is told is put into a list and nothing more; the list is looked through when it is long, or when somebody asks.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from cacheproxy.model import CacheStatus, CheckVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cacheproxy.events import Audited, Served

KEPT: Final = 5_000
CHECKS_KEPT: Final = 1_000
_AT_ONCE: Final = 256


@dataclass(slots=True)
class Counters:
    """Sums since the start."""

    requests: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    """By layer."""
    bypassed: int = 0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    checks_usd: float = 0.0
    audits: int = 0
    wrong_audits: int = 0


class Recent:
    """Requests are numbered from 1."""

    def __init__(self) -> None:
        self._new: list[Served] = []
        self._requests: deque[Served] = deque(maxlen=KEPT)
        self._checks: deque[Audited] = deque(maxlen=CHECKS_KEPT)
        self._counters = Counters()

    def served(self, event: Served) -> None:
        """Take note of a finished request."""
        self._new.append(event)
        if len(self._new) >= _AT_ONCE:
            self._catch_up()

    def audited(self, event: Audited) -> None:
        """Take note of a check; only one that a judge spoke on is kept."""
        counters = self._counters
        counters.checks_usd += event.cost_usd
        if event.checked is None or event.verdict is None:
            return
        self._checks.append(event)
        if event.checked.hit:
            counters.audits += 1
            counters.wrong_audits += event.verdict is not CheckVerdict.RIGHT

    @property
    def counters(self) -> Counters:
        """As of now."""
        self._catch_up()
        return self._counters

    def __len__(self) -> int:
        """How many requests are remembered."""
        self._catch_up()
        return len(self._requests)

    def latest(self, limit: int, wanted: Callable[[Served], bool]) -> list[tuple[int, Served]]:
        """The latest wanted requests with their numbers, newest first."""
        return list(islice(((number, event) for number, event in self._newest() if wanted(event)), limit))

    def behind(self, number: int, limit: int) -> tuple[Sequence[tuple[int, Served]], int]:
        """Requests behind a number, oldest first: the newest ``limit`` of them, and how many are left out."""
        count = self.counters.requests - number
        newest = list(islice(self._newest(), min(count, limit)))
        return newest[::-1], count - len(newest)

    def durations_ms(self) -> tuple[list[float], list[float]]:
        """How long the latest hits and misses took, in no order."""
        self._catch_up()
        hits = [event.duration_ms for event in self._requests if event.status is CacheStatus.HIT]
        asked = (CacheStatus.MISS, CacheStatus.REFRESH)
        return hits, [event.duration_ms for event in self._requests if event.status in asked]

    def checks(self, limit: int) -> Sequence[Audited]:
        """The latest checks, newest first."""
        return list(islice(reversed(self._checks), limit))

    def _newest(self) -> Iterator[tuple[int, Served]]:
        self._catch_up()
        return zip(range(self._counters.requests, 0, -1), reversed(self._requests), strict=False)

    def _catch_up(self) -> None:
        events, self._new = self._new, []
        self._requests.extend(events)
        counters = self._counters
        counters.requests += len(events)
        for event in events:
            if event.layer is not None:
                counters.hits[event.layer.value] += 1
            elif event.status is CacheStatus.BYPASS:
                counters.bypassed += 1
            counters.cost_usd += event.cost_usd
            counters.saved_usd += event.saved_usd
