"""Notices when scopes never come back: then something outside the question changes with each request, and nothing hits.

Typical causes are a timestamp or a request id in the system prompt, for which there is ``key.ignore_patterns``, and
conversations, whose every turn is a scope of its own and rightly so.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from typing import Final

log = logging.getLogger(__name__)

WINDOW: Final = 1000
"""How many of the latest misses are looked at."""
REMEMBERED: Final = 20_000
ALARMING: Final = 0.95
CALMING: Final = 0.5


class ScopeChurn:
    """The share of misses whose scope was never seen before."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._new: deque[bool] = deque(maxlen=WINDOW)
        self._new_count = 0
        self._warned = False

    @property
    def share(self) -> float:
        """Between 0 and 1, over the latest misses; 0 before there were any."""
        return self._new_count / len(self._new) if self._new else 0.0

    def missed(self, scope: bytes) -> None:
        """Note a request that was not answered by the exact layer."""
        is_new = scope not in self._seen
        self._seen[scope] = None
        self._seen.move_to_end(scope)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if len(self._new) == WINDOW:
            self._new_count -= self._new[0]
        self._new.append(is_new)
        self._new_count += is_new
        if len(self._new) == WINDOW:
            self._judge()

    def _judge(self) -> None:
        if self.share < CALMING:
            self._warned = False
        elif self.share > ALARMING and not self._warned:
            self._warned = True
            log.warning(
                "%.0f%% of the last %d misses came in a scope that was never seen before: does the system prompt hold "
                "a timestamp or an id? key.ignore_patterns can leave it out of the key",
                self.share * 100,
                WINDOW,
            )
