"""Which exact keys are stored, in memory: a miss is known without I/O.

One thread changes it, any thread may ask ``key in directory`` (one dictionary look-up, atomic under the GIL).
About 200 bytes an entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Directory:
    """The ids of the entries under each key. A key with one entry, the usual case, holds its id and no container."""

    def __init__(self, entries: Iterable[tuple[bytes, str]] = ()) -> None:
        self._ids: dict[bytes, str | tuple[str, ...]] = {}
        for key, entry_id in entries:
            self.add(key, entry_id)

    def __contains__(self, key: bytes) -> bool:
        return key in self._ids

    def __iter__(self) -> Iterator[tuple[bytes, str]]:
        for key, held in self._ids.items():
            for entry_id in _each(held):
                yield key, entry_id

    def add(self, key: bytes, entry_id: str) -> None:
        """An entry came. Twice is the same as once."""
        held = self._ids.get(key)
        if held is None:
            self._ids[key] = entry_id
        elif entry_id not in (ids := _each(held)):
            self._ids[key] = (*ids, entry_id)

    def discard(self, key: bytes, entry_id: str) -> None:
        """An entry went; an unknown one is no error."""
        held = self._ids.get(key)
        if held is None:
            return
        match tuple(other for other in _each(held) if other != entry_id):
            case ():
                del self._ids[key]
            case (only,):
                self._ids[key] = only
            case several:
                self._ids[key] = several


def _each(held: str | tuple[str, ...]) -> tuple[str, ...]:
    return (held,) if isinstance(held, str) else held
