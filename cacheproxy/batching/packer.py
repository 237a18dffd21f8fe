"""Packing texts into batches by padded tokens. Pure.

A model computes a batch as a rectangle: every text is padded to the longest. Texts of like length therefore go
together, and what a batch costs is its number of texts times its longest length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def pack(
    lengths: Sequence[int],
    *,
    max_items: int = 64,
    max_padded_tokens: int = 16_384,
    launch_tokens: int = 16_384,
) -> list[list[int]]:
    """The positions of ``lengths`` (tokens per text) in batches, shortest texts first; each position exactly once.

    A batch holds at most ``max_items`` texts and ``max_padded_tokens`` tokens with padding; a text over that limit is
    a batch of its own. ``launch_tokens`` is what starting one more batch costs, expressed in tokens computed: a text
    that would pad the ones before it by more than that starts a new batch.
    """
    batches: list[list[int]] = []
    longest = 0
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[position]
        count = len(batches[-1]) if batches else 0
        fits = 0 < count < max_items and (count + 1) * length <= max_padded_tokens
        if fits and count * (length - longest) <= launch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
        longest = length
    return batches
