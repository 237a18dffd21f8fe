"""What the index finds and the store does not have: entries whose write failed, or that went untold.

They go from the index, off the request's path. A store that cannot be asked has not said that it lacks anything, and an
entry on its way there is waited for.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from cacheproxy.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cacheproxy.flow.prompts import Prompts
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.ports import Store, VectorIndex
    from cacheproxy.tasks import TaskSet

log = logging.getLogger(__name__)


class Orphans:
    """Looks after index entries that were not found. ``written`` waits until the store has seen what was learnt.

    An index of all processes is left alone: others' entries may be in it before they are stored, and it lets go of what
    expired by itself.
    """

    def __init__(
        self,
        *,
        store: Store,
        index: VectorIndex,
        prompts: Prompts,
        loading: Shelter,
        written: Callable[[], Awaitable[None]],
        tasks: TaskSet,
    ) -> None:
        self._store = store
        self._index = index
        self._prompts = prompts
        self._loading = loading
        self._written = written
        self._tasks = tasks
        self._doubted: set[str] = set()

    def doubt(self, ids: Sequence[str], scope: bytes) -> None:
        """These entries of a scope are in the index, and a load did not bring them."""
        doubted = [entry_id for entry_id in ids if entry_id not in self._doubted]
        if doubted and not self._index.shared:
            self._doubted.update(doubted)
            self._tasks.start(self._look(doubted, scope), name="orphans")

    async def _look(self, ids: Sequence[str], scope: bytes) -> None:
        try:
            await self._written()
            # Not ``load``, which leaves out what just changed, and what a later release wrote.
            there = await self._loading.call("uses", partial(self._store.uses, ids))
            if there is None:
                return
            for entry_id in ids:
                if entry_id not in there:
                    await self._index.remove(entry_id, scope)
                    self._prompts.forget([entry_id])
        except ProxyError as error:
            log.debug("entries that are gone stay in the index for now: %s", error)
        finally:
            self._doubted.difference_update(ids)
