"""Everything out of a store, into a file or another store."""

import asyncio
import json
import time

import pytest
from support.redis_server import new_prefix
from support.stores import make_entry

from cacheproxy.cli import run
from cacheproxy.opening import open_kept
from cacheproxy.settings import Settings
from cacheproxy.transfer import export_entries


@pytest.fixture
def fill(tmp_path):
    """A store with two entries, one of which is an alias, in a directory of this test's own."""

    async def filling(folder):
        async with open_kept(Settings(data_dir=folder)) as kept:
            kept.secret()
            for name in "ab":
                await kept.store.put(make_entry(name, expires_at=time.time() + 3600))
            await kept.store.keep_roots({"id-b": "id-a"})

    folder = tmp_path / "data"
    asyncio.run(filling(folder))
    return folder


def ids(capsys, *flags):
    capsys.readouterr()
    assert run(["cache", "ls", "--json", *flags]) == 0
    return [described["id"] for described in json.loads(capsys.readouterr().out)]


def test_everything_moves_by_a_file(fill, tmp_path, capsys):
    file, other = str(tmp_path / "everything.jsonl"), str(tmp_path / "other")
    assert run(["cache", "export", file, "--data-dir", str(fill)]) == 0
    assert "exported 2 lines" in capsys.readouterr().err
    assert run(["cache", "import", file, "--data-dir", other]) == 0
    told = capsys.readouterr().out
    assert "imported 2 entries, left out 0 that had expired" in told
    assert "secret" in told
    assert ids(capsys, "--data-dir", other) == ["id-a", "id-b"]


def test_what_the_api_exports_can_be_imported_too(fill, tmp_path, capsys):
    async def export():
        async with open_kept(Settings(data_dir=fill)) as kept:
            return [line async for line in export_entries(kept.store)]

    (tmp_path / "entries.jsonl").write_bytes(b"".join(asyncio.run(export())))
    other = str(tmp_path / "other")
    assert run(["cache", "import", str(tmp_path / "entries.jsonl"), "--data-dir", other]) == 0
    assert "2 answer identical questions only until you run `cacheproxy cache re-embed`" in capsys.readouterr().out
    assert ids(capsys, "--data-dir", other) == ["id-a", "id-b"]


def test_everything_moves_into_a_redis_with_the_secret_and_back(fill, tmp_path, capsys, redis_server, monkeypatch):
    monkeypatch.setenv("CACHEPROXY_REDIS__PREFIX", new_prefix())
    monkeypatch.setenv("CACHEPROXY_REDIS__SHARDS", "1")
    back = tmp_path / "back"
    assert run(["cache", "move", "--data-dir", str(fill), "--to", redis_server.url]) == 0
    assert "copied 2 entries" in capsys.readouterr().out
    assert ids(capsys, "--data-dir", str(fill), "--store", redis_server.url) == ["id-a", "id-b"]
    there = f"sqlite:///{back / 'store.sqlite3'}"
    command = ["cache", "move", "--store", redis_server.url, "--to", there, "--to-data-dir", str(back), "--json"]
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 2
    assert (back / "secret").read_bytes() == (fill / "secret").read_bytes()


def test_entries_are_not_moved_to_where_another_secret_would_lose_them(fill, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret").write_bytes(b"x" * 32)
    store = f"sqlite:///{other / 'store.sqlite3'}"
    assert run(["cache", "move", "--data-dir", str(fill), "--to", store, "--to-data-dir", str(other)]) == 1
    assert "choose an empty directory" in capsys.readouterr().err


def test_a_file_that_is_no_export_is_named(fill, tmp_path, capsys):
    (tmp_path / "x.jsonl").write_text("{}\n")
    assert run(["cache", "import", str(tmp_path / "x.jsonl"), "--data-dir", str(fill)]) == 1
    assert "x.jsonl: line 1: this is no file" in capsys.readouterr().err
