"""Made-up questions of which is known which belong together, and their vectors without a model."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.lab.corpus import embed_all
from cacheproxy.lab.streams import Domain

if TYPE_CHECKING:
    from pathlib import Path

THINGS = ("card", "password", "invoice", "parcel", "ticket", "account", "lamp", "garden", "engine", "violin")
WORDINGS = (
    "How do I replace my {}?",
    "How can I replace the {}?",
    "I want to replace my {}",
    "replace my {} please",
    "My {} must be replaced, how?",
    "Please tell me how to replace a {}",
    "What is the way to replace my {}?",
    "Who helps me to replace the {}?",
)
FILLER = tuple(f"Tell me fact number {number} about whales" for number in range(12))


def made_up(things: tuple[str, ...] = THINGS, *, filler_share: float = 0.0) -> Domain:
    """A class for each thing, in eight wordings."""
    classes = {thing: [wording.format(thing) for wording in WORDINGS] for thing in things}
    return Domain(classes, FILLER if filler_share else (), filler_share)


def vectors_of(texts):
    """Hashed vectors, one a row."""
    return asyncio.run(embed_all(HashedEmbedder(), texts))


def write_lines(path: Path, rows) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
