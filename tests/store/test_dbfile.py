"""Permissions, and files that are damaged, somebody else's or shared."""

import sqlite3
import stat
import threading

import pytest

from cacheproxy.errors import ConfigError
from cacheproxy.store import dbfile


def opened(path, now=1000.0):
    writer, *readers = dbfile.open_connections(path, now=now)
    for reader in readers:
        reader.close()
    return writer


def remember(path, value):
    writer = opened(path)
    writer.execute("INSERT OR REPLACE INTO meta VALUES ('note', ?)", (value,))
    writer.close()


def remembered(path):
    writer = opened(path)
    rows = writer.execute("SELECT value FROM meta").fetchall()
    writer.close()
    return [value for (value,) in rows]


def overwrite(path, table):
    """Damage the page at which a table begins. The schema, which is read at every start, stays whole."""
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_can_read_what_is_created(tmp_path):
    path = tmp_path / "data" / "cache.db"
    writer = opened(path)
    assert mode(path.parent) == 0o700
    assert {file.name: mode(file) for file in path.parent.iterdir()} == dict.fromkeys(
        ["cache.db", "cache.db-wal", "cache.db-shm"], 0o600
    )
    writer.close()


def test_a_folder_that_was_there_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    opened(tmp_path / "cache.db").close()
    assert mode(tmp_path) == 0o755


def test_what_was_written_is_there_the_next_time(tmp_path):
    remember(tmp_path / "cache.db", "kept")
    assert remembered(tmp_path / "cache.db") == ["kept"]


def test_the_log_is_written_ahead_and_readers_cannot_write(tmp_path):
    writer, *readers = dbfile.open_connections(tmp_path / "cache.db", now=0.0)
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    for reader in readers:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM meta")
        reader.close()
    writer.close()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: b"this was never a database, but it is long enough" * 100, id="no database"),
        pytest.param(lambda text: text[:4096] + b"\xa5" * (len(text) - 4096), id="overwritten pages"),
        pytest.param(lambda text: text[:10_000], id="cut short"),
    ],
)
def test_a_damaged_file_is_moved_aside_and_the_next_start_works(tmp_path, caplog, damage):
    path = tmp_path / "cache.db"
    remember(path, "lost")
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    assert remembered(path) == []
    assert (tmp_path / "cache.db.corrupt-1000").read_bytes() == damaged
    assert "damaged" in caplog.text
    remember(path, "new")
    assert remembered(path) == ["new"]


def test_a_large_file_is_checked_only_when_it_is_suspect(tmp_path, monkeypatch):
    monkeypatch.setattr(dbfile, "_CHECKED_UP_TO_BYTES", 0)
    path = tmp_path / "cache.db"
    remember(path, "first")
    overwrite(path, "meta")
    opened(path).close()
    assert not list(tmp_path.glob("*.corrupt-*"))
    dbfile.suspect(path)
    opened(path).close()
    assert len(list(tmp_path.glob("*.corrupt-*"))) == 1
    assert not list(tmp_path.glob("*.suspect"))


def test_another_program_s_database_is_refused_and_not_moved(tmp_path):
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE theirs (x)")
    theirs.close()
    with pytest.raises(ConfigError, match="another program"):
        opened(path)
    assert [file.name for file in tmp_path.iterdir() if ".corrupt" in file.name] == []


def test_a_full_or_locked_file_is_not_taken_for_a_damaged_one():
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert not dbfile.is_corruption(full)
    assert not dbfile.is_corruption(sqlite3.ProgrammingError("closed"))


def test_several_may_open_a_new_file_at_once(tmp_path):
    path, failures = tmp_path / "data" / "cache.db", []

    def start():
        try:
            opened(path).close()
        except Exception as error:  # noqa: BLE001 - collected for the assertion
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_old_sqlite_is_refused_with_the_version_that_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(dbfile.sqlite3, "sqlite_version_info", (3, 31, 0))
    with pytest.raises(ConfigError, match=r"3\.37"):
        opened(tmp_path / "cache.db")
