"""Names that callers make up, kept few: labels of metrics must not grow with what anybody sends."""

from __future__ import annotations

from typing import Final

MOST: Final = 100
OTHER: Final = "other"


class Few:
    """The first names stay themselves; further ones share the name ``other``."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """The name, or what it is called among too many."""
        if name in self._known:
            return name
        if len(self._known) < self._most:
            self._known.add(name)
            return name
        return OTHER
