"""The database file on disk: its connections, its permissions, and what becomes of a damaged one.

A file found corrupt is renamed to ``NAME.corrupt-SECONDS`` and a new one begun, so that the next start works and
nothing is destroyed. The damage is looked for when the file is small, and when an earlier run met it
(``NAME.suspect`` says so).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Final, NamedTuple

from cacheproxy.errors import ConfigError
from cacheproxy.store import schema

log = logging.getLogger(__name__)

_OLDEST_SQLITE: Final = (3, 37, 0)
"""The first with STRICT tables."""
_BUSY_TIMEOUT_S: Final = 5.0
_CHECKED_UP_TO_BYTES: Final = 32 << 20
"""Checking a file reads all of it; up to this size that takes a fraction of a second."""
_SIDES: Final = ("", "-wal", "-shm")
_CORRUPT_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE: Final = 0xFF


class Connections(NamedTuple):
    """One that writes, and two that read."""

    writer: sqlite3.Connection
    reader: sqlite3.Connection
    surveyor: sqlite3.Connection


def is_corruption(error: sqlite3.Error) -> bool:
    """Whether an error means that the file is damaged (and not merely full, locked or read-only)."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _CORRUPT_CODES


def size_on_disk(path: Path) -> int:
    """Bytes of the file and of its log together."""
    return sum(part.stat().st_size for part in map(Path, [f"{path}{side}" for side in _SIDES]) if part.is_file())


def suspect(path: Path) -> None:
    """Have the next start check the file."""
    log.error("the database %s is damaged; the next start will check it, and replace it if need be", path)
    _marker(path).touch(mode=0o600)


def open_connections(path: Path, *, now: float) -> Connections:
    """Connections to a sound, migrated file. Blocks.

    Raises ``ConfigError``, ``sqlite3.Error`` or ``OSError``.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigError(f"the store needs SQLite 3.37 or later, this Python has {sqlite3.sqlite_version}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        writer = _sound_connection(path)
    except sqlite3.DatabaseError as error:
        if not is_corruption(error):
            raise
        _move_aside(path, now=now)
        writer = _sound_connection(path)
    _marker(path).unlink(missing_ok=True)
    return Connections(writer, _reading(path), _reading(path))


def _reading(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _sound_connection(path: Path) -> sqlite3.Connection:
    # Created here and not by SQLite, which would follow the umask; its companions take over the file's mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = _connect(path)
    try:
        if _marker(path).exists() or path.stat().st_size <= _CHECKED_UP_TO_BYTES:
            _check(connection)
        _become_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        schema.prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    # Opened in one thread and used in another, never in two at once.
    return sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _become_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. Several processes may start at once, and SQLite does not wait for this lock."""
    give_up_at = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)
        else:
            return


def _check(connection: sqlite3.Connection) -> None:
    found = [text for (text,) in connection.execute("PRAGMA quick_check(1)")]
    if found != ["ok"]:
        damage = sqlite3.DatabaseError(f"database disk image is malformed: {found[0]}")
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage


def _move_aside(path: Path, *, now: float) -> None:
    aside = path.with_name(f"{path.name}.corrupt-{int(now)}")
    for side in _SIDES:
        companion = path.with_name(path.name + side)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + side))
    log.error("the database %s is damaged: moved to %s, starting with an empty one", path, aside)


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.suspect")
