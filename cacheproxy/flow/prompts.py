"""What is known of indexed prompts without asking the store: their text and their age, the latest ones in memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.model import Entry
    from cacheproxy.ports import Store

REMEMBERED: Final = 16_384
"""A few megabytes of short questions."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """An indexed entry, as far as deciding needs it."""

    text: str
    created_at: float
    expires_at: float


class Prompts:
    """Prompts by entry id: from memory, from entries in memory, or from the store."""

    def __init__(self, *, store: Store, loading: Shelter, l1: L1) -> None:
        self._store = store
        self._loading = loading
        self._l1 = l1
        self._known: OrderedDict[str, Prompt] = OrderedDict()

    async def of(self, ids: Sequence[str], loaded: dict[str, Entry] | None = None) -> Mapping[str, Prompt] | None:
        """The prompts of these entries, leaving out what is gone; None when the store did not answer.

        Entries that had to be loaded are added to ``loaded``.
        """
        found: dict[str, Prompt] = {}
        missing: list[str] = []
        for entry_id in ids:
            known = self._known.get(entry_id)
            if known is not None:
                self._known.move_to_end(entry_id)
                found[entry_id] = known
            elif (entry := self._l1.get(entry_id)) is not None:
                found[entry_id] = self.learn(entry)
            else:
                missing.append(entry_id)
        if missing:
            entries = await self._loading.call("load", partial(self._store.load, missing))
            if entries is None:
                return None
            found.update((entry.id, self.learn(entry)) for entry in entries)
            if loaded is not None:
                loaded.update((entry.id, entry) for entry in entries)
        return found

    def learn(self, entry: Entry) -> Prompt:
        """Remember an entry's prompt."""
        prompt = self._known[entry.id] = Prompt(entry.prompt, entry.created_at, entry.expires_at)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return prompt

    def forget(self, ids: Iterable[str]) -> None:
        """These entries are gone."""
        for entry_id in ids:
            self._known.pop(entry_id, None)

    def clear(self) -> None:
        """Forget all of them."""
        self._known.clear()
