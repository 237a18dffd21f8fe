"""Numbers that grow with each write of a kind, so that other processes know in one look whether there is anything new.

A write takes the next number and leaves it, and its writer's name, in the rows that it wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping


def stamp(connection: sqlite3.Connection, kind: str) -> int:
    """The number of the write that is being made, in its transaction."""
    (row,) = connection.execute(
        "UPDATE stamps SET stamp = stamp + 1 WHERE name = ? RETURNING stamp", (kind,)
    ).fetchall()
    return int(row[0])


def stamps(connection: sqlite3.Connection) -> Mapping[str, int]:
    """The latest number of each kind."""
    return dict(connection.execute("SELECT name, stamp FROM stamps").fetchall())
