"""Which entries lead to another entry's answer: the roots that an index keeps beside its vectors.

Only aliases are kept: an entry that is its own root costs nothing here.
"""

from __future__ import annotations


class _Group:
    """A root that has aliases. One object for all of them."""

    __slots__ = ("aliases", "root")

    def __init__(self, root: str) -> None:
        self.root = root
        self.aliases = 0


class Roots:
    """The roots of indexed entries. A scope's entries are counted apart from another's, even under one root."""

    def __init__(self) -> None:
        self._group_of: dict[str, _Group] = {}
        self._groups: dict[tuple[bytes, str], _Group] = {}

    def put(self, scope: bytes, entry_id: str, root: str) -> None:
        """The entry has this root from now on. It is in the scope that it was in before, if it was in any."""
        self.drop(scope, entry_id)
        if root != entry_id:
            group = self._groups.get((scope, root))
            if group is None:
                group = self._groups[scope, root] = _Group(root)
            group.aliases += 1
            self._group_of[entry_id] = group

    def drop(self, scope: bytes, entry_id: str) -> None:
        """Forget an entry; one that is no alias is no error."""
        group = self._group_of.pop(entry_id, None)
        if group is not None:
            group.aliases -= 1
            if not group.aliases:
                del self._groups[scope, group.root]

    def of(self, entry_id: str) -> str:
        """The entry's root: itself unless it is an alias."""
        group = self._group_of.get(entry_id)
        return entry_id if group is None else group.root

    def aliases(self, scope: bytes, root: str) -> int:
        """How many aliases this root has in a scope."""
        group = self._groups.get((scope, root))
        return 0 if group is None else group.aliases
