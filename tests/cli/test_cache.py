from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from cacheproxy import opening
from cacheproxy.cli import run
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite


def test_entries_are_listed_for_people(data_dir, capsys):
    assert run(["cache", "ls", "--data-dir", str(data_dir)]) == 0
    told = capsys.readouterr().out
    assert "How do I [bold]reset[/bold] my card?" in told
    assert "3 shown, 3 stored" in told


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param([], ["e1", "e2", "e3"], id="all"),
        pytest.param(["--limit", "2"], ["e1", "e2"], id="limit"),
        pytest.param(["--scope", "AB"], ["e1"], id="scope"),
        pytest.param(["--tag", "v7"], ["e2"], id="tag"),
        pytest.param(["--namespace", "docs"], ["e2"], id="namespace"),
        pytest.param(["--older-than", "7d"], ["e3"], id="age"),
        pytest.param(["--text", "RESET"], ["e1", "e2", "e3"], id="text"),
        pytest.param(["--text", "refund"], [], id="other text"),
        pytest.param(["--model", "m2"], ["e3"], id="model"),
        pytest.param(["--tenant", "t2"], ["e2"], id="tenant"),
    ],
)
def test_a_list_can_be_narrowed(data_dir, capsys, flags, expected, ids):
    assert ids(*flags) == expected


def test_purging_removes_what_meets_every_condition(data_dir, capsys, ids):
    assert run(["cache", "purge", "--older-than", "2d", "--tag", "v7", "--yes", "--data-dir", str(data_dir)]) == 0
    assert capsys.readouterr().out == "removed 1 entries\n"
    assert ids() == ["e1", "e3"]


def test_a_dry_run_tells_what_would_go_and_removes_nothing(data_dir, capsys, ids):
    assert run(["cache", "purge", "--model", "m2", "--dry-run", "--data-dir", str(data_dir)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("e3  How do I [bold]reset[/bold] my card?")
    assert told.endswith("1 entries would be removed\n")
    assert run(["cache", "purge", "--dry-run", "--json", "--data-dir", str(data_dir)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["selected"], [entry["id"] for entry in told["sample"]]) == (3, ["e1", "e2", "e3"])
    assert len(ids()) == 3


def test_entries_are_found_by_meaning(data_dir, monkeypatch, ids):
    async def place() -> None:
        async with open_sqlite(Settings(data_dir=data_dir).database, clock=time.time) as store:
            await store.claim_embedding("test-model", 2)
            for name, vector in (("e1", [1, 0]), ("e2", [0.6, 0.8]), ("e3", [0, 1])):
                await store.set_vector(name, np.array(vector, dtype=np.float32), name)

    @asynccontextmanager
    async def open_embedder(_settings):
        yield SimpleNamespace(model="test-model", dimension=2, embed=embed)

    async def embed(_text):
        return np.array([0.0, 1.0], dtype=np.float32)

    asyncio.run(place())
    monkeypatch.setattr(opening, "open_embedder", open_embedder)
    found = ids("--meaning", "anything", "--limit", "2")
    narrowed = ids("--meaning", "anything", "--tag", "v7")
    assert (found, narrowed) == (["e3", "e2"], ["e2"])


def test_purging_unasked_needs_a_yes(data_dir, capsys, ids):
    assert run(["cache", "purge", "--data-dir", str(data_dir)]) == 2
    assert "3 entries would be removed: add --yes" in capsys.readouterr().err
    assert len(ids()) == 3
