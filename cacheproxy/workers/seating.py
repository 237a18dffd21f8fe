"""Who accepts from which socket, and how long to wait before a process is started again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 30.0
STEADY_S: Final = 60.0
"""A process that has run for so long has recovered: its next failure counts as the first one."""


def seated(slots: int, homes: int, present: Collection[int]) -> Mapping[int, Sequence[int]]:
    """The slots of each present worker, so that every one is somebody's while anybody is there.

    A slot belongs to the worker of its place, modulo ``homes``; while that one is away to one of the others.
    """
    there = sorted(present)
    taken: dict[int, list[int]] = {worker: [] for worker in there}
    for slot in range(slots):
        if there:
            home = slot % homes
            taken[home if home in taken else there[slot % len(there)]].append(slot)
    return taken


def pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row, from 0."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures, 20))
