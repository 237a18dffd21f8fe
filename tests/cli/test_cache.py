from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import numpy as np
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
        tenant="t",
        dialect="openai-chat",
        upstream="default",
        model="m",
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


def ids(data_dir: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    capsys.readouterr()
    assert run(["cache", "ls", "--json", "--data-dir", str(data_dir), *flags]) == 0
    return [described["id"] for described in json.loads(capsys.readouterr().out)]


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
    ],
)
def test_a_list_can_be_narrowed(data_dir, capsys, flags, expected):
    assert ids(data_dir, capsys, *flags) == expected


def test_an_entry_is_shown_with_its_answer(data_dir, capsys):
    assert run(["cache", "show", "e1", "--json", "--data-dir", str(data_dir)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["answer"] == {"choices": []}
    assert shown["scope"] == "ab" * 16

    assert run(["cache", "show", "e1", "--data-dir", str(data_dir)]) == 0
    assert json.loads(capsys.readouterr().out) == shown


def test_an_entry_is_shown_with_its_root(data_dir, capsys):
    async def place() -> None:
        async with open_sqlite(Settings(data_dir=data_dir).database, clock=time.time) as store:
            await store.claim_embedding("m", 2)
            await store.set_vector("e1", np.array([1, 0], dtype=np.float32), "e2")

    assert run(["cache", "show", "e1", "--json", "--data-dir", str(data_dir)]) == 0
    assert json.loads(capsys.readouterr().out)["root"] is None
    asyncio.run(place())
    assert run(["cache", "show", "e1", "--json", "--data-dir", str(data_dir)]) == 0
    assert json.loads(capsys.readouterr().out)["root"] == "e2"


@pytest.mark.parametrize("command", ["show", "rm"])
def test_an_unknown_entry_is_an_error(data_dir, capsys, command):
    assert run(["cache", command, "e9", "--data-dir", str(data_dir)]) == 1
    assert "no entry e9; `cacheproxy cache ls` lists them" in capsys.readouterr().err


def test_an_entry_is_removed(data_dir, capsys):
    assert run(["cache", "rm", "e2", "--data-dir", str(data_dir)]) == 0
    assert ids(data_dir, capsys) == ["e1", "e3"]


def test_purging_removes_what_meets_every_condition(data_dir, capsys):
    assert run(["cache", "purge", "--older-than", "2d", "--tag", "v7", "--yes", "--data-dir", str(data_dir)]) == 0
    assert capsys.readouterr().out == "removed 1 entries\n"
    assert ids(data_dir, capsys) == ["e1", "e3"]


def test_purging_unasked_needs_a_yes(data_dir, capsys):
    assert run(["cache", "purge", "--data-dir", str(data_dir)]) == 2
    assert "3 entries would be removed: add --yes" in capsys.readouterr().err
    assert len(ids(data_dir, capsys)) == 3
