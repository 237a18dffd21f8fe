"""What stands in for a store that nobody has reached yet: it holds nothing, and each call fails as one to it would.

What requests cost meanwhile is summed, for the ledger that comes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

from cacheproxy.errors import PortUnavailable
from cacheproxy.store.books import Books, named, row_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from cacheproxy.events import Audited, Served, Tally
    from cacheproxy.model import IndexRow
    from cacheproxy.ports import Ledger

log = logging.getLogger(__name__)


class Away:
    """Any port that the store has: entries, labels, keys."""

    def may_hold(self, _: bytes) -> bool:
        """See ``Store``: nothing is here."""
        return False

    async def vectors(self) -> AsyncIterator[Sequence[IndexRow]]:
        """See ``Store``."""
        yield await _fail()

    def __getattr__(self, operation: str) -> Callable[..., Coroutine[Any, Any, NoReturn]]:
        if operation.startswith("_"):
            raise AttributeError(operation)
        return _fail


class AwaitedLedger:
    """A ``Ledger`` that keeps its sums in memory until ``adopt`` names another, which gets them and what comes then."""

    def __init__(self) -> None:
        self._books = Books()
        self._ledger: Ledger | None = None

    def served(self, event: Served) -> None:
        """See ``Observer``."""
        (self._ledger or self._books).served(event)

    def audited(self, event: Audited) -> None:
        """See ``Observer``."""
        (self._ledger or self._books).audited(event)

    async def flush(self) -> None:
        """See ``Ledger``."""

    async def tallies(self, by: Sequence[str], *, since: float = 0.0, until: float | None = None) -> Sequence[Tally]:
        """See ``Ledger``."""
        if self._ledger is None:
            await _fail()
        return await self._ledger.tallies(by, since=since, until=until)

    async def rows(self) -> Sequence[Mapping[str, Any]]:
        """See ``Ledger``."""
        if self._ledger is None:
            await _fail()
        return await self._ledger.rows()

    async def book(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See ``Ledger``."""
        if self._ledger is None:
            await _fail()
        await self._ledger.book(rows)

    async def adopt(self, ledger: Ledger) -> None:
        """From here on this ledger books. What it does not take of the sums at once it writes with its next flush."""
        self._ledger = ledger
        try:
            await ledger.book([named(row_of(bucket, sums)) for bucket, sums in self._books.take().items()])
        except PortUnavailable as error:
            log.warning("what requests cost meanwhile is booked later: %s", error)


async def _fail(*_: Any, **__: Any) -> NoReturn:
    raise PortUnavailable("the store has not been reached yet")
