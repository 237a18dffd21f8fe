from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest

from cacheproxy.cli import run
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_labels import SqliteLabels


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


def test_an_entry_is_removed(data_dir, capsys, ids):
    assert run(["cache", "rm", "e2", "--data-dir", str(data_dir)]) == 0
    assert ids() == ["e1", "e3"]


def test_a_pinned_entry_is_shown_so_until_it_is_to_expire(data_dir, capsys):
    assert run(["cache", "pin", "e1", "--data-dir", str(data_dir)]) == 0
    assert run(["cache", "ls", "--data-dir", str(data_dir)]) == 0
    assert " pinned " in capsys.readouterr().out
    assert run(["cache", "expire", "e1", "--in", "2h", "--data-dir", str(data_dir)]) == 0
    assert "e1 expires in 2h" in capsys.readouterr().out
    assert run(["cache", "ls", "--data-dir", str(data_dir)]) == 0
    assert " pinned " not in capsys.readouterr().out


def test_an_entry_may_be_ended_at_once(data_dir, capsys):
    assert run(["cache", "expire", "e1", "--data-dir", str(data_dir)]) == 0
    assert run(["cache", "ls", "--data-dir", str(data_dir)]) == 0
    assert " expired " in capsys.readouterr().out


def suspended(data_dir):
    async def read():
        async with open_sqlite(Settings(data_dir=data_dir).database, clock=time.time) as store:
            return await SqliteLabels(store.database).suspended()

    return asyncio.run(read())


def test_a_wrong_answer_is_withdrawn_and_a_right_one_served_again(data_dir):
    assert run(["cache", "mark", "e1", "wrong", "--note", "outdated", "--data-dir", str(data_dir)]) == 0
    assert suspended(data_dir) == {"e1": "outdated"}
    assert run(["cache", "mark", "e1", "right", "--data-dir", str(data_dir)]) == 0
    assert suspended(data_dir) == {}


def test_a_verdict_is_wrong_or_right(data_dir, capsys):
    assert run(["cache", "mark", "e1", "maybe", "--data-dir", str(data_dir)]) == 2
    assert "say wrong or right" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["pin", "e9"], ["expire", "e9"], ["mark", "e9", "wrong"]])
def test_what_is_not_there_cannot_be_changed(data_dir, capsys, arguments):
    assert run(["cache", *arguments, "--data-dir", str(data_dir)]) == 1
    assert "no entry e9" in capsys.readouterr().err
