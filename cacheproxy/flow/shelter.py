"""Fail open, in one place: each call to a port gets a short deadline and a breaker, and a failure becomes a fallback.

A broken cache is a slow cache, never an outage.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from cacheproxy.core.breaker import Breaker, BreakerState
from cacheproxy.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

QUIET_S: Final = 30.0
"""Failures of one port are logged once in this time; each is counted."""
log = logging.getLogger(__name__)


class PortWatch(Protocol):
    """Is told how each call to a port went."""

    def took(self, port: str, operation: str, seconds: float) -> None:
        """A call worked."""

    def failed(self, port: str, operation: str) -> None:
        """A call failed, or took too long."""


class Shelter:
    """One port's shelter. Times are seconds; ``clock`` is monotonic. Of a port that is ``away`` nothing is asked."""

    def __init__(
        self, port: str, *, deadline_s: float, clock: Callable[[], float], watch: PortWatch, away: bool = False
    ) -> None:
        self.port = port
        self._deadline_s = deadline_s
        self._clock = clock
        self._watch = watch
        self._away = away
        self._breaker = Breaker()
        self._quiet_until = -math.inf

    @property
    def state(self) -> BreakerState:
        """Whether calls are being made at the moment."""
        return BreakerState.OPEN if self._away else self._breaker.state(self._clock())

    async def call(
        self,
        operation: str,
        work: Callable[[], Awaitable[T]],
        *,
        passing: tuple[type[ProxyError], ...] = (),
    ) -> T | None:
        """The result of ``work``, or None when it failed, took too long, or was not tried: the breaker is open.

        Errors of the types in ``passing`` are answers, not failures: they are raised.
        """
        started = self._clock()
        if self._away or not self._breaker.allows(started):
            return None
        try:
            async with asyncio.timeout(self._deadline_s):
                result = await work()
        except passing:
            self._breaker.succeeded()
            raise
        except (ProxyError, TimeoutError) as error:
            self._failed(operation, str(error) or f"no answer within {self._deadline_s * 1000:.0f} ms")
            return None
        except Exception:
            log.exception("%s.%s broke its contract", self.port, operation)
            self._failed(operation, "an unforeseen error")
            return None
        self._breaker.succeeded()
        self._watch.took(self.port, operation, self._clock() - started)
        return result

    def _failed(self, operation: str, why: str) -> None:
        now = self._clock()
        self._breaker.failed(now)
        self._watch.failed(self.port, operation)
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.warning("%s.%s failed, going on without it: %s", self.port, operation, why)
