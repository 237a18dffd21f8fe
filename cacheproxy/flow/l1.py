"""The hottest entries in memory, bounded in bytes, least recently used out first.

Other processes may purge what is here. So it is served only while the store's changes have been followed a short time
ago: a process that was cut off, or stopped, serves nothing from memory before it knows what it missed.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cacheproxy.model import Entry

TRUST_S: Final = 5.0
"""For so long entries are served from memory that nobody has vouched for: the longest that a purge takes everywhere."""


class L1:
    """Entries by exact key, and by id. Not thread-safe: it belongs to the event loop.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self, max_bytes: int, *, clock: Callable[[], float] = time.monotonic, trust_s: float = math.inf
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._trust_s = trust_s
        self._trusted_until = clock() + trust_s
        self._held = 0
        self._by_key: OrderedDict[bytes, tuple[Entry, ...]] = OrderedDict()
        self._by_id: dict[str, Entry] = {}

    @property
    def held_bytes(self) -> int:
        """How many bytes the entries hold."""
        return self._held

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, key: bytes) -> tuple[Entry, ...]:
        """The entries under a key, oldest first; empty when they are not here."""
        found = self._by_key.get(key)
        if found is None or not self._trusted():
            return ()
        self._by_key.move_to_end(key)
        return found

    def get(self, entry_id: str) -> Entry | None:
        """One entry."""
        entry = self._by_id.get(entry_id)
        if entry is None or not self._trusted():
            return None
        self._by_key.move_to_end(entry.key)
        return entry

    def vouch(self, asked: float) -> None:
        """What had changed in the store by then (on the clock) has been dropped here."""
        self._trusted_until = max(self._trusted_until, asked + self._trust_s)

    def clear(self) -> None:
        """Forget everything."""
        self._by_key.clear()
        self._by_id.clear()
        self._held = 0

    def keep(self, entries: Sequence[Entry]) -> None:
        """Hold these, which must be all the entries under their one key."""
        if not entries:
            return
        key = entries[0].key
        self.drop_key(key)
        size = sum([entry.size for entry in entries])
        if size > self._max_bytes:
            return
        self._by_key[key] = tuple(entries)
        for entry in entries:
            self._by_id[entry.id] = entry
        self._held += size
        while self._held > self._max_bytes:
            self.drop_key(next(iter(self._by_key)))

    def drop_key(self, key: bytes) -> None:
        """Forget what is under a key."""
        for entry in self._by_key.pop(key, ()):
            del self._by_id[entry.id]
            self._held -= entry.size

    def drop(self, entry_ids: Iterable[str]) -> None:
        """Forget entries, and what else is under their keys."""
        for entry_id in entry_ids:
            if (entry := self._by_id.get(entry_id)) is not None:
                self.drop_key(entry.key)

    def _trusted(self) -> bool:
        return self._clock() <= self._trusted_until
