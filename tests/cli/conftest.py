"""A data directory with three entries, for the commands that look at and change what is stored."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest

from cacheproxy.cli import run
from cacheproxy.model import Entry, Usage
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite

if TYPE_CHECKING:
    from pathlib import Path

NOW = time.time()
AGES_S = {"e1": 10, "e2": 3 * 86_400, "e3": 10 * 86_400}


def entry(name: str) -> Entry:
    return Entry(
        id=name,
        key=name.encode().ljust(16, b"k"),
        scope=(b"\xab" if name == "e1" else b"\xcd") * 16,
        tenant="t2" if name == "e2" else "t",
        dialect="openai-chat",
        upstream="default",
        model="m2" if name == "e3" else "m",
        prompt="How do I [bold]reset[/bold] my card?\n" * 9,
        answer=b'{"choices": []}',
        usage=Usage(3, 4),
        cost_usd=0.25,
        latency_ms=12.5,
        created_at=NOW - AGES_S[name],
        expires_at=NOW + 86_400,
        semantic=name != "e3",
        namespace="docs" if name == "e2" else "",
        tags=("v7",) if name == "e2" else (),
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    async def fill() -> None:
        async with open_sqlite(Settings(data_dir=tmp_path).database, clock=time.time) as store:
            for name in AGES_S:
                await store.put(entry(name))

    asyncio.run(fill())
    return tmp_path


@pytest.fixture
def ids(data_dir, capsys):
    """``ids(*flags)``: what ``cache ls`` lists."""

    def listed(*flags: str, folder: Path = data_dir) -> list[str]:
        capsys.readouterr()
        assert run(["cache", "ls", "--json", "--data-dir", str(folder), *flags]) == 0
        return [described["id"] for described in json.loads(capsys.readouterr().out)]

    return listed
