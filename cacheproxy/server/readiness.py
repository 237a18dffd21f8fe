"""What ``/readyz`` answers: whether to send traffic here, and in what state the cache is.

A process that is about to end is not ready. One that lacks a part of its cache is: it answers from the rest and
forwards. One that refuses calls for now (``limits.upstream_calls``) is, too: it still answers what it has, and a load
balancer that took it out would push its load onto the others, until none is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Readiness:
    """Ready until ``leave``. ``state`` tells more about the process."""

    def __init__(self, state: Callable[[], Mapping[str, object]]) -> None:
        self._state = state
        self._leaving = False

    def leave(self) -> None:
        """From now on traffic should go elsewhere."""
        self._leaving = True

    def __call__(self) -> tuple[bool, Mapping[str, object]]:
        """Whether to send traffic, and the state."""
        if self._leaving:
            return False, {"why": "shutting down"}
        return True, self._state()
