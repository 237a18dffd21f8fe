from __future__ import annotations

import asyncio
import json
import time

import pytest

from cacheproxy.cli.app import run
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "cacheproxy.yaml"
    path.write_text(f"data_dir: {tmp_path / 'data'}\ndistill: {{consenting_tenants: ['*']}}\n")
    return str(path)


@pytest.fixture
def empty(tmp_path):
    async def make():
        async with open_sqlite(Settings(data_dir=tmp_path / "data").database, clock=time.time):
            pass

    asyncio.run(make())


def test_without_consent_nothing_is_exported(tmp_path, capsys):
    out = tmp_path / "lessons.jsonl"
    assert run(["distill", "export", str(out), "--data-dir", str(tmp_path)]) == 2
    assert "distill.consenting_tenants" in capsys.readouterr().err
    assert not out.exists()


def test_a_directory_without_a_store_is_an_error(config, tmp_path, capsys):
    out = tmp_path / "lessons.jsonl"
    assert run(["distill", "export", str(out), "--config", config]) == 1
    assert "there is no store at" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.usefixtures("empty")
def test_an_empty_cache_gives_no_lessons(config, tmp_path, capsys):
    out = tmp_path / "lessons.jsonl"
    assert run(["distill", "export", str(out), "--config", config, "--json", "--older-than", "1d"]) == 0
    assert json.loads(capsys.readouterr().out) == {"lessons": 0, "left_out": {}}
    assert out.read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["/no/lessons", "/no/model", "--out", "x"], 2, "does not exist"),
        (["{lessons}", "/no/model", "--out", "x", "--method", "magic"], 2, "--method: 'magic'"),
        (["{lessons}", "/no/model", "--out", "x", "--device", "cpu"], 1, "cannot be loaded"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, arguments, status, words, capsys):
    lessons = tmp_path / "lessons.jsonl"
    lessons.write_text("")
    given = [str(lessons) if one == "{lessons}" else one for one in arguments]
    assert run(["distill", "train", *given]) == status
    assert words in capsys.readouterr().err
