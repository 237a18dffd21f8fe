"""The ledger in Redis: what requests and checks cost and what hits saved, as sums per hour and per day.

A day is two hashes on one slot, by hour and by day, with a field for each group. The hours go after some weeks and the
days after two years, so that a year of dashboards is a few hundred short reads. A process numbers its
batches and sends one after another, so that each is booked once however often it arrives.
"""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cacheproxy import jsontext
from cacheproxy.errors import BadRequest
from cacheproxy.events import GROUPINGS, Tally
from cacheproxy.store.books import GROUPED, HOUR_S, SUMMED, Books, row_from, row_of
from cacheproxy.store.redis_link import Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cacheproxy.events import Audited, Served
    from cacheproxy.store.redis_layout import Layout
    from cacheproxy.store.redis_link import Command, Link

HOURS_KEPT_S: Final = 40 * 86_400
DAYS_KEPT_S: Final = 800 * 86_400
_BOOKED_S: Final = 86_400
"""For so long it is known which batch of a process was booked last."""
_GROUPS_AT_ONCE: Final = 500
_HOURS: Final = 24
_NEVER: Final = 1 << 40
"""An hour past all that are booked."""

_BOOK: Final = Script(r"""
local writer, batch, remembered, day, hours_kept, days_kept = unpack(ARGV, 1, 6)
local done = KEYS[1]..':booked:'..writer
if tonumber(redis.call('GET', done) or 0) >= tonumber(batch) then return 0 end
redis.call('SET', done, batch, 'EX', remembered)
local function add(name, field, sums)
  local before = redis.call('HGET', name, field)
  if before then
    local old = {}
    for number in string.gmatch(before, '%S+') do old[#old + 1] = tonumber(number) end
    local new = {}
    for number in string.gmatch(sums, '%S+') do
      new[#new + 1] = string.format('%.17g', tonumber(number) + (old[#new + 1] or 0))
    end
    sums = table.concat(new, ' ')
  end
  redis.call('HSET', name, field, sums)
end
local by_day, by_hour = KEYS[1]..':day:'..day, KEYS[1]..':hours:'..day
for place = 7, #ARGV, 3 do
  add(by_hour, ARGV[place]..' '..ARGV[place + 1], ARGV[place + 2])
  add(by_day, ARGV[place + 1], ARGV[place + 2])
end
redis.call('EXPIRE', by_hour, hours_kept)
redis.call('EXPIRE', by_day, days_kept)
return 1
""")


class RedisLedger:
    """A ``Ledger`` in Redis. ``served`` and ``audited`` only add in memory."""

    def __init__(self, link: Link, layout: Layout) -> None:
        self._link = link
        self._layout = layout
        self._books = Books()
        self._unsettled: deque[Command] = deque()
        """Batches of which it is not known that they were booked. Sent again, a booked one does nothing."""
        self._days: set[int] = set()
        self._writer = secrets.token_hex(8)
        self._batches = 0

    def served(self, event: Served) -> None:
        """See ``Observer``. No I/O."""
        self._books.served(event)

    def audited(self, event: Audited) -> None:
        """See ``Observer``. Its amount goes into a column of its own, and it is no request."""
        self._books.audited(event)

    async def flush(self) -> None:
        """See ``Ledger``. Raises ``PortUnavailable``, and then keeps the sums for the next time."""
        await self._settle()
        self._unsettle([row_of(bucket, sums) for bucket, sums in self._books.take().items()])
        await self._settle()

    async def rows(self) -> Sequence[Mapping[str, Any]]:
        """See ``Ledger``."""
        return [
            {**groups, **dict(zip(SUMMED, sums, strict=True))}
            for groups, sums in await self._rows(0, _NEVER, hourly=True)
        ]

    async def book(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See ``Ledger``. Raises ``ValueError``, or ``PortUnavailable``: then what is left goes with the next flush."""
        self._unsettle([row_from(row) for row in rows])
        await self._settle()

    def _unsettle(self, rows: Sequence[tuple[Any, ...]]) -> None:
        of_days: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for row in rows:
            of_days[row[0] // _HOURS].append(row)
        for day, of_day in of_days.items():
            for start in range(0, len(of_day), _GROUPS_AT_ONCE):
                self._unsettled.append(self._booking(day, of_day[start : start + _GROUPS_AT_ONCE]))
        if new := of_days.keys() - self._days:
            self._unsettled.appendleft(("SADD", self._key(0, "days"), *new))
            self._days |= new

    async def tallies(self, by: Sequence[str], *, since: float = 0.0, until: float | None = None) -> Sequence[Tally]:
        """See ``Ledger``. Days and hours are UTC; '' stands for none.

        The hours that ``since`` and ``until`` fall in count whole. Of days whose hours are gone the whole day counts,
        as its first hour. Ordered by group; without groups, one tally of everything. Knows what was flushed. Raises
        ``BadRequest`` for an unknown group.
        """
        unknown = [name for name in by if name not in GROUPINGS]
        if unknown:
            raise BadRequest(f"cannot group by {', '.join(unknown)}: choose from {', '.join(GROUPINGS)}")
        first = int(since // HOUR_S)
        end = _NEVER if until is None else max(first, int(-(-until // HOUR_S)))
        summed: dict[tuple[str, ...], list[float]] = {}
        estimated: dict[tuple[str, ...], float] = defaultdict(float)
        for groups, sums in await self._rows(first, end, hourly="hour" in by):
            group = tuple(_told(name, groups) for name in by)
            into = summed.setdefault(group, [0.0] * len(SUMMED))
            for place, amount in enumerate(sums):
                into[place] += amount
            estimated[group] += sums[0] if groups["estimated"] else 0
        if not by and not summed:
            summed[()] = [0.0] * len(SUMMED)
        return [
            Tally(dict(zip(by, group, strict=True)), estimated=int(estimated[group]), **_tallied(summed[group]))
            for group in sorted(summed)
        ]

    async def _rows(self, first: int, end: int, *, hourly: bool) -> list[tuple[Mapping[str, Any], list[float]]]:
        """The sums from an hour up to another: by day where whole days are meant, by hour else."""
        days = sorted(
            day
            for day in map(int, await self._link.ask("SMEMBERS", self._key(0, "days")))
            if first // _HOURS <= day <= (end - 1) // _HOURS
        )
        whole = [not hourly and first <= day * _HOURS and (day + 1) * _HOURS <= end for day in days]
        commands: list[Command] = []
        for day, is_whole in zip(days, whole, strict=True):
            kinds = ("day",) if is_whole else ("hours", "day")
            commands += [("HGETALL", self._key(day, kind, str(day))) for kind in kinds]
        answers = iter(await self._link.ask_all(commands))
        rows: list[tuple[Mapping[str, Any], list[float]]] = []
        for day, is_whole in zip(days, whole, strict=True):
            hours = {} if is_whole else next(answers)
            sums = next(answers)
            if hours:
                rows += [row for row in _of_hours(day, hours) if first <= row[0]["hour"] < end]
            else:
                rows += _of_day(day, sums)
        return rows

    async def _settle(self) -> None:
        while self._unsettled:
            batch = self._unsettled[0]
            await self._link.ask(*batch)
            if self._unsettled and self._unsettled[0] is batch:  # else another flush was faster
                self._unsettled.popleft()

    def _booking(self, day: int, rows: Sequence[tuple[Any, ...]]) -> Command:
        words: list[Any] = []
        for hour, *rest in rows:
            groups, sums = rest[: len(GROUPED) - 1], rest[len(GROUPED) - 1 :]
            words += [hour % _HOURS, jsontext.dump(groups), " ".join(map(repr, sums))]
        kept = (HOURS_KEPT_S, DAYS_KEPT_S)
        self._batches += 1
        return _BOOK(self._tag(day), self._writer, self._batches, _BOOKED_S, day, *kept, *words)

    def _tag(self, day: int) -> str:
        return self._layout.tag(day % self._layout.shards)

    def _key(self, day: int, *parts: str) -> str:
        return ":".join((self._tag(day), *parts))


def _of_day(day: int, fields: Mapping[bytes, bytes]) -> Iterator[tuple[Mapping[str, Any], list[float]]]:
    for groups, sums in fields.items():
        yield _groups(day * _HOURS, groups), _amounts(sums)


def _of_hours(day: int, fields: Mapping[bytes, bytes]) -> Iterator[tuple[Mapping[str, Any], list[float]]]:
    for field, sums in fields.items():
        hour, _, groups = field.partition(b" ")
        yield _groups(day * _HOURS + int(hour), groups), _amounts(sums)


def _groups(hour: int, text: bytes) -> Mapping[str, Any]:
    return dict(zip(GROUPED, (hour, *jsontext.parse(text)), strict=True))


def _amounts(text: bytes) -> list[float]:
    """The sums; those that a later release added are left out, those that an earlier one did not have are zero."""
    amounts = [float(number) for number in text.split()][: len(SUMMED)]
    return amounts + [0.0] * (len(SUMMED) - len(amounts))


def _tallied(sums: Sequence[float]) -> dict[str, Any]:
    named = zip(SUMMED.items(), sums, strict=True)
    return {name: kind(amount) for (name, kind), amount in named if name in Tally.__dataclass_fields__}


def _told(name: str, groups: Mapping[str, Any]) -> str:
    """A group's value; '' stands for none."""
    match name:
        case "day" | "hour":
            pattern = "%Y-%m-%d" if name == "day" else "%Y-%m-%dT%H:00Z"
            return datetime.fromtimestamp(groups["hour"] * HOUR_S, UTC).strftime(pattern)
        case _:
            return str(groups[name])
