"""The latest hits on similar questions, with the requests that they answered, for when somebody complains of one."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.recall import Recalled

KEPT_BYTES: Final = 16 * 1024 * 1024
_EACH_BYTES: Final = 8 * 1024
"""What a request takes besides its body, near enough."""


class Lately:
    """By entry, the last request that it answered; the oldest forgotten first."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._hits: OrderedDict[str, tuple[Asked, Recalled]] = OrderedDict()

    def served(self, asked: Asked, recalled: Recalled) -> None:
        """A request was answered with another one's answer."""
        assert recalled.entry is not None  # noqa: S101 - what is served was loaded
        if (before := self._hits.pop(recalled.entry.id, None)) is not None:
            self._bytes -= _size(before[0])
        self._hits[recalled.entry.id] = (asked, recalled)
        self._bytes += _size(asked)
        while self._bytes > self._limit_bytes:
            _, (gone, _) = self._hits.popitem(last=False)
            self._bytes -= _size(gone)

    def of(self, entry_id: str, tenant: str | None) -> tuple[Asked, Recalled] | None:
        """The last request of a tenant (None: of any) that an entry answered."""
        found = self._hits.get(entry_id)
        return found if found is not None and tenant in (None, found[0].tenant) else None


def _size(asked: Asked) -> int:
    return 2 * len(asked.sent) + len(asked.raw) + _EACH_BYTES
