"""Group commit, the synchronous part: many pieces of work, one transaction, and what came of each.

Who shares a transaction shares nothing else: what fails leaves nothing behind and takes no neighbour with it, because
the others are then run again without it. Work that can be done for many at once (``Share``) is done so: the number of
statements hardly depends on how much there is to write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from cacheproxy.values import value

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Hashable, Sequence

T = TypeVar("T")
V = TypeVar("V")
Work: TypeAlias = "Callable[[sqlite3.Connection], T]"


@value(frozen=True, slots=True)
class Done(Generic[T]):
    """A piece of work succeeded, and what it wrote is committed."""

    value: T


@dataclass(frozen=True, slots=True)
class Failed:
    """A piece of work failed, and nothing that it wrote remains."""

    error: Exception


Outcome: TypeAlias = Done[Any] | Failed


@value(frozen=True, slots=True)
class Share(Generic[T, V]):
    """A piece of work that can be done for many at once: its part is ``item``.

    ``write`` is given the items of several shares that have it in common, and returns a value for each. Shares about
    the same thing are done in the order in which they came, and never in one call.
    """

    write: Callable[[sqlite3.Connection, Sequence[T]], Sequence[V]]
    item: T
    about: tuple[Hashable, ...]

    def __call__(self, connection: sqlite3.Connection) -> V:
        """Do it alone."""
        (value,) = self.write(connection, [self.item])
        return value


def attempt(work: Callable[[T], Any], argument: T) -> Outcome:
    """What came of a piece of work."""
    try:
        return Done(work(argument))
    except Exception as error:  # noqa: BLE001 - its waiter gets it, whatever it is; the thread lives on for the others
        return Failed(error)


def run_together(connection: sqlite3.Connection, works: Sequence[Work[Any]]) -> list[Outcome]:
    """Run all in one transaction; when it fails, one after another in transactions of their own."""
    begun = attempt(_begin, connection)
    if isinstance(begun, Failed):
        return [begun] * len(works)
    ran = attempt(lambda rows: _run_and_commit(rows, works), connection)
    if isinstance(ran, Done):
        return [Done(value) for value in ran.value]
    if connection.in_transaction:  # SQLite itself rolls back on some errors, a full disk among them
        connection.execute("ROLLBACK")
    if len(works) == 1:
        return [ran]
    return [outcome for work in works for outcome in run_together(connection, [work])]


def _begin(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")  # a run before this one was torn out of its transaction
    connection.execute("BEGIN IMMEDIATE")


def _run_and_commit(connection: sqlite3.Connection, works: Sequence[Work[Any]]) -> list[Any]:
    values: list[Any] = [None] * len(works)
    for places in merged(works):
        first = works[places[0]]
        if isinstance(first, Share):
            items = [share.item for place in places if isinstance(share := works[place], Share)]
            written = first.write(connection, items)
        else:
            written = [first(connection)]
        for place, wrote in zip(places, written, strict=True):
            values[place] = wrote
    connection.execute("COMMIT")
    return values


def merged(works: Sequence[Work[Any]]) -> list[list[int]]:
    """Runs of works, each by its place in ``works``: shares of one kind in one run, anything else alone.

    Run in this order they come to the same as in their own: a share overtakes only shares about other things.
    """
    runs: list[list[int]] = []
    kinds: dict[Any, int] = {}
    newest: dict[Hashable, int] = {}
    for place, work in enumerate(works):
        if not isinstance(work, Share):
            runs.append([place])
            kinds.clear()
            continue
        run = kinds.get(work.write, -1)
        if run < 0 or any(newest.get(subject, -1) >= run for subject in work.about):
            run = kinds[work.write] = len(runs)
            runs.append([])
        runs[run].append(place)
        newest.update(dict.fromkeys(work.about, run))
    return runs
