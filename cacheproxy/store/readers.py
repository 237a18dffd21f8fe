"""Who reads entries at the moment, and what was told to be gone or changed meanwhile.

Else an entry that was read just before it was purged would be put into memory just after, where nobody purges it again.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cacheproxy.model import Entry


class Reading:
    """One reading."""

    def __init__(self) -> None:
        self._gone: set[str | None] = set()

    def told(self, ids: Iterable[str | None]) -> None:
        """These are gone or changed; None where anything may be."""
        self._gone.update(ids)

    def usable(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """What was read, but for what was told since the reading began."""
        return [entry for entry in entries if not self._gone & {entry.id, None}] if self._gone else entries


class Readers:
    """All readings that are under way."""

    def __init__(self) -> None:
        self._readings: list[Reading] = []

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Read within the block, and use what is ``usable`` at its end."""
        reading = Reading()
        self._readings.append(reading)
        try:
            yield reading
        finally:
            self._readings.remove(reading)

    def told(self, ids: Iterable[str | None]) -> None:
        """Entries are told to be gone or changed; None where anything may be."""
        known = list(ids)
        for reading in self._readings:
            reading.told(known)
