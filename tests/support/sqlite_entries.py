"""Entries for the embedded store."""

from dataclasses import replace

from cacheproxy.model import Entry, Usage
from cacheproxy.store.sqlite import EmbeddingName

NOW = 1_800_000_000.0
EMBEDDING = EmbeddingName("test-model", 4)


def make_entry(name, **changes):
    entry = Entry(
        id=f"id-{name}",
        key=f"key {name}".encode(),
        scope=b"scope",
        tenant="tenant",
        dialect="openai-chat",
        upstream="openai",
        model="m",
        prompt="Hello?",
        answer=b'{"answer": 42}',
        usage=Usage(1, 2),
        cost_usd=0.25,
        latency_ms=800.0,
        created_at=NOW,
        expires_at=NOW + 3600,
        semantic=True,
    )
    return replace(entry, **changes)
