"""Which batch of whom was written last: one whose write seemed to fail is written again, and counts once.

A write says so in its own transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

REMEMBERED_S: Final = 86_400.0
"""After the last one of a writer. Nobody tries for longer to write one batch."""


def is_new(connection: sqlite3.Connection, *, writer: str, about: str, number: int | None, at: float) -> bool:
    """Whether a batch is to be written: its number is higher than that of the writer's last one about the same.

    One without a number always is. ``at`` is when it is written, however old what is in it may be.
    """
    if number is None:
        return True
    counted = connection.execute(
        "INSERT INTO batches VALUES (?, ?, ?, ?) "
        "ON CONFLICT (writer, about) DO UPDATE SET number = excluded.number, at = excluded.at "
        "WHERE excluded.number > batches.number RETURNING number",
        (writer, about, number, at),
    )
    return bool(counted.fetchall())


def forget_batches(connection: sqlite3.Connection, now: float) -> None:
    """Forget writers that are gone."""
    connection.execute("DELETE FROM batches WHERE at < ?", (now - REMEMBERED_S,))
