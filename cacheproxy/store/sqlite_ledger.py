"""The ledger in the embedded database: what requests and checks cost and what hits saved, as sums by hour and by day.

``served`` and ``audited`` only add in memory. ``flush`` adds the sums to the table in one transaction; when that fails
they are kept and go with the next flush, so nothing is lost and nothing is booked twice.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.errors import BadRequest
from cacheproxy.events import GROUPINGS, Tally
from cacheproxy.store.books import GROUPED, HOUR_S, SUMMED, Books, named, row_from, row_of
from cacheproxy.store.database import Failed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from cacheproxy.events import Audited, Served
    from cacheproxy.store.books import Bucket, Sums
    from cacheproxy.store.database import Database, Outcome

_DAY_S: Final = 24 * HOUR_S
_TALLIED: Final[Mapping[str, str]] = {
    "requests": "sum(requests)",
    "cost_usd": "sum(cost_usd)",
    "saved_usd": "sum(saved_usd)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "saved_input_tokens": "sum(saved_input_tokens)",
    "saved_output_tokens": "sum(saved_output_tokens)",
    "saved_ms": "sum(saved_ms)",
    "duration_ms": "sum(duration_ms)",
    "upstream_ms": "sum(upstream_ms)",
    "estimated": "sum(requests * estimated)",
    "unpriced": "sum(unpriced)",
    "audit_usd": "sum(audit_usd)",
    "judge_usd": "sum(judge_usd)",
}
"""``Tally``'s fields, and what they are of the table."""
_DERIVED: Final[Mapping[str, tuple[str, int, str]]] = {
    "day": ("hour / 24", _DAY_S, "%Y-%m-%d"),
    "hour": ("hour", HOUR_S, "%Y-%m-%dT%H:00Z"),
}
"""The groups that are not a column as it is: what they are of the table, in how many seconds, and how they are told."""
_HOURS_ALONE: Final = "ledger WHERE hour >= ? AND hour < ?"
_NEVER: Final = 1 << 40
"""An hour past all that are booked."""


class _Table:
    """A table of sums: what it is grouped by beside its time, and the statement that adds to it."""

    def __init__(self, name: str, time: str, grouped: Sequence[str]) -> None:
        self.grouped = frozenset(grouped)
        self.columns = columns = ", ".join((*grouped, *SUMMED))
        marks = ", ".join("?" * (1 + len(grouped) + len(SUMMED)))
        added = ", ".join(f"{column} = {column} + excluded.{column}" for column in SUMMED)
        self.upsert = f"INSERT INTO {name} ({time}, {columns}) VALUES ({marks}) ON CONFLICT DO UPDATE SET {added}"  # noqa: S608 - names of columns
        self.days_and_edges = (
            f"(SELECT day * 24 AS hour, {columns} FROM {name} WHERE day >= ? AND day < ? "  # noqa: S608 - likewise
            f"UNION ALL SELECT hour, {columns} FROM ledger WHERE hour >= ? AND hour < ? "
            f"UNION ALL SELECT hour, {columns} FROM ledger WHERE hour >= ? AND hour < ?)"
        )
        self._places = [GROUPED.index(column) for column in grouped]

    def row(self, row: Sequence[Any], seconds: int) -> tuple[Any, ...]:
        """A row of the table by hours as this one takes it, whose times are so many seconds long."""
        time = row[0] * HOUR_S // seconds
        return (time, *(row[place] for place in self._places), *row[len(GROUPED) :])


_HOURS: Final = _Table("ledger", "hour", GROUPED[1:])
_DAYS: Final = _Table("ledger_days", "day", GROUPED[1:])
_OUTLINES: Final = (
    _Table("ledger_outline", "day", ("model", "status", "layer", "estimated")),
    _Table("ledger_tenants", "day", ("tenant", "status", "layer", "estimated")),
)
_EVERYTHING: Final = (
    f"SELECT hour, {_HOURS.columns} FROM ledger "  # noqa: S608 - names of columns
    f"UNION ALL SELECT day * 24, {_HOURS.columns} FROM ledger_days WHERE day NOT IN (SELECT hour / 24 FROM ledger)"
)


class SqliteLedger:
    """A ``Ledger`` in an open database. Everything but ``flush``'s transaction happens on the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._books = Books()
        self._returned: deque[Mapping[Bucket, Sums]] = deque()
        """Sums whose transaction failed; the writer's thread puts them here."""

    def served(self, event: Served) -> None:
        """See ``Observer``. About two microseconds; no I/O."""
        self._books.served(event)

    def audited(self, event: Audited) -> None:
        """See ``Observer``. Its amount goes into a column of its own, and it is no request."""
        self._books.audited(event)

    async def flush(self) -> None:
        """See ``Ledger``. Raises ``PortUnavailable``, and then keeps the sums for the next time."""
        while self._returned:
            self._books.merge(self._returned.popleft())
        flushed = self._books.take()
        if not flushed:
            return

        def write(connection: sqlite3.Connection) -> None:
            _book(connection, [row_of(bucket, sums) for bucket, sums in flushed.items()])

        def settled(outcome: Outcome) -> None:
            if isinstance(outcome, Failed):
                self._returned.append(flushed)

        await self._database.write(write, doing="write the ledger", settled=settled)

    async def rows(self) -> Sequence[Mapping[str, Any]]:
        """See ``Ledger``."""

        def read(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return connection.execute(_EVERYTHING).fetchall()

        return [named(row) for row in await self._database.survey(read, doing="read the ledger")]

    async def book(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See ``Ledger``. All or none. Raises ``PortUnavailable`` or ``ValueError``."""
        read = [row_from(row) for row in rows]
        await self._database.write(lambda connection: _book(connection, read), doing="write the ledger")

    async def tallies(self, by: Sequence[str], *, since: float = 0.0, until: float | None = None) -> Sequence[Tally]:
        """See ``Ledger``. Days and hours are UTC; '' stands for none.

        The hours that ``since`` and ``until`` fall in count whole. Ordered by group; without groups, one tally of
        everything. Knows what was flushed. Raises ``BadRequest`` for an unknown group.
        """
        unknown = [name for name in by if name not in GROUPINGS]
        if unknown:
            raise BadRequest(f"cannot group by {', '.join(unknown)}: choose from {', '.join(GROUPINGS)}")
        source, bounds = _source(by, since, until)
        groups = [_DERIVED[name][0] if name in _DERIVED else name for name in by]
        sql = f"SELECT {', '.join([*groups, *_TALLIED.values()])} FROM {source}"  # noqa: S608 - from the tables above
        if by:
            columns = ", ".join(str(number) for number in range(1, len(by) + 1))
            sql += f" GROUP BY {columns} ORDER BY {columns}"

        def read(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return connection.execute(sql, bounds).fetchall()

        rows = await self._database.survey(read, doing="read the ledger")
        return [
            Tally(
                group={name: _told(name, value) for name, value in zip(by, row, strict=False)},
                **{name: value or 0 for name, value in zip(_TALLIED, row[len(by) :], strict=True)},
            )
            for row in rows
        ]


def _book(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    for table, seconds in ((_HOURS, HOUR_S), (_DAYS, _DAY_S), *((outline, _DAY_S) for outline in _OUTLINES)):
        connection.executemany(table.upsert, [table.row(row, seconds) for row in rows])


def _source(by: Sequence[str], since: float, until: float | None) -> tuple[str, tuple[int, ...]]:
    """What to sum up, with its bounds: whole days from the sums by day, the hours before and after them one by one."""
    first = int(since // HOUR_S)
    end = _NEVER if until is None else max(first, int(-(-until // HOUR_S)))
    first_day, end_day = -(-first // 24), end // 24
    if "hour" in by or first_day >= end_day:
        return _HOURS_ALONE, (first, end)
    table = next((outline for outline in _OUTLINES if outline.grouped.issuperset({*by} - {"day"})), _DAYS)
    return table.days_and_edges, (first_day, end_day, first, first_day * 24, end_day * 24, end)


def _told(name: str, value: Any) -> str:
    """A group's value; '' stands for none."""
    if name not in _DERIVED:
        return str(value)
    _, seconds, pattern = _DERIVED[name]
    return datetime.fromtimestamp(value * seconds, UTC).strftime(pattern)
