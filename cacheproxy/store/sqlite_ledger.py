"""The ledger in the embedded database: what requests and checks cost and what hits saved, as sums per hour and per day.

``served`` and ``audited`` only add in memory. ``flush`` adds the sums to the table in one transaction; when that fails
they are kept and go with the next flush, so nothing is lost and nothing is booked twice.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cacheproxy.errors import BadRequest
from cacheproxy.model import GROUPINGS, CheckKind, Tally
from cacheproxy.store.database import Failed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from cacheproxy.model import Audited, Served
    from cacheproxy.store.database import Database, Outcome

Bucket: TypeAlias = tuple[str | int, ...]
Sums: TypeAlias = list[float]

_HOUR_S: Final = 3600
_MAX_PENDING: Final = 10_000
"""Buckets between two flushes. Callers choose model names: past this many they are booked together."""
_MANY: Final = "(other)"
_LONGEST_NAME: Final = 200
_SANE: Final = 2.0**53
"""Amounts from here on are no amounts; one of them must not keep the others from being written."""

_GROUPED: Final = (
    "hour",
    "tenant",
    "model",
    "upstream",
    "dialect",
    "status",
    "layer",
    "reason",
    "estimated",
    "price_version",
)
_NO_REQUEST: Final = ("", "", "", "")
"""A check's dialect, status, layer and reason."""
_SUMMED: Final[Mapping[str, type[int | float]]] = {
    "requests": int,
    "cost_usd": float,
    "saved_usd": float,
    "input_tokens": int,
    "output_tokens": int,
    "cache_read_tokens": int,
    "cache_write_tokens": int,
    "saved_input_tokens": int,
    "saved_output_tokens": int,
    "saved_ms": float,
    "duration_ms": float,
    "unpriced": int,
    "audit_usd": float,
    "judge_usd": float,
    "upstream_ms": float,
}
"""What a bucket sums, in the order of ``Sums``."""
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
    "day": ("hour / 24", 24 * _HOUR_S, "%Y-%m-%d"),
    "hour": ("hour", _HOUR_S, "%Y-%m-%dT%H:00Z"),
}
"""The groups that are not a column as it is: what they are of the table, in how many seconds, and how they are told."""
_COLUMNS: Final = ", ".join((*_GROUPED[1:], *_SUMMED))
_UPSERT: Final = (
    f"INSERT INTO {{table}} ({{time}}, {_COLUMNS}) "  # noqa: S608 - names from the tables above
    f"VALUES ({', '.join('?' * (len(_GROUPED) + len(_SUMMED)))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in _SUMMED)}"
)
_HOURS_ALONE: Final = "ledger WHERE hour >= ? AND hour < ?"
_DAYS_AND_EDGES: Final = (
    f"(SELECT day * 24 AS hour, {_COLUMNS} FROM ledger_days WHERE day >= ? AND day < ? "  # noqa: S608 - as above
    f"UNION ALL SELECT hour, {_COLUMNS} FROM ledger WHERE hour >= ? AND hour < ? "
    f"UNION ALL SELECT hour, {_COLUMNS} FROM ledger WHERE hour >= ? AND hour < ?)"
)
_NEVER: Final = 1 << 40
"""An hour past all that are booked."""


class SqliteLedger:
    """A ``Ledger`` in an open database. Everything but ``flush``'s transaction happens on the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: dict[Bucket, Sums] = {}
        self._returned: deque[Mapping[Bucket, Sums]] = deque()
        """Sums whose transaction failed; the writer's thread puts them here."""

    def served(self, event: Served) -> None:
        """See ``Observer``. About two microseconds; no I/O."""
        used, saved = event.usage, event.saved_usage
        bucket = (
            int(event.at // _HOUR_S),
            event.tenant,
            event.model,
            event.upstream,
            event.dialect,
            event.status,
            event.layer or "",
            event.reason or "",
            used.estimated or saved.estimated,
            event.price_version,
        )
        sums = self._pending.get(bucket)
        if sums is None:
            sums = self._open(bucket)
        sums[0] += 1
        sums[1] += event.cost_usd
        sums[2] += event.saved_usd
        sums[3] += used.input_tokens
        sums[4] += used.output_tokens
        sums[5] += used.cache_read_tokens
        sums[6] += used.cache_write_tokens
        sums[7] += saved.input_tokens
        sums[8] += saved.output_tokens
        sums[9] += event.saved_ms
        sums[10] += event.duration_ms
        sums[11] += event.unpriced
        if event.layer is None:  # else nobody was paid, or another request's upstream took it
            sums[14] += event.duration_ms if event.upstream_ms is None else event.upstream_ms

    def audited(self, event: Audited) -> None:
        """See ``Observer``. Its amount goes into a column of its own, and it is no request."""
        bucket = (
            int(event.at // _HOUR_S),
            event.tenant,
            event.model,
            event.upstream,
            *_NO_REQUEST,
            event.usage.estimated,
            event.price_version,
        )
        sums = self._pending.get(bucket)
        if sums is None:
            sums = self._open(bucket)
        sums[11] += event.unpriced
        sums[12 if event.kind is CheckKind.AUDIT else 13] += event.cost_usd

    async def flush(self) -> None:
        """See ``Ledger``. Raises ``PortUnavailable``, and then keeps the sums for the next time."""
        while self._returned:
            self._merge(self._returned.popleft())
        if not self._pending:
            return
        flushed, self._pending = self._pending, {}

        def write(connection: sqlite3.Connection) -> None:
            rows = [_row(bucket, sums) for bucket, sums in flushed.items()]
            connection.executemany(_UPSERT.format(table="ledger", time="hour"), rows)
            of_days = [(row[0] // 24, *row[1:]) for row in rows]
            connection.executemany(_UPSERT.format(table="ledger_days", time="day"), of_days)

        def settled(outcome: Outcome) -> None:
            if isinstance(outcome, Failed):
                self._returned.append(flushed)

        await self._database.write(write, doing="write the ledger", settled=settled)

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

    def _open(self, bucket: Bucket) -> Sums:
        if len(self._pending) >= _MAX_PENDING:
            hour, tenant, _, *rest = bucket
            bucket = (hour, tenant, _MANY, *rest)
        return self._pending.setdefault(bucket, [0] * len(_SUMMED))

    def _merge(self, returned: Mapping[Bucket, Sums]) -> None:
        for bucket, sums in returned.items():
            pending = self._pending.setdefault(bucket, [0] * len(_SUMMED))
            for position, amount in enumerate(sums):
                pending[position] += amount


def _row(bucket: Bucket, sums: Sums) -> tuple[Any, ...]:
    """A bucket as the table takes it, whatever strange names and amounts it was booked with."""
    names = (
        part[:_LONGEST_NAME].encode("utf-8", "replace").decode() if isinstance(part, str) else part for part in bucket
    )
    # The comparison is false for what is not a number, too.
    amounts = (
        kind(amount if -_SANE < amount < _SANE else 0) for kind, amount in zip(_SUMMED.values(), sums, strict=True)
    )
    return (*names, *amounts)


def _source(by: Sequence[str], since: float, until: float | None) -> tuple[str, tuple[int, ...]]:
    """What to sum up, with its bounds: whole days from the sums by day, the hours before and after them one by one."""
    first = int(since // _HOUR_S)
    end = _NEVER if until is None else max(first, int(-(-until // _HOUR_S)))
    first_day, end_day = -(-first // 24), end // 24
    if "hour" in by or first_day >= end_day:
        return _HOURS_ALONE, (first, end)
    return _DAYS_AND_EDGES, (first_day, end_day, first, first_day * 24, end_day * 24, end)


def _told(name: str, value: Any) -> str:
    """A group's value; '' stands for none."""
    if name not in _DERIVED:
        return str(value)
    _, seconds, pattern = _DERIVED[name]
    return datetime.fromtimestamp(value * seconds, UTC).strftime(pattern)
